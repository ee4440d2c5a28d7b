"""Anti-aliased down- and upsampling by 2 (Zhang, "Making convolutional networks shift-invariant again", ICML 2019).

The kernels are fixed. [1, 3, 3, 1] at stride 1/2 is bilinear interpolation. [1, 2, 1] is a depthwise convolution in
float32. In half precision, where TensorFlow's depthwise convolution is slow, and for TensorFlow Lite it is two averages
of neighbours. Both forms are exact: `python -m tools.benchmark layers` compares their times.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from cut_tf.layers import portable
from cut_tf.layers.padding import mirror_borders

_ROW = np.array([1.0, 2.0, 1.0], np.float32) / 4


class BlurDown(keras.layers.Layer):
    """[1,2,1] x [1,2,1] / 16 with mirrored borders, stride 2: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), C]."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        padded = mirror_borders(inputs, 1)
        if inputs.dtype == tf.float32 and not portable.is_portable():
            kernel = tf.tile((_ROW[:, None] * _ROW)[:, :, None, None], [1, 1, inputs.shape[-1], 1])
            return tf.nn.depthwise_conv2d(padded, kernel, [1, 2, 2, 1], "VALID")
        return tf.nn.avg_pool2d(tf.nn.avg_pool2d(padded, 2, 1, "VALID"), 2, 2, "VALID")


class BlurUp(keras.layers.Layer):
    """[1,3,3,1] x [1,3,3,1] / 16 upsampling with repeated borders: [B, H, W, C] to [B, 2H, 2W, C].

    Args:
      factor: another than 2 makes it bilinear interpolation to so many times the size.
    """

    def __init__(self, factor: int = 2, **layer: str) -> None:
        super().__init__(**layer)
        self._factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape, factor = tf.shape(inputs), self._factor
        size = (factor * (inputs.shape[1] or shape[1]), factor * (inputs.shape[2] or shape[2]))
        return tf.cast(tf.image.resize(inputs, size, "bilinear"), inputs.dtype)
