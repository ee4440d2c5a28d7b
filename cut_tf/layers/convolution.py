"""Convolutions padded as in PyTorch, with the papers' initialisation.

TensorFlow's SAME padding is asymmetric for stride 2 and for even kernels, so padding is always made explicit here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.fast import few_filters, winograd
from cut_tf.layers.padding import repeat_borders

# The official code's gain: normal, not truncated, with the standard deviation 0.02 * sqrt(2 / (fan_in + fan_out)).
XAVIER_GAIN = 0.02


def seeds_from(seed: int) -> Iterator[int]:
    """An endless stream of different initialiser seeds, so that no two layers of a network share one."""
    state = seed * 1_000_003 + 1
    while True:
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**63
        yield (state >> 32) % (2**31 - 1)


def xavier_normal(seed: int, gain: float = XAVIER_GAIN) -> keras.initializers.Initializer:
    """The official initialisation of generator, discriminator and projector: Xavier, normal, gain 0.02."""
    return keras.initializers.VarianceScaling(gain**2, "fan_avg", "untruncated_normal", seed=seed)


class Convolution(keras.layers.Layer):
    """Convolution with symmetric padding: [B, H, W, C] to [B, (H + 2 padding - kernel) // stride + 1, ..., filters].

    Args:
      filters: output channels.
      kernel_px: side of the square kernel.
      stride_px: step of the kernel.
      padding_px: zeros added on each of the four sides.
      repeats_borders: whether the padding repeats the outermost pixels instead.
      use_bias: whether a bias is added.
      spectral_norm: divide the kernel by its largest singular value at each training call.
      seed: seed of the Xavier initialisation.
      gain: of the Xavier initialisation. Networks without norms need more than 0.02, or their signals vanish.
    """

    def __init__(self, filters: int, kernel_px: int, *, seed: int, stride_px: int = 1, padding_px: int = 0,
                 repeats_borders: bool = False, use_bias: bool = True, spectral_norm: bool = False,
                 gain: float = XAVIER_GAIN, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.filters = filters
        self._spectral_norm = spectral_norm
        self._seed = seed
        # With stride 1 and an odd kernel, SAME is the same symmetric padding and saves a copy of the input.
        self._repeats_borders = repeats_borders and padding_px > 0
        self._same = stride_px == 1 and 2 * padding_px == kernel_px - 1 and not self._repeats_borders
        self._padding_px = 0 if self._same else padding_px
        self._stride_px = stride_px
        self.convolution = keras.layers.Conv2D(
            filters, kernel_px, stride_px, "same" if self._same else "valid", use_bias=use_bias,
            kernel_initializer=xavier_normal(seed, gain), name=name, dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        # Without sizes: Keras would refuse inputs smaller than the kernel, since it does not know of the padding.
        shape = (None, None, None, input_shape[-1])
        if self._spectral_norm:
            first = np.random.default_rng(self._seed).normal(size=[1, self.convolution.filters]).astype(np.float32)
            self.convolution = compat.spectral_normalization(self.convolution, shape, first, self.name)
        else:
            self.convolution.build(shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None, adds_bias: bool = True,
             recompute: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        """Convolves [B, H, W, C].

        Args:
          inputs: [B, H, W, C].
          training: for spectral norm.
          adds_bias: False leaves the bias out, before an instance norm, which would remove it. It stays a weight with
            gradient 0, as in the official code, but saves two passes over the pixels.
          recompute: computes `inputs` again for the kernel's gradient, so that large ones need not be stored.
        """
        if self._spectral_norm:
            return tf.cast(self.convolution(self._padded(inputs), training=training), inputs.dtype)
        bias = self.convolution.bias if adds_bias and self.convolution.use_bias else None
        return self.with_kernel(inputs, self.convolution.kernel, bias, recompute)

    def with_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None,
                    recompute: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
        """Convolves with the given kernel and bias, as a function of all its tensors, which `recomputed` needs."""
        padded = self._padded(inputs)
        if self._stride_px == 1 and winograd.is_faster(padded, kernel, self._same):
            return winograd.convolution_3x3(padded, kernel, self._same, bias, recompute)
        if self._stride_px == 1 and not self._same and few_filters.is_faster(padded, kernel):
            output = few_filters.convolution(padded, kernel, recompute)
        elif self._stride_px == 1 and winograd.is_faster_at_any_size(padded, kernel):
            output = winograd.convolution_at_any_size(padded, tf.convert_to_tensor(kernel), self._same)
        elif self._stride_px == 1 and not self._same and few_filters.is_faster_at_any_size(kernel):
            output = few_filters.convolution_at_any_size(padded, kernel)
        else:
            output = self.convolution.convolution_op(padded, kernel)
        return output if bias is None else tf.nn.bias_add(output, bias)

    def _padded(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._repeats_borders:
            return repeat_borders(inputs, self._padding_px)
        side = [self._padding_px, self._padding_px]
        return tf.pad(inputs, [[0, 0], side, side, [0, 0]]) if self._padding_px else inputs


class TransposedConvolution(keras.layers.Layer):
    """3x3 transposed convolution, stride 2: [B, H, W, C] to [B, 2H, 2W, filters].

    PyTorch's padding 1 with output padding 1: the full 2H + 1 result without its first row and column.
    """

    def __init__(self, filters: int, *, seed: int, use_bias: bool = True, gain: float = XAVIER_GAIN,
                 name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.convolution = keras.layers.Conv2DTranspose(
            filters, 3, 2, "valid", use_bias=use_bias, kernel_initializer=xavier_normal(seed, gain), name=name,
            dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        self.convolution.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.convolution(inputs)[:, 1:, 1:, :]
