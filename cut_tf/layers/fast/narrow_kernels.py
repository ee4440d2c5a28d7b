"""Depthwise convolution whose gradient is made of kernels three columns wide, for training on CPUs.

oneDNN computes the gradient of depthwise kernels fast if they have at most three columns: a 5x5 one takes 14 times as
long as a 3x3 one. So wider kernels get theirs three columns at a time.
"""

from __future__ import annotations

import tensorflow as tf

from cut_tf.layers import kernels

_COLUMNS = 3


def is_faster(inputs: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether `depthwise_convolution` is faster than TensorFlow's own gradient.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, C, 1].
    """
    return (kernels.are_fast_on_cpu() and inputs.dtype == tf.float32 and inputs.shape.is_fully_defined()
            and kernel.shape[1] > _COLUMNS)


def depthwise_convolution(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Depthwise convolution without padding: [B, H, W, C] with [k, l, C, 1] to [B, H - k + 1, W - l + 1, C].

    Args:
      inputs: float32, of known shape.
      kernel: l of at least 3.
    """
    @tf.custom_gradient
    def convolve(pixels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_pixels = tf.nn.depthwise_conv2d_backprop_input(pixels.shape, weights, upstream, [1] * 4, "VALID")
            return of_pixels, _kernel_gradient(pixels, weights.shape, upstream)

        return tf.nn.depthwise_conv2d(pixels, weights, [1] * 4, "VALID"), gradient

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _kernel_gradient(pixels: tf.Tensor, shape: tf.TensorShape, upstream: tf.Tensor) -> tf.Tensor:
    rows, columns, channels, _ = shape
    parts = []
    for first in range(0, columns, _COLUMNS):
        # The last columns are computed with some before them again.
        start = min(first, columns - _COLUMNS)
        seen = pixels[:, :, start:start + upstream.shape[2] + _COLUMNS - 1]
        part = tf.nn.depthwise_conv2d_backprop_filter(seen, [rows, _COLUMNS, channels, 1], upstream, [1] * 4, "VALID")
        parts.append(part[:, first - start:])
    return tf.concat(parts, 1)
