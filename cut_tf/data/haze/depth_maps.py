"""Depth maps of photographs: a file per photograph, in a folder of their own, of the same name except the suffix.

Of the form `metric`, they are distances:

  * STEM.png: 16-bit grey; a level stands for `scale` metres, 0.001 (millimetres) if nothing else is said.
  * STEM.npy: floating-point metres [H, W] as numpy.save writes them; infinity is the sky.

Values are not changed. Many depth cameras write 0 where they measured nothing. Such pixels count as distance 0 and get
no haze, unless they are filled in before.

Of the form `inverse`, they are relative inverse depths, as networks give them for single pictures: 8- or 16-bit grey
STEM.png, or STEM.npy of finite floating-point numbers. Unit and offset are unknown, so that distances are too. As RIDCP
(Wu et al., CVPR 2023) does, the value v counts as the distance `INVERSE_FAR_M` (1 - (v - min) / (max - min)): 0 at the
nearest pixel, which gets no haze, `INVERSE_FAR_M` at the farthest.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from cut_tf.common.errors import InputError
from cut_tf.data.haze.scattering import PSEUDO_DEPTH_FAR_M
from cut_tf.data.image_files import open_header

DEPTH_SUFFIXES = (".png", ".npy")
DEFAULT_SCALE_M = 0.001
INVERSE_FAR_M = PSEUDO_DEPTH_FAR_M
_PNG_RULES = {"metric": "must be a complete 16-bit grey PNG", "inverse": "must be a complete 8- or 16-bit grey PNG"}
_NPY_RULES = {"metric": "must be a complete .npy file of floating-point metres [H, W]",
              "inverse": "must be a complete .npy file of floating-point numbers [H, W]"}
# Pillow's names of 16-bit grey, in all versions and byte orders; 8-bit grey is "L".
_DEEP_GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def find_depth_maps(folder: Path, stems: Iterable[str], form: str = "metric") -> dict[str, Path]:
    """The depth map of each photograph, with its header checked; pixels are not read.

    Args:
      folder: where the depth maps are; subfolders are not searched.
      stems: names of the photographs without suffix.
      form: `metric` or `inverse`.

    Returns:
      Path of the depth map by stem.

    Raises:
      InputError: naming every photograph without a depth map, those with two, or a file that is no depth map.
    """
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError as error:
        raise InputError(f"--depth must be a folder with depth maps, found {folder}: {error.strerror or error}") \
            from error
    found = {stem: [folder / f"{stem}{suffix}" for suffix in DEPTH_SUFFIXES if f"{stem}{suffix}" in names]
             for stem in stems}
    missing = [stem for stem, paths in found.items() if not paths]
    if missing:
        raise InputError(f"--depth={folder} must have a depth map ({', '.join(DEPTH_SUFFIXES)}) for each photograph, "
                         f"found none for {len(missing)} of {len(found)}: {', '.join(missing)}")
    twice = [" and ".join(path.name for path in paths) for paths in found.values() if len(paths) > 1]
    if twice:
        raise InputError(f"--depth={folder} must have one depth map for each photograph, found {', '.join(twice)}")
    for paths in found.values():
        _check_header(paths[0], form)
    return {stem: paths[0] for stem, paths in found.items()}


def depth_map_of(folder: Path, stem: str) -> Path:
    """The depth map of one photograph, by its name without suffix. Raises InputError if there is none."""
    paths = [folder / f"{stem}{suffix}" for suffix in DEPTH_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise InputError(f"--depth={folder} must have a depth map ({', '.join(DEPTH_SUFFIXES)}) for {stem}, found none")
    return found


def read_depth(path: Path, scale: float = DEFAULT_SCALE_M, form: str = "metric") -> np.ndarray:
    """Reads a depth map.

    Args:
      path: a .png or .npy file.
      scale: metres per level of a PNG of the form metric.
      form: `metric` or `inverse`.

    Returns:
      float32 [H, W], metres, >= 0; infinity stays.

    Raises:
      InputError: naming the file, if it is missing, damaged, of another type or shape, has NaN or negative distances,
        or is inverse with infinite values or one value alone.
    """
    values = _read_npy(path, form) if path.suffix == ".npy" else _read_png(path, form)
    if form == "inverse":
        return _distances(path, values.astype(np.float64))
    depth_m = values if path.suffix == ".npy" else values * scale
    # NaN fails the comparison too.
    if not (depth_m >= 0).all():
        raise InputError(f"{path}: depths must be zero or more, found minimum {depth_m.min()}")
    return depth_m.astype(np.float32)


def _distances(path: Path, inverse: np.ndarray) -> np.ndarray:
    least, greatest = inverse.min(), inverse.max()
    if not (np.isfinite(inverse).all() and least < greatest):
        raise InputError(f"{path}: inverse depths must be finite and differ, found {least} to {greatest}")
    return (INVERSE_FAR_M * ((greatest - inverse) / (greatest - least))).astype(np.float32)


def resize_nearest(depth_m: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W] to [height, width] by nearest neighbour: each pixel is the one of `depth_m` that covers its centre.

    A mean across the edge of an object would be a depth at which there is nothing.
    """
    rows = ((np.arange(height) + 0.5) * (depth_m.shape[0] / height)).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * (depth_m.shape[1] / width)).astype(np.int64)
    return depth_m[rows[:, None], columns[None, :]]


def _check_header(path: Path, form: str) -> None:
    try:
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                _npy_start(path, file, form)
        else:
            with open(path, "rb") as file:
                _png_start(path, file, form)
    except InputError:
        raise
    except Exception as error:  # on damaged files Pillow and numpy raise far more types than they document
        raise _unreadable(path, form, error) from error


def _read_png(path: Path, form: str) -> np.ndarray:
    """Levels as float64 [H, W]."""
    try:
        with open(path, "rb") as file:
            return np.asarray(_png_start(path, file, form)).astype(np.float64)
    except InputError:
        raise
    except Exception as error:  # see _check_header
        raise _unreadable(path, form, error) from error


def _read_npy(path: Path, form: str) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            _npy_start(path, file, form)
            return np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # see _check_header
        raise _unreadable(path, form, error) from error


def _png_start(path: Path, file: BinaryIO, form: str) -> ImageFile.ImageFile:
    """The depth map with its header checked, not yet decoded; photographs have the same limit of pixels."""
    image = open_header(file, str(path), _PNG_RULES[form])
    modes = (*_DEEP_GREY_MODES, "L") if form == "inverse" else _DEEP_GREY_MODES
    if image.format != "PNG" or image.mode not in modes:
        kind = "" if image.format == "PNG" else f"a {image.format} of "
        raise InputError(f"{path}: {_PNG_RULES[form]}, found {kind}mode {image.mode}")
    return image


def _npy_start(path: Path, file: BinaryIO, form: str) -> None:
    """Checks type, shape and length of a .npy file, and goes back to its start: no header can ask for more memory
    than the file has bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise InputError(f"{path}: {_NPY_RULES[form]}, found format version {version[0]}.{version[1]}")
    shape, _, dtype = _NPY_HEADERS[version](file)
    if dtype.kind != "f" or len(shape) != 2 or 0 in shape:
        raise InputError(f"{path}: {_NPY_RULES[form]}, found {dtype} {list(shape)}")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise InputError(f"{path}: {_NPY_RULES[form]}, found {size} bytes instead of {expected}")
    file.seek(0)


def _unreadable(path: Path, form: str, error: Exception) -> InputError:
    rule = (_NPY_RULES if path.suffix == ".npy" else _PNG_RULES)[form]
    return InputError(f"{path}: {rule}, found {type(error).__name__}: {error}")
