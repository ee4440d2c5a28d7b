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
from cut_tf.official import tables
from cut_tf.official.tables import Shape, Table
from cut_tf.settings import Settings

# Position of convolutions and norms in the official residual block.
_BLOCK_PARTS = (("1", "conv1"), ("2", "norm1"), ("5", "conv2"), ("6", "norm2"))
_BATCH_NORM = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"),
               ("running_var", "moving_variance"))


def to_ours(array: np.ndarray, name: str = "") -> np.ndarray:
    """PyTorch (out, in, h, w), or (in, out, h, w) if transposed, to (h, w, in, out) or (h, w, out, in); linear too.

    StyleGAN2's modulated (1, out, in, h, w) becomes (h, w, out, in), its biases (1, out, 1, 1) become (out).
    """
    if array.ndim == 4 and array.shape == (1, array.shape[1], 1, 1) and name.endswith(".bias"):
        return array.reshape(-1)
    if array.ndim == 5:
        return array[0].transpose(2, 3, 0, 1)
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 else array


def to_torch(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The inverse of `to_ours`, with the shape that the official state dict has."""
    if len(shape) == 5:
        return array.transpose(2, 3, 0, 1)[None]
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array.reshape(shape)


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
        value = to_ours(arrays[prefix + name], name)
        if value.shape != tuple(variable.shape):
            raise ValueError(f"{prefix}{name}: shape {value.shape}, ours has {tuple(variable.shape)}")
        variable.assign(value)


def state_dict(network: keras.Model, settings: Settings) -> dict[str, np.ndarray]:
    """All that the official code's `load_state_dict` expects of such a network: weights, blurs, counts of batches.

    Args:
      network: one that `torch_names` knows.
      settings: it was built from.

    Raises:
      TypeError: if the official code has no such network.
    """
    if isinstance(network, PatchDiscriminator) and settings.patchgan.discriminator_norm == "spectral":
        raise TypeError("the official code has no spectral norm")
    variables, table = torch_names(network), _table_of(network, settings)
    if set(variables) != set(table.weights):
        raise TypeError(f"no official counterpart of {type(network).__name__} with these settings")
    learned = {name: to_torch(variable.numpy(), table.weights[name]) for name, variable in variables.items()}
    return {**learned, **table.constants}


def _table_of(network: keras.Model, settings: Settings) -> Table:
    if isinstance(network, ResnetGenerator):
        return tables.resnet_generator(settings)
    if isinstance(network, PatchDiscriminator):
        return tables.patch_discriminator(settings)
    if isinstance(network, PatchProjector):
        inputs = [mlp[0].kernel.shape[0] for mlp in network.mlps]
        return tables.patch_projector(inputs, settings.projector.projector_width)
    if isinstance(network, StyleGAN2Generator):
        halvings = settings.stylegan2.stylegan2_downsamplings
        widths = [layer.channels for layer in network.encoder[1:1 + halvings]] + [network.decoder_blocks[0].channels]
        blocks = len(network.encoder) - 1 - halvings
        return tables.stylegan2_generator(widths, blocks, len(network.decoder_blocks))
    widths = [block.channels for block in network.blocks] + [network.last_conv.kernel.shape[-1]]
    return tables.stylegan2_discriminator(widths)
