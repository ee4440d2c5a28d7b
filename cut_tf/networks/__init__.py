"""Networks by name, and their construction from settings."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import registry
from cut_tf.networks.patch_discriminator import PatchDiscriminator
from cut_tf.networks.resnet_generator import ResnetGenerator
from cut_tf.settings import NetworkSettings

# --precision to Keras dtype policy.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
GENERATORS = {"resnet": ResnetGenerator}
# Any size that every network accepts; weights do not depend on it.
_BUILD_SIDE_PX = 64


def build_generator(settings: NetworkSettings, seed: int = 0, dtype: str = "float32",
                    name: str = "generator") -> keras.Model:
    """The generator named by `settings.generator`, with its weights made."""
    return _with_weights(registry.lookup(GENERATORS, settings.generator, "--generator")(settings, seed, dtype, name))


def build_discriminator(settings: NetworkSettings, seed: int = 0, dtype: str = "float32") -> keras.Model:
    """The PatchGAN discriminator, with its weights made."""
    return _with_weights(PatchDiscriminator(settings, seed, dtype))


def _with_weights(network: keras.Model) -> keras.Model:
    network(tf.zeros([1, _BUILD_SIDE_PX, _BUILD_SIDE_PX, 3]))
    return network
