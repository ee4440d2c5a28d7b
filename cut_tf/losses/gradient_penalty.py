"""Penalties on the discriminator's gradient: that of WGAN-GP, and R1.

The gradient with respect to the image is computed in the discriminator's precision. In float16 small values would
vanish. So the scores are multiplied by `scale` first, and the gradient is divided by it afterwards, in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def gradient_penalty(scores_of: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor,
                     mix: tf.Tensor, scale: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Mean over images of (|gradient of the summed score with respect to the image| - 1)^2.

    WGAN-GP (Gulrajani et al., NeurIPS 2017, eq. 3).

    Args:
      scores_of: the discriminator, [B, H, W, 3] to scores [B, ...].
      real: [B, H, W, 3].
      fake: [B, H, W, 3]; takes no gradient.
      mix: [B, 1, 1, 1] in [0, 1], the point between fake (0) and real (1) at which the penalty is computed.
      scale: of the inner gradient, the loss scale of float16.

    Returns:
      Scalar, differentiable with respect to the discriminator's weights.
    """
    between = mix * real + (1.0 - mix) * tf.stop_gradient(fake)
    with tf.GradientTape() as tape:
        tape.watch(between)
        scaled_scores = scores_of(between) * scale
    gradient = tape.gradient(scaled_scores, between) / scale
    length = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3]) + 1e-12)
    return tf.reduce_mean(tf.square(length - 1.0))


def r1_penalty(scores_of: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor,
               scale: tf.Tensor | float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Half the mean over images of |gradient of the summed score with respect to the image|^2.

    R1 (Mescheder et al., ICML 2018, eq. 9) with gamma 1.

    Args:
      scores_of: the discriminator, [B, H, W, 3] to scores [B, ...].
      real: [B, H, W, 3].
      scale: of the inner gradient, the loss scale of float16.

    Returns:
      The scores of `real`, which the penalty has computed anyway, and the penalty, a scalar. Both are differentiable
      with respect to the discriminator's weights.
    """
    with tf.GradientTape() as tape:
        tape.watch(real)
        scores = scores_of(real)
        scaled_scores = scores * scale
    gradient = tape.gradient(scaled_scores, real) / scale
    return scores, tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3])) / 2.0
