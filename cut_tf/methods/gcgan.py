"""GcGAN: geometry-consistent GAN for one-sided unsupervised domain mapping (Fu et al., CVPR 2019)."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.methods import pooled

_TRANSFORMED_DISCRIMINATOR_SEED = 5


def transform(images: tf.Tensor, geometry: str, inverse: bool = False) -> tf.Tensor:
    """The paper's f, or its inverse, on [B, H, W, C]: a quarter turn clockwise (rot90) or upside down (vflip)."""
    if geometry == "vflip":
        return tf.reverse(images, [1])
    return tf.reverse(tf.transpose(images, [0, 2, 1, 3]), [1 if inverse else 2])


class GcGAN(pooled.PooledMethod):
    """One generator for images as they are and transformed by f, and a discriminator for each kind.

    L = gan_weight (L_GAN(G(x)) + L_GAN(G(f(x)))) + geometry_weight mean |G(x) - f^-1(G(f(x)))|
      + l1_identity_weight (mean |G(y) - y| + mean |G(f(y)) - f(y)|).

    The paper's L_geo is the sum of the difference before f and of that after f, which are equal. In the official code
    each of the two has a gradient on one side only. So its gradient is that of the single difference here, and its
    value is twice as large. The authors share the weights of the two translators, as here, except for horse2zebra.
    Their code gives L_geo the weight 20 and the identity terms 5. As here, it follows CycleGAN in the order of updates
    and in the pools of outputs.
    """

    progress_terms = ("loss/generator", "loss/discriminator", "loss/geometry")
    discriminators = ("discriminator", "transformed_discriminator")

    def _build_networks(self) -> dict[str, keras.Model]:
        return {"generator": self._new_generator("generator"), "discriminator": self._new_discriminator(),
                "transformed_discriminator": self._new_discriminator(_TRANSFORMED_DISCRIMINATOR_SEED)}

    def _objective(self, batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor],
                                                               dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        settings, source, target = self.settings, batch["source"], batch["target"]
        transformed_target = transform(target, settings.gcgan.geometry)
        parts = [source, transform(source, settings.gcgan.geometry)]
        if settings.identity.l1_identity_weight:
            parts += [target, transformed_target]
        fake, transformed_fake, *same = self._translate("generator", parts)
        turned_back = transform(transformed_fake, settings.gcgan.geometry, inverse=True)
        terms = {"loss/gan": self._gan_term(fake),
                 "loss/transformed_gan": self._gan_term(transformed_fake, "transformed_discriminator"),
                 "loss/geometry": settings.gcgan.geometry_weight * pooled.l1(fake, turned_back)}
        if same:
            terms["loss/l1_identity"] = settings.identity.l1_identity_weight * (
                pooled.l1(same[0], target) + pooled.l1(same[1], transformed_target))
        return terms, {"discriminator": (target, fake),
                       "transformed_discriminator": (transformed_target, transformed_fake)}
