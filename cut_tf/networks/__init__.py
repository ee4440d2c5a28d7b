"""Networks by name, and their construction from settings."""

from __future__ import annotations

import keras

from cut_tf import registry
from cut_tf.layers.kernels import plain_kernels as plain_kernels
from cut_tf.networks.discriminators.patch import PatchDiscriminator
from cut_tf.networks.discriminators.stylegan2 import StyleGAN2Discriminator
from cut_tf.networks.generators.aecrnet import AECRNet
from cut_tf.networks.generators.mobile import MobileGenerator
from cut_tf.networks.generators.resnet import ResnetGenerator
from cut_tf.networks.generators.stylegan2 import StyleGAN2Generator
from cut_tf.settings import Settings

# --precision to Keras dtype policy.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
GENERATORS = {"resnet": ResnetGenerator, "mobile": MobileGenerator, "stylegan2": StyleGAN2Generator,
              "aecrnet": AECRNet}
DISCRIMINATORS = {"patch": PatchDiscriminator, "stylegan2": StyleGAN2Discriminator}


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
