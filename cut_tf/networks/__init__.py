"""Networks by name, and their construction from settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cut_tf.common import registry
from cut_tf.common.registry import Row
from cut_tf.settings import Settings

if TYPE_CHECKING:
    import keras

# Value of --precision to the name of the Keras dtype policy.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
GENERATORS = {
    "resnet": Row("cut_tf.networks.generators.resnet:ResnetGenerator", "that of the papers",
                  ("generator.*", "resnet.*", "sizes.*", "antialias.*")),
    "mobile": Row("cut_tf.networks.generators.mobile:MobileGenerator", "light, for phones",
                  ("generator.*", "mobile.*", "details.*")),
    "stylegan2": Row("cut_tf.networks.generators.stylegan2:StyleGAN2Generator", "that of SinCUT",
                     ("ngf", "generator_blocks", "stylegan2.*", "sizes.*")),
    "aecrnet": Row("cut_tf.networks.generators.aecrnet:AECRNet", "that of AECR-Net, without norms",
                   ("ngf", "aecrnet.*")),
    "gunet": Row("cut_tf.networks.generators.gunet:GUNet", "for dehazing: gated depthwise convolutions, no norms",
                 ("ngf", "generator_blocks", "gunet.*", "details.*")),
}
DISCRIMINATORS = {
    "patch": Row("cut_tf.networks.discriminators.patch:PatchDiscriminator", "the PatchGAN",
                 ("ndf", "patchgan.*", "antialias_down")),
    "stylegan2": Row("cut_tf.networks.discriminators.stylegan2:StyleGAN2Discriminator",
                     "that of SinCUT, one score per picture", ("ndf", "stylegan2_size_px")),
}


def build_generator(settings: Settings, seed: int = 0, dtype: str = "float32",
                    name: str = "generator") -> keras.Model:
    """The generator named by --generator, with its weights made."""
    network = registry.lookup(GENERATORS, settings.generator.generator, "--generator")
    return _with_weights(network(settings, seed, dtype, name))


def build_discriminator(settings: Settings, seed: int = 0, dtype: str = "float32") -> keras.Model:
    """The discriminator named by --discriminator, with its weights made."""
    network = registry.lookup(DISCRIMINATORS, settings.discriminator.discriminator, "--discriminator")
    return _with_weights(network(settings, seed, dtype))


def _with_weights(network: keras.Model) -> keras.Model:
    network.build((None, None, None, 3))
    return network
