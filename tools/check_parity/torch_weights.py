"""Weights of the official PyTorch networks, by their names and layout, into ours and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.convolution import Convolution, TransposedConvolution
from cut_tf.layers.stylegan2 import ResidualBlock as StyleGAN2Block
from cut_tf.networks.discriminators.patch import PatchDiscriminator
from cut_tf.networks.discriminators.stylegan2 import StyleGAN2Discriminator
from cut_tf.networks.generators.resnet import ResidualBlock, ResnetGenerator
from cut_tf.networks.generators.stylegan2 import StyleGAN2Generator
from cut_tf.networks.heads.patch_projector import PatchProjector

# Position of convolutions and norms in the official residual block.
_BLOCK_PARTS = (("1", "conv1"), ("2", "norm1"), ("5", "conv2"), ("6", "norm2"))
_BATCH_NORM = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
               ("running_var", "moving_variance"))


def to_ours(array: np.ndarray) -> np.ndarray:
    """PyTorch (out, in, h, w), or (in, out, h, w) if transposed, to (h, w, in, out) or (h, w, out, in); linear too.

    StyleGAN2's modulated (1, out, in, h, w) becomes (h, w, out, in).
    """
    if array.ndim == 5:
        return array[0].transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 else array


def to_nhwc(array: np.ndarray) -> np.ndarray:
    """[B, C, H, W] to [B, H, W, C]."""
    return array.transpose(0, 2, 3, 1)


def _layer_weights(prefix: str, layer: keras.layers.Layer) -> Iterator[tuple[str, tf.Variable]]:
    if isinstance(layer, (Convolution, TransposedConvolution)):
        layer = layer.convolution
    if isinstance(layer, keras.layers.BatchNormalization):
        for theirs, ours in _BATCH_NORM:
            yield f"{prefix}.{theirs}", compat.raw_variable(getattr(layer, ours))
    elif getattr(layer, "kernel", None) is not None:
        yield f"{prefix}.weight", compat.raw_variable(layer.kernel)
        if layer.bias is not None:
            yield f"{prefix}.bias", compat.raw_variable(layer.bias)


def torch_names(network: keras.Model) -> dict[str, tf.Variable]:
    """Our weights of a network by the name that the official state dict gives them.

    Raises:
      TypeError: for a network that the official code does not have.
    """
    pairs: list[tuple[str, tf.Variable]] = []
    if isinstance(network, (ResnetGenerator, PatchDiscriminator)):
        for index, layer in enumerate(network.stage_layers):
            if isinstance(layer, ResidualBlock):
                for position, part in _BLOCK_PARTS:
                    pairs += _layer_weights(f"model.{index}.conv_block.{position}", getattr(layer, part))
            else:
                pairs += _layer_weights(f"model.{index}", layer)
    elif isinstance(network, PatchProjector):
        for index, mlp in enumerate(network.mlps):
            for position, layer in zip(("0", "2"), mlp):
                pairs += _layer_weights(f"mlp_{index}.{position}", layer)
    elif isinstance(network, StyleGAN2Generator):
        pairs += _stylegan2_generator(network)
    elif isinstance(network, StyleGAN2Discriminator):
        pairs += _stylegan2_discriminator(network)
    else:
        raise TypeError(f"no official counterpart of {type(network).__name__}")
    return dict(pairs)


def _equalised(prefix: str, layer: keras.layers.Layer, position: int = 0) -> Iterator[tuple[str, tf.Variable]]:
    """Kernel at `position` of the official sequence, and the bias, which belongs to the activation after it."""
    yield f"{prefix}.{position}.weight", compat.raw_variable(layer.kernel)
    if layer.bias is not None:
        yield f"{prefix}.{position + 1}.bias", compat.raw_variable(layer.bias)


def _stylegan2_block(prefix: str, block: StyleGAN2Block) -> Iterator[tuple[str, tf.Variable]]:
    yield from _equalised(f"{prefix}.conv1", block.conv1)
    if block.skip is None:
        yield from _equalised(f"{prefix}.conv2", block.conv2)
    else:  # a blur comes first
        yield from _equalised(f"{prefix}.conv2", block.conv2, 1)
        yield from _equalised(f"{prefix}.skip", block.skip, 1)


def _stylegan2_generator(network: StyleGAN2Generator) -> Iterator[tuple[str, tf.Variable]]:
    stem, *blocks = network.encoder
    yield from _equalised("encoder.convs.1", stem)
    for index, block in enumerate(blocks, 2):
        yield from _stylegan2_block(f"encoder.convs.{index}", block)
    for index, block in enumerate(network.decoder_blocks):
        yield from _stylegan2_block(f"decoder.convs.{index}", block)
    first = len(network.decoder_blocks)
    for index, up in enumerate(network.ups, first):
        for theirs, ours in (("conv.weight", "kernel"), ("noise.weight", "noise_strength"), ("activate.bias", "bias")):
            yield f"decoder.convs.{index}.{theirs}", compat.raw_variable(getattr(up, ours))
    yield from _equalised(f"decoder.convs.{first + len(network.ups)}", network.output_layer)


def _stylegan2_discriminator(network: StyleGAN2Discriminator) -> Iterator[tuple[str, tf.Variable]]:
    yield from _equalised("convs.0", network.stem)
    for index, block in enumerate(network.blocks, 1):
        yield from _stylegan2_block(f"convs.{index}", block)
    yield from _equalised("final_conv", network.last_conv)
    for index, layer in enumerate((network.dense, network.score)):
        yield from _layer_weights(f"final_linear.{index}", layer)


def load(network: keras.Model, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Sets every weight of `network` from `arrays[prefix + name]`.

    Raises:
      ValueError: if a weight is missing, has another shape, or an array is left over (blur kernels, which are
        constants of ours, apart).
    """
    names = torch_names(network)
    constants = (".filt", ".kernel", ".num_batches_tracked")
    given = {key[len(prefix):] for key in arrays if key.startswith(prefix) and not key.endswith(constants)}
    if given != set(names):
        raise ValueError(f"{prefix}*: weights that only the file has: {sorted(given - set(names))}; "
                         f"only ours: {sorted(set(names) - given)}")
    for name, variable in names.items():
        value = to_ours(arrays[prefix + name])
        if value.shape != tuple(variable.shape):
            raise ValueError(f"{prefix}{name}: shape {value.shape}, ours has {tuple(variable.shape)}")
        variable.assign(value)
