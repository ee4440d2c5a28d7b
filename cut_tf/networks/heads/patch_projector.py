"""The patch projector of CUT (H in the paper, netF in the official code) and the sampling of patches."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from cut_tf.layers.convolution import seeds_from, xavier_normal

# Added to the norm, not to its square, as in the official code. With its initialisation embeddings are so small that
# this matters.
_NORM_EPSILON = 1e-7


def sample_patches(features: tf.Tensor, patch_ids: tf.Tensor) -> tf.Tensor:
    """Takes the patches at the same places from every image.

    Args:
      features: [B, H, W, C].
      patch_ids: int32 [P], id = y * W + x.

    Returns:
      [B, P, C] in the order of the ids.
    """
    shape = tf.shape(features)
    flat = tf.reshape(features, [shape[0], shape[1] * shape[2], features.shape[-1]])
    return tf.gather(flat, patch_ids, axis=1)


def draw_patch_ids(locations: tf.Tensor, num_patches: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws min(num_patches, locations) different patch ids.

    Args:
      locations: H * W of the feature.
      num_patches: P.
      seed: int [2]; the same seed draws the same ids, on every replica.

    Returns:
      int32 [P].
    """
    # The places of the largest of uniform random numbers are a draw without replacement, which XLA can compile.
    uniform = tf.random.stateless_uniform([locations], seed, alg="philox")
    return tf.math.top_k(uniform, tf.minimum(num_patches, locations)).indices


def normalise(embeddings: tf.Tensor) -> tf.Tensor:
    """x / (|x| + 1e-7) over the last axis."""
    square = tf.reduce_sum(tf.square(embeddings), axis=-1, keepdims=True)
    # At 0 the square root has no finite gradient. The floor is far below _NORM_EPSILON squared, so it changes no value.
    length = tf.sqrt(tf.maximum(square, 1e-30))
    return embeddings / (length + _NORM_EPSILON)


class PatchProjector(keras.Model):
    """A two-layer MLP per feature: patches [B, P, C_l] to unit vectors [B, P, width], in float32.

    Args:
      channels: C_l of every feature, so that all weights exist before the first step.
      width: channels of both layers.
      seed: seed of the weights.
      use_mlp: without it patches are only normalised and keep their C_l channels.
    """

    def __init__(self, channels: Sequence[int], width: int = 256, seed: int = 0, use_mlp: bool = True,
                 name: str = "projector") -> None:
        super().__init__(name=name)
        seeds = seeds_from(seed)
        self.mlps = []
        for index, feature_channels in enumerate(channels if use_mlp else []):
            mlp = [keras.layers.Dense(width, activation="relu", kernel_initializer=xavier_normal(next(seeds)),
                                      name=f"feature{index}_dense1", dtype="float32"),
                   keras.layers.Dense(width, kernel_initializer=xavier_normal(next(seeds)),
                                      name=f"feature{index}_dense2", dtype="float32")]
            mlp[0].build((None, None, feature_channels))
            mlp[1].build((None, None, width))
            self.mlps.append(mlp)
        self._use_mlp = use_mlp
        self.widths = [width if use_mlp else feature_channels for feature_channels in channels]
        self.built = True

    def call(self, features: Sequence[tf.Tensor], patch_ids: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Samples and embeds patches.

        Args:
          features: [B, H_l, W_l, C_l] per layer.
          patch_ids: int32 [P_l] per layer.

        Returns:
          [B, P_l, width] per layer, each vector of length 1.
        """
        return [self.embed(index, sample_patches(feature, ids))
                for index, (feature, ids) in enumerate(zip(features, patch_ids))]

    def embed(self, index: int, patches: tf.Tensor) -> tf.Tensor:
        """Embeds patches [B, P, C] of feature number `index`."""
        hidden = tf.cast(patches, tf.float32)
        if self._use_mlp:
            first, second = self.mlps[index]
            hidden = second(first(hidden))
        return normalise(hidden)
