"""Penalties on the discriminator's gradient: of WGAN-GP, and R1."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def gradient_penalty(scores_of: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor,
                     mix: tf.Tensor) -> tf.Tensor:
    """Mean over images of (|gradient of the summed score with respect to the image| - 1)^2.

    WGAN-GP (Gulrajani et al., NeurIPS 2017, eq. 3).

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


def r1_penalty(scores_of: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Half the mean over images of |gradient of the summed score with respect to the image|^2.

    R1 (Mescheder et al., ICML 2018, eq. 9) with gamma 1.

    Args:
      scores_of: the discriminator, [B, H, W, 3] to scores [B, ...].
      real: [B, H, W, 3].

    Returns:
      The scores of `real`, which the penalty needs anyhow, and the penalty, a scalar; both differentiable with respect
      to the discriminator's weights.
    """
    with tf.GradientTape() as tape:
        tape.watch(real)
        scores = scores_of(real)
    gradient = tape.gradient(scores, real)
    return scores, tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3])) / 2.0
