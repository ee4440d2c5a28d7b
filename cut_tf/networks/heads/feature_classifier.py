"""ODCR's depth-wise feature classifier (CVPR 2024, eq. 8): which channels distinguish hazy patches from clear ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat

HAZY, CLEAR = 0, 1
_EPSILON = 1e-8
# Of the running statistics: they average over about the last 20 steps, and so follow the embeddings.
_DECAY = 0.95


class Evidence(NamedTuple):
    """The classifier's result for one feature of each image.

    `logits`: [B, 2], of "hazy" and of "clear". `contributions`: [B, 2, C], the part of each channel in them. Their sum
    over the channels plus the bias is the logit.
    """

    logits: tf.Tensor
    contributions: tf.Tensor


class DepthwiseClassifier(keras.layers.Layer):
    """Classifies one feature without mixing channels before the last product.

    Haze changes contrast, which instance norm and the unit length of embeddings remove. What remains of it is how a
    channel's values are distributed over the image. So every channel c of the embeddings, before they are normalised,
    goes through `units` functions of its own, each a ReLU of a line. Their means over the P patches are added up, with
    weights of their own, to one number x_c. The logits are theta_h^T x and theta_c^T x.

    x is standardised by its mean and deviation over the images seen so far, hazy and clear. Otherwise a channel whose x
    is large but always the same would count as evidence, by |theta * x|, although it distinguishes nothing.

    Args:
      channels: C.
      units: functions per channel.
      seed: seed of the weights.
    """

    def __init__(self, channels: int, units: int, seed: int, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        rng = np.random.default_rng(seed)
        slopes = np.where(np.arange(units)[:, None] % 2, 1.0, -1.0) * rng.uniform(0.5, 1.5, [units, channels])
        self.slope = self._weight("slope", slopes)
        self.offset = self._weight("offset", rng.normal(0.0, 1.0, [units, channels]))
        self.mix = self._weight("mix", rng.normal(0.0, units**-0.5, [units, channels]))
        self.theta = self._weight("theta", rng.normal(0.0, channels**-0.5, [2, channels]))
        self.bias = self._weight("bias", np.zeros([2]))
        # Running statistics, of the embeddings and of x; zero until the first step.
        self.mean_square = self._statistic("mean_square", ())
        self.mean = self._statistic("mean", (channels,))
        self.variance = self._statistic("variance", (channels,))
        self.built = True

    def _weight(self, name: str, start: np.ndarray) -> object:
        return self.add_weight(name=name, shape=start.shape, initializer=keras.initializers.Constant(start))

    def _statistic(self, name: str, shape: tuple) -> object:
        return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)

    def pool(self, embeddings: tf.Tensor) -> tf.Tensor:
        """[B, P, C] to one number per channel, before it is standardised: [B, C]."""
        # Scales embeddings to about 1 and keeps their proportions.
        scale = tf.math.rsqrt(tf.convert_to_tensor(self.mean_square) + _EPSILON)
        patches = (embeddings * scale)[:, :, None, :]  # [B, P, 1, C]
        hidden = tf.nn.relu(patches * self.slope + self.offset)  # [B, P, units, C]
        return tf.reduce_sum(tf.reduce_mean(hidden, axis=1) * self.mix, axis=1)

    def call(self, embeddings: tf.Tensor) -> Evidence:
        x = (self.pool(embeddings) - self.mean) * tf.math.rsqrt(tf.convert_to_tensor(self.variance) + _EPSILON)
        contributions = x[:, None, :] * self.theta  # [B, 2, C]
        return Evidence(tf.reduce_sum(contributions, -1) + self.bias, contributions)

    def move_statistics(self, hazy: tf.Tensor, clear: tf.Tensor, mean_over_replicas: Callable) -> None:
        """Updates the running statistics with the embeddings [B, P, C] of a step, the same on every replica.

        Args:
          hazy: of hazy images.
          clear: of clear images.
          mean_over_replicas: tensor to its mean over all replicas.
        """
        square = tf.reduce_mean(tf.square(hazy)) + tf.reduce_mean(tf.square(clear))
        self._move(self.mean_square, mean_over_replicas(square / 2.0))
        x = tf.concat([self.pool(hazy), self.pool(clear)], 0)
        mean = mean_over_replicas(tf.reduce_mean(x, 0))
        self._move(self.mean, mean)
        self._move(self.variance, mean_over_replicas(tf.reduce_mean(tf.square(x - mean), 0)))

    @staticmethod
    def _move(statistic: object, value: tf.Tensor) -> None:
        statistic = compat.raw_variable(statistic)
        moved = statistic * _DECAY + value * (1.0 - _DECAY)
        statistic.assign(tf.where(tf.reduce_any(statistic != 0.0), moved, value))


class FeatureClassifier(keras.Model):
    """One depth-wise classifier per feature: embeddings [B, P_l, C_l] to Evidence.

    Args:
      channels: C_l of every feature.
      units: functions per channel.
      seed: seed of the weights.
    """

    def __init__(self, channels: Sequence[int], units: int = 8, seed: int = 0, name: str = "classifier") -> None:
        super().__init__(name=name)
        self.heads = [DepthwiseClassifier(count, units, seed * 1_000 + index, name=f"feature{index}")
                      for index, count in enumerate(channels)]
        self.built = True

    def call(self, embeddings: Sequence[tf.Tensor]) -> list[Evidence]:
        return [head(values) for head, values in zip(self.heads, embeddings)]
