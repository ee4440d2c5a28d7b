"""Depthwise convolution with repeated borders, in forms that are fast in training on CPUs and on phones."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.layers import portable
from cut_tf.layers.fast import narrow_kernels
from cut_tf.layers.padding import repeat_borders

# The converter quantises kernels of 1024 elements and more, and then XNNPACK leaves a depthwise convolution alone.
_LEAST_QUANTISED = 1024


class DepthwiseConvolution(keras.layers.Layer):
    """One k x k kernel and one bias for each channel: float [B, H, W, C] to the same shape, H and W of 2 at least.

    Pixels beyond the border are those at the border, so that flat surfaces stay flat up to it.

    Args:
      kernel_px: side of the kernels, odd.
      seed: seed of the kernels, normal with the variance that keeps the size of signals, 1 / k^2.
    """

    def __init__(self, kernel_px: int, *, seed: int, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._kernel_px, self._seed = kernel_px, seed

    def build(self, input_shape: tuple) -> None:
        side, channels = self._kernel_px, input_shape[-1]
        spread = keras.initializers.RandomNormal(0.0, 1.0 / side, seed=self._seed)
        self.kernel = self.add_weight(name="kernel", shape=(side, side, channels, 1), initializer=spread)
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel, bias = (tf.cast(weight, inputs.dtype) for weight in (self.kernel, self.bias))
        padded = repeat_borders(inputs, self._kernel_px // 2)
        if portable.is_portable():
            return tf.nn.bias_add(self._in_groups(padded, kernel), bias)
        if narrow_kernels.is_faster(padded, kernel):
            return tf.nn.bias_add(narrow_kernels.depthwise_convolution(padded, kernel), bias)
        return tf.nn.bias_add(tf.nn.depthwise_conv2d(padded, kernel, [1] * 4, "VALID"), bias)

    def _in_groups(self, padded: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The same, over groups of channels whose kernels stay in float."""
        channels = kernel.shape[2]
        most = (_LEAST_QUANTISED - 1) // self._kernel_px**2
        # XNNPACK takes slices of any number, and splits into four at most.
        groups = [slice(first, first + most) for first in range(0, channels, most)]
        parts = [tf.nn.depthwise_conv2d(padded[..., group], kernel[:, :, group], [1] * 4, "VALID") for group in groups]
        return portable.join(parts, -1)
