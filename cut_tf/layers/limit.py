"""The range of pictures, for generators whose output is a sum and not a tanh."""

from __future__ import annotations

import tensorflow as tf


@tf.custom_gradient
def limit(values: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Cuts values to [-1, 1]. Values outside get only those gradients that bring them back inside."""

    def back(gradient: tf.Tensor) -> tf.Tensor:
        leaves = tf.logical_or(tf.logical_and(values > 1.0, gradient < 0.0),
                               tf.logical_and(values < -1.0, gradient > 0.0))
        return tf.where(leaves, tf.zeros_like(gradient), gradient)

    return tf.clip_by_value(values, -1.0, 1.0), back
