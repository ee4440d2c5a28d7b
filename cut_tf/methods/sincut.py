"""SinCUT: translation learned from one picture of each domain (Park et al., ECCV 2020, section 4.4)."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.methods import cut, replicas

# Purposes of random draws of noise: ten per part of the batch, one for each doubling of the resolution (at most 8).
# They come after those of the patch ids in cut.py.
_FIRST_NOISE, _NOISES_PER_PART = 400, 10


class SinCUT(cut.CUT):
    """CUT with a StyleGAN2-style generator, whose full passes get fresh noise in each step.

    Everything else is in the settings of `cut_tf/flagfiles/sincut_monet_etretat.flags`: random crops of one picture per
    domain, the StyleGAN2-style discriminator with R1, a non-saturating GAN, negatives of the whole minibatch, and L1
    identity. The features that PatchNCE compares come from the encoder, which has no noise.
    """

    def _build_networks(self) -> dict[str, keras.Model]:
        generator = self.settings.generator.generator
        if generator != "stylegan2":
            raise InputError(f"--generator must be stylegan2 with --method=sincut, found {generator}")
        return super()._build_networks()

    def _full_pass(self, parts: list[tf.Tensor], draws: cut.Draws | None,
                   first_part: int = 0) -> tuple[tf.Tensor, list[tf.Tensor]]:
        if draws is None:
            per_part = [self._draw_noise(part, _FIRST_NOISE + number * _NOISES_PER_PART)
                        for number, part in enumerate(parts, first_part)]
            noise = [tf.concat(same_size, 0) for same_size in zip(*per_part)]
        else:
            noise = draws.noise
        return self.generator.translate_with_features(tf.concat(parts, 0), self.layers_compared, training=True,
                                                      noise=noise)

    def _draw_noise(self, images: tf.Tensor, purpose: int) -> list[tf.Tensor]:
        """N(0, 1) for a part's images [B, H, W, 3], float32 [B, h, w, 1] per doubling of the resolution."""
        return [replicas.own_part(tf.random.stateless_normal([batch * replicas.replica_count(), *rest],
                                                         self.draw_seed(purpose + index), alg="philox"))
                for index, (batch, *rest) in enumerate(self.generator.noise_shapes(images))]
