"""From the names and shapes of an official state dict to the settings of the network that it belongs to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.official import tables
from cut_tf.official.tables import Shape, Table
from cut_tf.settings import Settings

_RESNET, _STYLEGAN2 = "model.1.weight", "encoder.convs.1.0.weight"
_PATCHGAN, _STYLEGAN2_D = "model.0.weight", "convs.0.0.weight"
# The second convolution of a residual block, and its norm, behind dropout.
_WITH_DROPOUT = re.compile(r"\.conv_block\.([67])\.")
_MOST_NAMED = 3
_BLUR_TOLERANCE = 1e-5
_SIZES_PX = (64, 128, 256, 32, 512, 16, 1024, 8, 4)  # the official default first
_LAST_SIDE_PX = 4
# Channels that SinCUT's networks have at most up to this resolution.
_SMALL_PX, _MOST_CHANNELS = 32, {"ngf": 512, "ndf": 384}


class Found(NamedTuple):
    """A network of a file.

    Attributes:
      values: settings by their names.
      table: what the file must hold with these settings.
      notes: for people: what was left out, or chosen among several.
      dropout: whether residual blocks have a place for dropout.
    """

    values: dict[str, object]
    table: Table
    notes: tuple[str, ...] = ()
    dropout: bool = False

    def learned(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What our network has of the file's tensors, by the names that they have without dropout."""
        kept = {name: weights[name] for name in self.table.weights}
        return {_WITH_DROPOUT.sub(lambda match: f".conv_block.{int(match[1]) - 1}.", name): values
                for name, values in kept.items()} if self.dropout else kept


def infer_generator(path: Path, weights: Mapping[str, np.ndarray], size_px: int = 0) -> Found:
    """The generator of a file: ResnetGenerator of CUT and CycleGAN, or StyleGAN2Generator of SinCUT.

    Args:
      path: of the file, for messages.
      weights: all of it.
      size_px: the crop that SinCUT's networks were made for, if it is known.

    Raises:
      InputError: if it is none of them, or not complete.
    """
    shapes = {name: values.shape for name, values in weights.items()}
    if len(shapes.get(_RESNET, ())) == 4 and shapes[_RESNET][2:] == (7, 7):
        found = _resnet_generator(path, shapes)
    elif len(shapes.get(_STYLEGAN2, ())) == 4:
        found = _stylegan2_generator(path, shapes, size_px)
    else:
        raise _unknown(path, "a generator resnet_Nblocks or stylegan2", shapes)
    _compare(path, weights, found.table)
    return found


def infer_discriminator(path: Path, weights: Mapping[str, np.ndarray]) -> Found:
    """The discriminator of a file: NLayerDiscriminator of CUT and CycleGAN, or StyleGAN2Discriminator of SinCUT.

    Raises:
      InputError: if it is none of them, or not complete.
    """
    shapes = {name: values.shape for name, values in weights.items()}
    if len(shapes.get(_PATCHGAN, ())) == 4 and shapes[_PATCHGAN][2:] == (4, 4):
        found = _patch_discriminator(path, shapes)
    elif len(shapes.get(_STYLEGAN2_D, ())) == 4:
        found = _stylegan2_discriminator(path, shapes)
    else:
        raise _unknown(path, "a discriminator basic, n_layers or stylegan2", shapes)
    _compare(path, weights, found.table)
    return found


def infer_projector(path: Path, weights: Mapping[str, np.ndarray]) -> tuple[Found, list[int]]:
    """The patch projector of a file, PatchSampleF: what it is, and the channels of the features that it takes.

    A file without weights is that of a projector without layers (--netF=sample), which takes any features.

    Raises:
      InputError: if it is none, or not complete.
    """
    if not weights:
        return Found({"projector": "sample"}, tables.empty_table()), []
    shapes = {name: values.shape for name, values in weights.items()}
    found = [shapes[f"mlp_{index}.0.weight"] for index in itertools.takewhile(
        lambda index: f"mlp_{index}.0.weight" in shapes, itertools.count())]
    if not found or any(len(shape) != 2 or not shape[0] for shape in found):
        raise _unknown(path, "a patch projector mlp_sample", shapes)
    channels, width = [shape[1] for shape in found], found[0][0]
    result = Found({"projector": "mlp", "projector_width": width}, tables.patch_projector(channels, width))
    _compare(path, weights, result.table)
    return result, channels


