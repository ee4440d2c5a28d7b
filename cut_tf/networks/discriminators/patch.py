"""The PatchGAN discriminator (Isola et al., CVPR 2017), with anti-aliased downsampling as in CUT's official code."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.layers.blur_pool import BlurDown
from cut_tf.layers.convolution import Convolution, seeds_from
from cut_tf.layers.norm import InstanceNorm, build_norm, conv_has_bias
from cut_tf.settings import Settings

_KERNEL_PX = 4
_LEAK = 0.2
_MAX_WIDENING = 8


class PatchDiscriminator(keras.Model):
    """[B, H, W, 3] in [-1, 1] to raw scores [B, h, w, 1], one per overlapping patch (70x70 pixels with 3 layers).

    Args:
      settings: width (ndf), number of downsampling layers, norm and anti-aliasing.
      seed: seed of the weights.
      dtype: Keras dtype policy. Scores are float32.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "discriminator") -> None:
        super().__init__(name=name)
        self._settings = settings
        self._policy = dtype
        seeds = seeds_from(seed)
        layers = self._convolution("conv1", settings.discriminator.ndf, seeds, downsample=True, norm=False)
        for number in range(2, settings.patchgan.discriminator_layers + 2):
            filters = settings.discriminator.ndf * min(2 ** (number - 1), _MAX_WIDENING)
            downsample = number <= settings.patchgan.discriminator_layers
            layers += self._convolution(f"conv{number}", filters, seeds, downsample, norm=True)
        layers.append(Convolution(1, _KERNEL_PX, seed=next(seeds), padding_px=1, name="score", dtype=dtype,
                                  spectral_norm=settings.patchgan.discriminator_norm == "spectral"))
        # In the order and with the numbering of the official sequence.
        self.stage_layers = layers

    def _convolution(self, name: str, filters: int, seeds: object, downsample: bool,
                     norm: bool) -> list[keras.layers.Layer]:
        settings, policy = self._settings, self._policy
        blur = downsample and settings.antialias.antialias_down
        bias = conv_has_bias(settings.patchgan.discriminator_norm) or not norm
        layers = [Convolution(filters, _KERNEL_PX, seed=next(seeds), stride_px=2 if downsample and not blur else 1,
                              padding_px=1, use_bias=bias, name=name, dtype=policy,
                              spectral_norm=settings.patchgan.discriminator_norm == "spectral")]
        if norm:
            layers.append(build_norm(settings.patchgan.discriminator_norm, f"{name}_norm", policy))
        layers.append(keras.layers.Activation(_leaky_relu, name=f"{name}_leaky_relu", dtype=policy))
        if blur:
            layers.append(BlurDown(name=f"{name}_blur", dtype=policy))
        return layers

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        for layer in self.stage_layers:
            layer.build((None, None, None, channels))
            channels = layer.filters if isinstance(layer, Convolution) else channels
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        hidden = images
        for layer, following in zip(self.stage_layers, [*self.stage_layers[1:], None]):
            if isinstance(layer, Convolution):
                hidden = layer(hidden, training=training, adds_bias=not isinstance(following, InstanceNorm))
            elif layer.name.endswith("_norm"):
                hidden = layer(hidden, training=training)
            else:
                hidden = layer(hidden)
        return tf.cast(hidden, tf.float32)


def _leaky_relu(inputs: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(inputs, _LEAK)
