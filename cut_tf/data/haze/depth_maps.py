"""Depth maps that belong to photographs: one file per photograph, in a folder of their own, with its name but suffix.

  * STEM.png: 16-bit grey; a level stands for `scale` metres, 0.001 (millimetres) if nothing else is said.
  * STEM.npy: floating-point metres [H, W] as numpy.save writes them; infinity is the sky.

Values are taken as they are. Many depth cameras write 0 where they measured nothing: such pixels count as distance 0,
and get no haze, unless they are filled in before.
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
from cut_tf.data.image_files import open_header

DEPTH_SUFFIXES = (".png", ".npy")
DEFAULT_SCALE_M = 0.001
_PNG_RULE = "must be a complete 16-bit grey PNG"
_NPY_RULE = "must be a complete .npy file of floating-point metres [H, W]"
# Pillow's names of 16-bit grey, in all versions and byte orders; 8-bit grey is "L".
_DEEP_GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def find_depth_maps(folder: Path, stems: Iterable[str]) -> dict[str, Path]:
    """The depth map of each photograph, with its header checked; pixels are not read.

    Args:
      folder: where the depth maps are; subfolders are not searched.
      stems: names of the photographs without suffix.

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
        _check_header(paths[0])
    return {stem: paths[0] for stem, paths in found.items()}


def depth_map_of(folder: Path, stem: str) -> Path:
    """The depth map of one photograph, by its name without suffix. Raises InputError if there is none."""
    paths = [folder / f"{stem}{suffix}" for suffix in DEPTH_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise InputError(f"--depth={folder} must have a depth map ({', '.join(DEPTH_SUFFIXES)}) for {stem}, found none")
    return found


def read_depth(path: Path, scale: float = DEFAULT_SCALE_M) -> np.ndarray:
    """Reads a depth map.

    Args:
      path: a .png or .npy file.
      scale: metres per level of a PNG; without meaning for .npy.

    Returns:
      float32 [H, W], metres, >= 0; infinity stays.

    Raises:
      InputError: naming the file, if it is missing, damaged, of another type or shape, or has NaN or negative values.
    """
    depth_m = _read_npy(path) if path.suffix == ".npy" else _read_png(path) * scale
    # NaN fails the comparison too.
    if not (depth_m >= 0).all():
        raise InputError(f"{path}: depths must be zero or more, found minimum {depth_m.min()}")
    return depth_m.astype(np.float32)


def resize_nearest(depth_m: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W] to [height, width], each pixel the one of `depth_m` that covers its centre.

    Nearest, because a mean across the edge of an object would be a depth at which there is nothing.
    """
    rows = ((np.arange(height) + 0.5) * (depth_m.shape[0] / height)).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * (depth_m.shape[1] / width)).astype(np.int64)
    return depth_m[rows[:, None], columns[None, :]]


def _check_header(path: Path) -> None:
    try:
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                _npy_start(path, file)
        else:
            with open(path, "rb") as file:
                _png_start(path, file)
    except InputError:
        raise
    except Exception as error:  # on damaged files Pillow and numpy raise far more types than they document
        raise _unreadable(path, error) from error


def _read_png(path: Path) -> np.ndarray:
    """Levels as float64 [H, W]."""
    try:
        with open(path, "rb") as file:
            return np.asarray(_png_start(path, file)).astype(np.float64)
    except InputError:
        raise
    except Exception as error:  # see _check_header
        raise _unreadable(path, error) from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            _npy_start(path, file)
            return np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # see _check_header
        raise _unreadable(path, error) from error


def _png_start(path: Path, file: BinaryIO) -> ImageFile.ImageFile:
    """The depth map with its header checked, not yet decoded; photographs have the same limit of pixels."""
    image = open_header(file, str(path), _PNG_RULE)
    if image.format != "PNG" or image.mode not in _DEEP_GREY_MODES:
        raise InputError(f"{path}: {_PNG_RULE}, found {'' if image.format == 'PNG' else 'a ' + image.format + ' of '}"
                         f"mode {image.mode}")
    return image


def _npy_start(path: Path, file: BinaryIO) -> None:
    """Checks type, shape and length of a .npy file, and goes back to its start: no header can ask for more memory
    than the file has bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise InputError(f"{path}: {_NPY_RULE}, found format version {version[0]}.{version[1]}")
    shape, _, dtype = _NPY_HEADERS[version](file)
    if dtype.kind != "f" or len(shape) != 2 or 0 in shape:
        raise InputError(f"{path}: {_NPY_RULE}, found {dtype} {list(shape)}")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise InputError(f"{path}: {_NPY_RULE}, found {size} bytes instead of {expected}")
    file.seek(0)


def _unreadable(path: Path, error: Exception) -> InputError:
    rule = _NPY_RULE if path.suffix == ".npy" else _PNG_RULE
    return InputError(f"{path}: {rule}, found {type(error).__name__}: {error}")
