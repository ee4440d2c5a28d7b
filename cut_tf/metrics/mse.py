"""Mean squared error of 8-bit RGB pictures."""

from __future__ import annotations

import tensorflow as tf

from cut_tf.metrics.psnr import check_pair


def mse(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared difference in levels of 0 to 255, for each image over all its pixels and channels.

    The same number as scikit-image's `mean_squared_error(target, prediction)` of uint8 pictures.

    Args:
      prediction: uint8 [B, H, W, 3], tensor or array.
      target: uint8 of the same shape.

    Returns:
      float32 [B], in squared levels, 0 to 65025; 0 where both pictures are identical. Lower is better.

    Raises:
      ValueError: if dtype or shape differ from that, or the shapes differ.
    """
    prediction, target = tf.convert_to_tensor(prediction), tf.convert_to_tensor(target)
    check_pair(prediction, target)
    # Squared differences of bytes are integers, whose sum is exact in int64, however many there are.
    difference = tf.cast(prediction, tf.int32) - tf.cast(target, tf.int32)
    total = tf.reduce_sum(tf.cast(difference * difference, tf.int64), axis=[1, 2, 3])
    count = tf.reduce_prod(tf.shape(prediction, tf.int64)[1:])
    return tf.cast(total / count, tf.float32)
