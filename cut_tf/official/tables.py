"""The official networks as tables: every weight's name and shape, computed from settings without building a network.

A file is compared with such a table before anything is built, so that its sizes are known to be those of its own
values. An export takes from it what our networks do not keep as weights: blurs, and the count of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cut_tf.settings import Settings

Shape = tuple[int, ...]
_BLUR_DOWN, _BLUR_UP = (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)
_DOWNSAMPLINGS = 2
_MOST_WIDENING = 8
# Dropout between the convolutions of a residual block moves the second one up by a place.
_SECOND_CONVOLUTION = {False: 5, True: 6}


class Table(NamedTuple):
    """Names of a state dict.

    Attributes:
      weights: to the shapes of what is learned, or recorded by batch norm.
      constants: to the values of what is neither: blurs, and the number of batches that a batch norm has seen.
      ignored: what files of old PyTorch versions hold besides: statistics that instance norms recorded and never used.
    """

    weights: dict[str, Shape]
    constants: dict[str, np.ndarray]
    ignored: set[str]

    def convolution(self, name: str, shape: Shape, bias: bool, transposed: bool = False) -> None:
        """A convolution [out, in, h, w], or if transposed [in, out, h, w]."""
        self.weights[f"{name}.weight"] = shape
        if bias:
            self.weights[f"{name}.bias"] = (shape[1 if transposed else 0],)

    def norm(self, kind: str, name: str, channels: int) -> None:
        """A norm after a convolution."""
        statistics, counted = [f"{name}.running_mean", f"{name}.running_var"], f"{name}.num_batches_tracked"
        if kind == "batch":
            self.weights.update({entry: (channels,) for entry in (f"{name}.weight", f"{name}.bias", *statistics)})
            self.constants[counted] = np.zeros([], np.int64)
        else:
            self.ignored.update([*statistics, counted])

    def blur(self, name: str, row: Sequence[float], channels: int, scale: float = 1.0) -> None:
        """The kernel row x row of every channel [C, 1, k, k], its sum `scale`."""
        self.constants[name] = np.tile(_square(row, scale), [channels, 1, 1, 1])


def _square(row: Sequence[float], scale: float) -> np.ndarray:
    kernel = np.outer(row, row).astype(np.float32)
    return kernel * np.float32(scale) / kernel.sum()


def empty_table() -> Table:
    """A table to be filled."""
    return Table({}, {}, set())


def has_bias(norm: str) -> bool:
    """Whether an official convolution before that norm has a bias."""
    return norm == "instance"


def resnet_generator(settings: Settings, dropout: bool = False) -> Table:
    """ResnetGenerator of the official code.

    Args:
      settings: width, blocks, norm and anti-aliasing.
      dropout: whether residual blocks have a place for dropout.
    """
    table, norm, width = empty_table(), settings.generator.generator_norm, settings.generator.ngf
    bias, index = has_bias(norm), 4
    table.convolution("model.1", (width, 3, 7, 7), bias)
    table.norm(norm, "model.2", width)
    for _ in range(_DOWNSAMPLINGS):
        table.convolution(f"model.{index}", (2 * width, width, 3, 3), bias)
        table.norm(norm, f"model.{index + 1}", 2 * width)
        width, index = 2 * width, index + 3
        if settings.antialias.antialias_down:
            table.blur(f"model.{index}.filt", _BLUR_DOWN, width)
            index += 1
    for _ in range(settings.generator.generator_blocks):
        for place in (1, _SECOND_CONVOLUTION[dropout]):
            table.convolution(f"model.{index}.conv_block.{place}", (width, width, 3, 3), bias)
            table.norm(norm, f"model.{index}.conv_block.{place + 1}", width)
        index += 1
    for _ in range(_DOWNSAMPLINGS):
        half = width // 2
        if settings.antialias.antialias_up:
            table.blur(f"model.{index}.filt", _BLUR_UP, width, scale=4.0)
            index += 1
            table.convolution(f"model.{index}", (half, width, 3, 3), bias)
        else:
            table.convolution(f"model.{index}", (width, half, 3, 3), bias, transposed=True)
        table.norm(norm, f"model.{index + 1}", half)
        width, index = half, index + 3
    table.convolution(f"model.{index + 1}", (3, width, 7, 7), True)
    return table


def patch_discriminator(settings: Settings) -> Table:
    """NLayerDiscriminator of the official code."""
    table, norm, width = empty_table(), settings.patchgan.discriminator_norm, settings.discriminator.ndf
    layers, blurs = settings.patchgan.discriminator_layers, settings.antialias.antialias_down
    table.convolution("model.0", (width, 3, 4, 4), True)
    index = 2
    for number in range(1, layers + 1):
        if blurs:  # of the convolution before
            table.blur(f"model.{index}.filt", _BLUR_DOWN, width)
            index += 1
        wider = settings.discriminator.ndf * min(2**number, _MOST_WIDENING)
        table.convolution(f"model.{index}", (wider, width, 4, 4), has_bias(norm))
        table.norm(norm, f"model.{index + 1}", wider)
        width, index = wider, index + 3
    table.convolution(f"model.{index}", (1, width, 4, 4), True)
    return table


def patch_projector(channels: Sequence[int], width: int) -> Table:
    """PatchSampleF of the official code with an MLP per feature of so many channels."""
    table = empty_table()
    for index, inputs in enumerate(channels):
        table.convolution(f"mlp_{index}.0", (width, inputs), True)
        table.convolution(f"mlp_{index}.2", (width, width), True)
    return table


# ---- StyleGAN2 ----------------------------------------------------------------------------------------------------


def _equalised(table: Table, name: str, shape: Shape, place: int = 0, bias: bool = True) -> None:
    """A convolution at `place` of a sequence; its bias belongs to the activation after it."""
    table.weights[f"{name}.{place}.weight"] = shape
    if bias:
        table.weights[f"{name}.{place + 1}.bias"] = (1, shape[0], 1, 1)


def _residual_block(table: Table, name: str, channels: int, filters: int, downsample: bool = False) -> None:
    _equalised(table, f"{name}.conv1", (channels, channels, 3, 3))
    _equalised(table, f"{name}.conv2", (filters, channels, 3, 3), 1 if downsample else 0)
    if downsample:  # a blur comes first
        _equalised(table, f"{name}.skip", (filters, channels, 1, 1), 1, bias=False)
        for part in ("conv2", "skip"):
            table.constants[f"{name}.{part}.0.kernel"] = _square(_BLUR_UP, 1.0)


def stylegan2_generator(widths: Sequence[int], encoder_blocks: int, decoder_blocks: int) -> Table:
    """StyleGAN2Generator of the official code.

    Args:
      widths: channels at full resolution and after each halving.
      encoder_blocks: residual blocks after the halvings.
      decoder_blocks: residual blocks before the doublings.
    """
    table, index = empty_table(), 2
    _equalised(table, "encoder.convs.1", (widths[0], 3, 1, 1))
    for channels, filters in zip(widths, widths[1:]):
        _residual_block(table, f"encoder.convs.{index}", channels, filters, downsample=True)
        index += 1
    places = [f"encoder.convs.{index + number}" for number in range(encoder_blocks)]
    for place in [*places, *(f"decoder.convs.{number}" for number in range(decoder_blocks))]:
        _residual_block(table, place, widths[-1], widths[-1])
    index = decoder_blocks
    for channels, filters in zip(widths[::-1], widths[-2::-1]):
        table.weights.update({f"decoder.convs.{index}.conv.weight": (1, filters, channels, 3, 3),
                              f"decoder.convs.{index}.noise.weight": (1,),
                              f"decoder.convs.{index}.activate.bias": (1, filters, 1, 1)})
        table.constants[f"decoder.convs.{index}.conv.blur.kernel"] = _square(_BLUR_UP, 4.0)
        index += 1
    _equalised(table, f"decoder.convs.{index}", (3, widths[0], 1, 1))
    return table


def stylegan2_discriminator(widths: Sequence[int]) -> Table:
    """StyleGAN2Discriminator of the official code, with so many channels from its input's resolution down to 4x4."""
    table = empty_table()
    _equalised(table, "convs.0", (widths[0], 3, 1, 1))
    for index, (channels, filters) in enumerate(zip(widths, widths[1:]), 1):
        _residual_block(table, f"convs.{index}", channels, filters, downsample=True)
    last = widths[-1]
    _equalised(table, "final_conv", (last, last, 3, 3))
    table.convolution("final_linear.0", (last, 16 * last), True)
    table.convolution("final_linear.1", (1, last), True)
    return table
