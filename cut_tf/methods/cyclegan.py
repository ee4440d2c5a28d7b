"""CycleGAN: unpaired translation with cycle-consistent adversarial networks (Zhu et al., ICCV 2017)."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.methods import pooled

# Offsets between the networks' seeds, after those of unpaired.py.
_BACKWARD_GENERATOR_SEED, _BACKWARD_DISCRIMINATOR_SEED = 4, 5


class CycleGAN(pooled.PooledMethod):
    """Two generators and two discriminators; the objective of eq. 3 with the identity term of section 5.2.

    With G ("generator") from source x to target y, F ("backward_generator") back, and their discriminators:
    L = gan_weight (L_GAN(G) + L_GAN(F)) + cycle_weight (mean |F(G(x)) - x| + mean |G(F(y)) - y|)   (eq. 1, 2)
      + cycle_weight cycle_identity_weight (mean |G(y) - y| + mean |F(x) - x|).

    Running means, evaluation and export use G. Each network has an Adam of its own. The official code has one for both
    generators and one for both discriminators, which makes the same updates.
    """

    progress_terms = ("loss/generator", "loss/discriminator", "loss/cycle_source")
    generators = ("generator", "backward_generator")
    discriminators = ("discriminator", "backward_discriminator")

    def _build_networks(self) -> dict[str, keras.Model]:
        return {"generator": self._new_generator("generator"), "discriminator": self._new_discriminator(),
                "backward_generator": self._new_generator("backward_generator", _BACKWARD_GENERATOR_SEED),
                "backward_discriminator": self._new_discriminator(_BACKWARD_DISCRIMINATOR_SEED)}

    def _objective(self, batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor],
                                                               dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        settings, source, target = self.settings, batch["source"], batch["target"]
        identity_weight = settings.cyclegan.cycle_weight * settings.cyclegan.cycle_identity_weight
        # Images to translate and images that should stay the same go through a generator as one batch.
        fake_target, *same_target = self._translate("generator", [source, target] if identity_weight else [source])
        fake_source, *same_source = self._translate("backward_generator",
                                                    [target, source] if identity_weight else [target])
        terms = {"loss/gan": self._gan_term(fake_target),
                 "loss/backward_gan": self._gan_term(fake_source, "backward_discriminator")}
        if settings.cyclegan.cycle_weight:
            cycled_source = self.networks["backward_generator"](fake_target, training=True)
            cycled_target = self.networks["generator"](fake_source, training=True)
            terms["loss/cycle_source"] = settings.cyclegan.cycle_weight * pooled.l1(cycled_source, source)
            terms["loss/cycle_target"] = settings.cyclegan.cycle_weight * pooled.l1(cycled_target, target)
        if identity_weight:
            terms["loss/identity_source"] = identity_weight * pooled.l1(same_source[0], source)
            terms["loss/identity_target"] = identity_weight * pooled.l1(same_target[0], target)
        return terms, {"discriminator": (target, fake_target), "backward_discriminator": (source, fake_source)}