# ---- one architecture each ----------------------------------------------------------------------------------------


def _is_convolution(shapes: Mapping[str, Shape], name: str) -> bool:
    return len(shapes.get(f"{name}.weight", ())) == 4


def _norm_at(shapes: Mapping[str, Shape], convolution: str, norm: str) -> str:
    """The norm after a convolution; the official code gives convolutions a bias before instance norm only."""
    if f"{convolution}.bias" in shapes:
        return "instance"
    return "batch" if f"{norm}.weight" in shapes else "none"


def _resnet_generator(path: Path, shapes: Mapping[str, Shape]) -> Found:
    width, channels = shapes[_RESNET][:2]
    _check_colours(path, channels, "its input")
    antialias_down = not _is_convolution(shapes, "model.7")
    blocks = {int(match[1]) for match in (re.fullmatch(r"model\.(\d{1,6})\.conv_block\.1\.weight", name)
                                          for name in shapes) if match}
    after = (12 if antialias_down else 10) + len(blocks)
    dropout = any(_is_convolution(shapes, f"model.{index}.conv_block.6") for index in blocks)
    last = [shape for name, shape in shapes.items() if len(shape) == 4 and shape[1:] == (width, 7, 7)]
    _check_colours(path, last[-1][0] if last else 3, "its output")
    settings = Settings.of(
        generator="resnet", ngf=_positive(path, width), generator_blocks=len(blocks),
        generator_norm=_norm_at(shapes, "model.1", "model.2"), antialias_down=antialias_down,
        antialias_up=not _is_convolution(shapes, f"model.{after}"))
    values = {name: settings.flat()[name] for name in (
        "generator", "ngf", "generator_blocks", "generator_norm", "antialias_down", "antialias_up")}
    notes = ("dropout between the convolutions of its residual blocks is left out: it has no weights and is for "
             "training alone",) if dropout else ()
    return Found(values, tables.resnet_generator(settings, dropout), notes, dropout)


def _patch_discriminator(path: Path, shapes: Mapping[str, Shape]) -> Found:
    width, channels = shapes[_PATCHGAN][:2]
    _check_colours(path, channels, "its input")
    antialias_down = not _is_convolution(shapes, "model.2")
    first, step = (3, 4) if antialias_down else (2, 3)
    inner = sum(1 for _ in itertools.takewhile(lambda index: _is_convolution(shapes, f"model.{index}"),
                                               itertools.count(first, step)))
    # After the last blur comes one more convolution with a norm, and the one that gives the scores.
    found = [index for index in range(first, first + step * (inner + 2)) if _is_convolution(shapes, f"model.{index}")]
    layers = len(found) - 1
    if layers < 1:
        raise _unknown(path, "a discriminator basic or n_layers", shapes)
    norm = _norm_at(shapes, f"model.{found[0]}", f"model.{found[0] + 1}")
    try:
        settings = Settings.of(ndf=_positive(path, width), discriminator_layers=layers, discriminator_norm=norm,
                               antialias_down=antialias_down, preprocess="none", crop_size_px=1 << 20)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    values = {"discriminator": "patch", "ndf": width, "discriminator_layers": layers, "discriminator_norm": norm,
              "antialias_down": antialias_down}
    return Found(values, tables.patch_discriminator(settings))


def _stylegan2_generator(path: Path, shapes: Mapping[str, Shape], size_px: int) -> Found:
    _check_colours(path, shapes[_STYLEGAN2][1], "its input")
    widths, index = [_positive(path, shapes[_STYLEGAN2][0])], 2
    while len(shapes.get(f"encoder.convs.{index}.skip.1.weight", ())) == 4:
        widths.append(_positive(path, shapes[f"encoder.convs.{index}.skip.1.weight"][0]))
        index += 1
    encoder, decoder = (sum(1 for _ in itertools.takewhile(
        lambda place, prefix=prefix: f"{prefix}.{place}.conv1.0.weight" in shapes, itertools.count(start)))
        for prefix, start in (("encoder.convs", index), ("decoder.convs", 0)))
    if decoder - encoder not in (0, 1):
        raise InputError(f"{path}: its encoder and its decoder must have as many residual blocks, found {encoder} and "
                         f"{decoder}")
    ngf, size = _width_and_size(path, "ngf", widths, len(widths), (size_px,) if size_px else _SIZES_PX)
    values = {"generator": "stylegan2", "ngf": ngf, "generator_blocks": encoder + decoder,
              "stylegan2_downsamplings": len(widths) - 1, "stylegan2_size_px": size}
    note = () if size_px else (f"widths {', '.join(map(str, widths))} are taken for --ngf={ngf} at "
                               f"--stylegan2_size_px={size}; the network is the same with other such pairs",)
    return Found(values, tables.stylegan2_generator(widths, encoder, decoder), note)


