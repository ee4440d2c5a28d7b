"""ODCR's patch projector: CUT's two-layer MLP with orthonormal kernels (CVPR 2024, eq. 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.convolution import seeds_from
from cut_tf.layers.orthogonal import OrthogonalDense, orthogonality_error
from cut_tf.networks.heads.patch_projector import sample_patches

# Of the running mean: it averages over about the last 20 steps, and so follows the embeddings while they are learned.
_DECAY = 0.95
# Far below the variance of useful features. It keeps the gradient of a channel that does not vary finite.
_LEAST_VARIANCE = 1e-6


class OrthogonalPatchProjector(keras.Model):
    """Patches [B, P, C_l] per feature to embeddings [B, P, width_l], in float32, not normalised.

    Both kernels of a feature stay on the Stiefel manifold, so directions that are orthogonal in the feature stay so in
    the first layer, and magnitudes are kept up to the ReLU. One projector serves hazy, clear and output patches.

    The mirrored RGB input (stage 0) has 3 channels: an orthonormal map into 256 dimensions spans 3 of them only, and
    253 channels of its embedding would be combinations of the same three numbers. A feature of fewer than
    `_LEAST_CHANNELS` channels therefore keeps its number of channels (3 to 3 to 3). ODCR can also leave it out
    (`--input_layer=exclude`).

    CUT's MLP learns to shrink the component that all patches have in common. An orthonormal map cannot, and with that
    component all embeddings would point the same way. So the running mean over hazy and clear patches is subtracted
    before each of the two maps. What only the hazy patches have in common remains.

    Args:
      channels: C_l of every feature, so that all weights exist before the first step.
      width: channels of both layers.
      seed: seed of the weights.
    """

    _LEAST_CHANNELS = 4

    def __init__(self, channels: Sequence[int], width: int = 256, seed: int = 0, name: str = "projector") -> None:
        super().__init__(name=name)
        seeds = seeds_from(seed)
        self.widths = [width if count >= self._LEAST_CHANNELS else count for count in channels]
        self.mlps = []
        self.centres = []
        for index, (count, out) in enumerate(zip(channels, self.widths)):
            mlp = [OrthogonalDense(out, next(seeds), "relu", name=f"feature{index}_dense1"),
                   OrthogonalDense(out, next(seeds), name=f"feature{index}_dense2")]
            mlp[0].build((None, None, count))
            mlp[1].build((None, None, out))
            self.mlps.append(mlp)
            self.centres.append((RunningCentre(count, name=f"feature{index}_centre1"),
                                 RunningCentre(out, name=f"feature{index}_centre2")))
        self.built = True

    def call(self, features: Sequence[tf.Tensor], patch_ids: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Samples and embeds patches.

        Args:
          features: [B, H_l, W_l, C_l] per layer.
          patch_ids: int32 [P_l] per layer, id = y * W + x.

        Returns:
          float32 [B, P_l, width_l] per layer.
        """
        embeddings = []
        for feature, ids, mlp, centres in zip(features, patch_ids, self.mlps, self.centres):
            hidden = mlp[0](centres[0](_patches(feature, ids)))
            embeddings.append(mlp[1](centres[1](hidden)))
        return embeddings

    def embed_content(self, features: Sequence[tf.Tensor], patch_ids: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The same maps of patches without the statistics of their own picture, in which its haze is.

        Instead of the running means, the mean of each picture's own patches is taken off before each of the two maps,
        and the features are divided by their deviation over these patches. So the result does not change if all
        patches of a picture become a x + b, with other a and b for every channel, as even haze makes it with pixels.

        Args:
          features: [B, H_l, W_l, C_l] per layer.
          patch_ids: int32 [P_l] per layer.

        Returns:
          float32 [B, P_l, width_l] per layer.
        """
        embeddings = []
        for feature, ids, mlp in zip(features, patch_ids, self.mlps):
            patches = _patches(feature, ids)
            mean, variance = tf.nn.moments(patches, [1], keepdims=True)
            hidden = mlp[0]((patches - mean) * tf.math.rsqrt(variance + _LEAST_VARIANCE))
            embeddings.append(mlp[1](hidden - tf.reduce_mean(hidden, 1, keepdims=True)))
        return embeddings

    def kernels(self) -> list[tf.Variable]:
        """The orthonormal kernels, feature by feature."""
        return [compat.raw_variable(layer.kernel) for mlp in self.mlps for layer in mlp]

    def orthogonality_error(self) -> tf.Tensor:
        """Largest max |K^T K - I| of all kernels: scalar."""
        return tf.reduce_max(tf.stack([orthogonality_error(tf.convert_to_tensor(kernel)) for kernel in self.kernels()]))

    def move_centres(self, parts: Sequence[tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]],
                     mean_over_replicas: Callable) -> None:
        """Updates the running means with the patches of a step, the same on every replica.

        Args:
          parts: (features, patch ids) as for `call`, of hazy and of clear images.
          mean_over_replicas: tensor to its mean over all replicas.
        """
        for layer, (mlp, centres) in enumerate(zip(self.mlps, self.centres)):
            patches = [_patches(features[layer], ids[layer]) for features, ids in parts]
            centres[0].move(patches, mean_over_replicas)
            centres[1].move([mlp[0](centres[0](values)) for values in patches], mean_over_replicas)


class RunningCentre(keras.layers.Layer):
    """Subtracts the running mean from [..., C], in float32."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.mean = self.add_weight(name="mean", shape=(channels,), initializer="zeros", trainable=False)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs - self.mean

    def move(self, parts: Sequence[tf.Tensor], mean_over_replicas: Callable) -> None:
        """Updates the mean with that of all parts [B, P, C], which count the same. The first call sets it."""
        value = mean_over_replicas(tf.add_n([tf.reduce_mean(part, [0, 1]) for part in parts]) / len(parts))
        mean = compat.raw_variable(self.mean)
        mean.assign(tf.where(tf.reduce_any(mean != 0.0), mean * _DECAY + value * (1.0 - _DECAY), value))


def _patches(feature: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    return tf.cast(sample_patches(feature, ids), tf.float32)
