"""DistanceGAN: one-sided unsupervised domain mapping that keeps distances (Benaim and Wolf, NIPS 2017)."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.methods import pooled, replicas
from cut_tf.settings import Settings

# Mean and deviation of fewer distances are too noisy to standardise by. Until then the term is left out.
FIRST_DISTANCES = 100
_LEAST_DEVIATION = 1e-6


class DistanceGAN(pooled.PooledMethod):
    """A generator and a discriminator. Distances between images are kept by the translation.

    L = gan_weight L_GAN + distance_weight mean |(d(x) - mean_x) / std_x - (d(G(x)) - mean_y) / std_y|
      + l1_identity_weight mean |G(y) - y| (ours, off by default).

    d is the mean absolute difference of two images of the global batch, for all its pairs (--distance=pairs), or of
    the left and the right half of each image (--distance=self; the official code takes upper and lower half).
    mean and std are those of the real images' distances in either domain. The official code measures them once, on
    900 images before training. Here they are statistics of all distances seen so far, with equal weights, and the term
    begins with the hundredth distance.

    Raises:
      InputError: if the batch has no pairs and --distance=pairs.
    """

    progress_terms = ("loss/generator", "loss/discriminator", "loss/distance")

    def __init__(self, settings: Settings) -> None:
        batch_size = settings.data.batch_size
        if settings.distancegan.distance == "pairs" and batch_size < 2:
            raise InputError(f"--batch_size must be 2 or more with --distance=pairs, found {batch_size}; "
                             "--distance=self compares the halves of single images")
        super().__init__(settings)
        # Count, mean and variance of the distances between real images.
        self.statistics = {domain: replicas.step_variable(tf.zeros([3], tf.float64), tf.float64)
                           for domain in ("source", "target")}

    def _build_networks(self) -> dict[str, keras.Model]:
        return {"generator": self._new_generator("generator"), "discriminator": self._new_discriminator()}

    def _objective(self, batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor],
                                                               dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        source, target, identity_weight = batch["source"], batch["target"], self.settings.identity.l1_identity_weight
        fake, *same = self._translate("generator", [source, target] if identity_weight else [source])
        weight = self.settings.distancegan.distance_weight
        terms = {"loss/gan": self._gan_term(fake), "loss/distance": weight * self._distance_loss(
            self._distances(source), self._distances(fake), self._distances(target))}
        if same:
            terms["loss/l1_identity"] = identity_weight * pooled.l1(same[0], target)
        return terms, {"discriminator": (target, fake)}

    def _distances(self, images: tf.Tensor) -> tf.Tensor:
        """Distances [N] of the global batch, the same on every replica, from this one's images [B, H, W, 3]."""
        if self.settings.distancegan.distance == "self":
            width = tf.shape(images)[2]
            half = width // 2
            return replicas.gather_over_replicas(_mean_difference(images[:, :, :half], images[:, :, width - half:]))
        whole_batch = replicas.gather_over_replicas(images)
        size = self.settings.data.batch_size
        # Each image is paired with the one some places further on, in cyclic order. In an even batch the pairs half a
        # circle apart come twice, and the repetitions are cut off.
        rings = [_mean_difference(whole_batch, tf.roll(whole_batch, places, 0)) for places in range(1, size // 2 + 1)]
        return tf.concat(rings, 0)[:size * (size - 1) // 2]

    def _distance_loss(self, of_source: tf.Tensor, of_fake: tf.Tensor, of_target: tf.Tensor) -> tf.Tensor:
        """Mean absolute difference between the standardised distances [N] before and after translation."""
        source = _with_distances(self.statistics["source"], of_source)
        target = _with_distances(self.statistics["target"], of_target)
        difference = tf.reduce_mean(tf.abs(_standardised(of_source, source) - _standardised(of_fake, target)))
        enough = tf.minimum(source[0], target[0]) >= FIRST_DISTANCES
        return tf.where(enough, difference, 0.0)

    def state(self) -> dict[str, tf.Variable]:
        return {**super().state(), **{f"distances/{name}": values for name, values in self.statistics.items()}}


def _mean_difference(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """[N] from images [N, H, W, 3]."""
    return tf.reduce_mean(tf.abs(one - other), axis=[1, 2, 3])


def _with_distances(statistics: tf.Variable, distances: tf.Tensor) -> tf.Tensor:
    """Updates (count, mean, variance) with distances [N] (Chan et al. 1983)."""
    count, mean, variance = tf.unstack(statistics)
    values = tf.cast(tf.stop_gradient(distances), tf.float64)
    number = tf.cast(tf.size(values), tf.float64)
    new_mean, new_variance = tf.nn.moments(values, axes=[0])
    total, apart = count + number, new_mean - mean
    together = tf.stack([total, mean + apart * number / total, (
        count * variance + number * new_variance + apart**2 * count * number / total) / total])
    statistics.assign(together)
    return together


def _standardised(distances: tf.Tensor, statistics: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.cast(statistics[1], tf.float32), tf.cast(statistics[2], tf.float32)
    return (distances - mean) / tf.maximum(tf.sqrt(variance), _LEAST_DEVIATION)
