"""Anti-aliased down- and upsampling by 2 (Zhang, "Making convolutional networks shift-invariant again", ICML 2019).

Both fixed kernels are products of ready operations, just as exact as a depthwise convolution: [1, 2, 1] is two averages
of neighbours, [1, 3, 3, 1] at stride 1/2 is bilinear interpolation. `python -m tools.benchmark layers` compares them:
downsampling by averages is the faster form in bfloat16 and the slower one in float32.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.layers.padding import mirror_borders


class BlurDown(keras.layers.Layer):
    """[1,2,1] x [1,2,1] / 16 with mirrored borders, stride 2: [B, H, W, C] to [B, ceil(H/2), ceil(W/2), C]."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        padded = mirror_borders(inputs, 1)
        return tf.nn.avg_pool2d(tf.nn.avg_pool2d(padded, 2, 1, "VALID"), 2, 2, "VALID")


class BlurUp(keras.layers.Layer):
    """[1,3,3,1] x [1,3,3,1] / 16 upsampling with repeated borders: [B, H, W, C] to [B, 2H, 2W, C]."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        size = (2 * (inputs.shape[1] or shape[1]), 2 * (inputs.shape[2] or shape[2]))
        return tf.cast(tf.image.resize(inputs, size, "bilinear"), inputs.dtype)
