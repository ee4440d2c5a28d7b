"""Common parts of unpaired methods: generators and discriminators with their seeds, adversarial terms, updates."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import networks
from cut_tf.losses import adversarial, gradient_penalty
from cut_tf.methods import base, replicas

# Offsets of the networks' seeds, see SEEDS_PER_RUN.
GENERATOR_SEED, DISCRIMINATOR_SEED = 0, 1
# Purposes of random draws of the first discriminator, see TranslationMethod.draw_seed. Each further discriminator adds
# _PURPOSES_PER_DISCRIMINATOR.
PENALTY_MIX, POOL_SWAP, POOL_SLOT = 1, 2, 3
_PURPOSES_PER_DISCRIMINATOR = 10


class UnpairedMethod(base.TranslationMethod):
    """Base of the methods that learn from unpaired images with one discriminator or several.

    Attributes:
      discriminators: names of the discriminators among `networks`.
    """

    discriminators: tuple[str, ...] = ("discriminator",)

    def _new_generator(self, name: str, seed_offset: int = GENERATOR_SEED) -> keras.Model:
        seed = self.settings.train.seed * base.SEEDS_PER_RUN + seed_offset
        return networks.build_generator(self.settings, seed, self.policy, name)

    def _new_discriminator(self, seed_offset: int = DISCRIMINATOR_SEED) -> keras.Model:
        seed = self.settings.train.seed * base.SEEDS_PER_RUN + seed_offset
        return networks.build_discriminator(self.settings, seed, self.policy)

    def discriminator_seed(self, purpose: int, discriminator: str) -> tf.Tensor:
        """`draw_seed` for one of several discriminators."""
        return self.draw_seed(purpose + _PURPOSES_PER_DISCRIMINATOR * self.discriminators.index(discriminator))

    def _one_pass_for(self, parts: list[tf.Tensor]) -> bool:
        """Whether source and target go through the generator as one batch, which is faster."""
        return len(parts) > 1 and self.settings.data.preprocess != "none"

    def _gan_term(self, fake: tf.Tensor, name: str = "discriminator") -> tf.Tensor:
        """Weighted adversarial loss of a generator whose output is `fake`: a scalar."""
        settings, scores = self.settings, self.networks[name](fake, training=True)
        return settings.gan.gan_weight * adversarial.adversarial_generator_loss(settings.gan.gan_mode, scores)

    def _update_discriminator(self, real: tf.Tensor, fake: tf.Tensor,
                              name: str = "discriminator") -> dict[str, tf.Tensor]:
        """One step of a discriminator on half the sum of its losses, and R1; images [B, H, W, 3] in [-1, 1] each.

        Returns:
          `loss/<name>_real`, `loss/<name>_fake`, `loss/<name>`; the norm of its gradient and so on.
        """
        settings, discriminator = self.settings, self.networks[name]
        with tf.GradientTape() as tape:
            terms, total = {}, 0.0
            if settings.gan.r1_weight:
                real_scores, penalty = gradient_penalty.r1_penalty(
                    lambda pictures: discriminator(pictures, training=True), real, self.loss_scaling.scale)
                total = terms[f"loss/{name.replace('discriminator', 'r1')}"] = settings.gan.r1_weight * penalty
            else:
                real_scores = discriminator(real, training=True)
            on_real, on_fake = adversarial.adversarial_discriminator_loss(
                settings.gan.gan_mode, real_scores, discriminator(fake, training=True))
            total += (on_real + on_fake) / 2.0
            terms.update({f"loss/{name}_real": on_real, f"loss/{name}_fake": on_fake})
            if settings.gan.gan_mode == "wgangp" and settings.gan.gradient_penalty_weight:
                penalty = settings.gan.gradient_penalty_weight * gradient_penalty.gradient_penalty(
                    lambda pictures: discriminator(pictures, training=True), real, fake, self._penalty_mix(fake, name),
                    self.loss_scaling.scale)
                total += penalty
                terms[f"loss/{name.replace('discriminator', 'gradient_penalty')}"] = penalty
            scaled = self.scale(total)
        terms[f"loss/{name}"] = total
        terms.update(self.update_networks([name], tape, scaled))
        return terms

    def _penalty_mix(self, fake: tf.Tensor, name: str) -> tf.Tensor:
        """[B, 1, 1, 1] in [0, 1]: this replica's part of a draw for the global batch."""
        seed = self.discriminator_seed(PENALTY_MIX, name)
        whole_batch = tf.shape(fake)[0] * replicas.replica_count()
        return replicas.own_part(tf.random.stateless_uniform([whole_batch, 1, 1, 1], seed, alg="philox"))
