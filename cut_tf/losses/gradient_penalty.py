"""Gradient penalty of WGAN-GP (Gulrajani et al., NeurIPS 2017, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def gradient_penalty(scores_of: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor,
                     mix: tf.Tensor) -> tf.Tensor:
    """Mean over images of (|gradient of the summed score with respect to the image| - 1)^2.

    Args:
      scores_of: the discriminator, [B, H, W, 3] to scores [B, ...].
      real: [B, H, W, 3].
      fake: [B, H, W, 3]; takes no gradient.
      mix: [B, 1, 1, 1] in [0, 1], where between fake (0) and real (1) the penalty is taken.

    Returns:
      Scalar, differentiable with respect to the discriminator's weights.
    """
    between = mix * real + (1.0 - mix) * tf.stop_gradient(fake)
    with tf.GradientTape() as tape:
        tape.watch(between)
        scores = scores_of(between)
    gradient = tape.gradient(scores, between)
    length = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean(tf.square(length - 1.0))
