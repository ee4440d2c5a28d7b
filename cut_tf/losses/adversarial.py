"""Adversarial losses on raw discriminator scores of any shape [B, ...].

Each mode is a pair: the loss of scores that should look real and of scores that should look fake. They return one
value per image [B], whose mean is the loss; the generator's loss is the `real` one on its own fakes.
lsgan: Mao et al. 2017. vanilla, nonsaturating: Goodfellow et al. 2014. wgangp: Gulrajani et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from cut_tf.common import registry


def _mean_per_image(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))


def _lsgan_real(scores: tf.Tensor) -> tf.Tensor:
    return _mean_per_image(tf.square(scores - 1.0))


def _lsgan_fake(scores: tf.Tensor) -> tf.Tensor:
    return _mean_per_image(tf.square(scores))


def _logistic_real(scores: tf.Tensor) -> tf.Tensor:
    return _mean_per_image(tf.nn.softplus(-scores))


def _logistic_fake(scores: tf.Tensor) -> tf.Tensor:
    return _mean_per_image(tf.nn.softplus(scores))


def _wgan_real(scores: tf.Tensor) -> tf.Tensor:
    return -_mean_per_image(scores)


def _wgan_fake(scores: tf.Tensor) -> tf.Tensor:
    return _mean_per_image(scores)


class GanLoss(NamedTuple):
    """Losses of scores [B, ...] that should look real or fake, [B] each."""

    real: Callable[[tf.Tensor], tf.Tensor]
    fake: Callable[[tf.Tensor], tf.Tensor]


GAN_LOSSES = {
    "lsgan": GanLoss(_lsgan_real, _lsgan_fake),
    # Cross-entropy with logits of labels 1 and 0 is softplus(-s) and softplus(s): the same as nonsaturating.
    "vanilla": GanLoss(_logistic_real, _logistic_fake),
    "nonsaturating": GanLoss(_logistic_real, _logistic_fake),
    "wgangp": GanLoss(_wgan_real, _wgan_fake),
}


def adversarial_generator_loss(mode: str, fake_scores: tf.Tensor) -> tf.Tensor:
    """What the generator minimises: [B, ...] scores of its outputs to a scalar."""
    return tf.reduce_mean(registry.lookup(GAN_LOSSES, mode, "--gan_mode").real(fake_scores))


def adversarial_discriminator_loss(mode: str, real_scores: tf.Tensor,
                                   fake_scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What the discriminator minimises is half the sum of the two scalars returned: on real and on fake images."""
    loss = registry.lookup(GAN_LOSSES, mode, "--gan_mode")
    return tf.reduce_mean(loss.real(real_scores)), tf.reduce_mean(loss.fake(fake_scores))