def _stylegan2_discriminator(path: Path, shapes: Mapping[str, Shape]) -> Found:
    _check_colours(path, shapes[_STYLEGAN2_D][1], "its input")
    widths = [_positive(path, shapes[_STYLEGAN2_D][0])]
    while len(shapes.get(f"convs.{len(widths)}.skip.1.weight", ())) == 4:
        widths.append(_positive(path, shapes[f"convs.{len(widths)}.skip.1.weight"][0]))
    size = _LAST_SIDE_PX * 2 ** min(len(widths) - 1, 20)
    ndf, size = _width_and_size(path, "ndf", widths, len(widths), (size,))
    return Found({"discriminator": "stylegan2", "ndf": ndf, "stylegan2_size_px": size},
                 tables.stylegan2_discriminator(widths))


def _width_and_size(path: Path, flag: str, widths: list[int], scales: int,
                    sizes_px: tuple[int, ...]) -> tuple[int, int]:
    """ngf or ndf, and the size of the crop, with which the official table has these channels."""
    for size in sizes_px:
        if size not in _SIZES_PX or size < _LAST_SIDE_PX * 2 ** (scales - 1):
            continue
        # Channels at full resolution are about 512 width / size (ngf) or 256 width / size (ndf).
        about = widths[0] * size / (512 if flag == "ngf" else 256)
        for width in range(max(1, int(about) - 4), int(about) + 5):
            if [_channels(flag, width, size >> number) for number in range(scales)] == widths:
                return width, size
    raise InputError(f"{path}: channels must be those of the official table for some --{flag} and crop, found "
                     f"{', '.join(map(str, widths))} for crops of {', '.join(map(str, sizes_px))} px")


def _channels(flag: str, width: int, resolution_px: int) -> int:
    """The official tables, see `cut_tf.networks`."""
    channels = round(width / 32 * 16384 / resolution_px) if flag == "ngf" else int(width / 64 * 16384 / resolution_px)
    return min(channels, _MOST_CHANNELS[flag]) if resolution_px <= _SMALL_PX else channels


# ---- comparison ---------------------------------------------------------------------------------------------------


def _compare(path: Path, weights: Mapping[str, np.ndarray], table: Table) -> None:
    """Raises InputError unless the file holds what the table says, and nothing that would make it another network."""
    known = {*table.weights, *table.constants, *table.ignored}
    missing = [name for name in table.weights if name not in weights]
    unknown = [name for name in weights if name not in known]
    if missing or unknown:
        raise InputError(f"{path}: weights must be those of the official network that it begins like, found "
                         + " and ".join(text for text in (_listed("none called", missing),
                                                          _listed("others called", unknown)) if text))
    for name, shape in table.weights.items():
        if weights[name].shape != shape:
            raise InputError(f"{path}: {name} must have the shape {list(shape)}, found {list(weights[name].shape)}")
    for name, constant in table.constants.items():
        found = weights.get(name)
        if found is not None and constant.dtype == np.float32 and (
                found.shape != constant.shape or np.abs(found - constant).max() > _BLUR_TOLERANCE):
            raise InputError(f"{path}: {name} must be the blur of the official code, found another")


def _listed(text: str, names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{text} {', '.join(_short(name) for name in names[:_MOST_NAMED])}{more}" if names else ""


def _short(name: str) -> str:
    return name if name.isprintable() and len(name) <= 80 else repr(name[:80])


def _unknown(path: Path, wanted: str, shapes: Mapping[str, Shape]) -> InputError:
    found = _listed("weights called", list(shapes)) or "no weights"
    return InputError(f"{path}: must be {wanted} of the official code, found {found}")


def _check_colours(path: Path, channels: int, what: str) -> None:
    if channels != 3:
        raise InputError(f"{path}: {what} must have 3 channels, RGB, found {channels}")


def _positive(path: Path, width: int) -> int:
    if width < 1:
        raise InputError(f"{path}: layers must have channels, found {width}")
    return width
