"""The StyleGAN2-style generator of SinCUT (Park et al., ECCV 2020, section 4.4; details as in its official code)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.layers.convolution import seeds_from
from cut_tf.layers.padding import crop_to, fit_to, pad_to_multiple
from cut_tf.layers.stylegan2 import EqualisedConvolution, ResidualBlock, StyledUpConvolution
from cut_tf.networks.generators.base import Generator, NumberedStage
from cut_tf.settings import Settings

_SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def check_size(size_px: int, least_px: int) -> None:
    """Raises InputError unless `size_px` is a power of two from `least_px` to 1024."""
    allowed = [size for size in _SIZES if size >= least_px]
    if size_px not in allowed:
        raise InputError(f"--stylegan2_size_px must be one of {', '.join(map(str, allowed))} here, found {size_px}")


class StyleGAN2Generator(Generator):
    """Translates [B, H, W, 3] in [-1, 1] to the same shape, for any H, W of at least 16.

    The output is not limited to [-1, 1]: its last layer is a leaky ReLU, as in the official code. Pictures are padded
    by mirroring to multiples of 2 ** downsamplings, and the result is cropped. With odd_sizes=official layers round odd
    sides down instead, and the result's last row and column are repeated. There are no norms, so a pixel depends on
    nothing beyond `reach_px`, and large pictures can be translated in tiles with the same result.

    Stages, for --nce_layers: 0 the RGB input; 1 a 1x1 convolution; one per halving of the resolution; one per residual
    block of the encoder, which has half of `generator_blocks`, rounded down. The decoder has the rest.

    Training draws noise and passes it as an argument. Without it the noise is zero, its mean, so that inference is
    deterministic.

    Args:
      settings: width (ngf), number of blocks (6 in the official code), halvings, `stylegan2_size_px`.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.

    Raises:
      InputError: for sizes and widths that the official table of channels does not cover.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "generator") -> None:
        super().__init__(settings, seed, dtype, name)
        size, halvings = settings.stylegan2.stylegan2_size_px, settings.stylegan2.stylegan2_downsamplings
        self._multiple_px = 2**halvings
        self._mirrors_odd_sizes = settings.sizes.odd_sizes == "mirror"
        check_size(size, _SIZES[0] * self._multiple_px)
        widths = [_channels(settings.generator.ngf, size // 2**number) for number in range(halvings + 1)]
        blocks, seeds = settings.generator.generator_blocks, seeds_from(seed)

        def block(label: str, channels: int, filters: int, downsample: bool = False) -> ResidualBlock:
            return ResidualBlock(channels, filters, (next(seeds), next(seeds), next(seeds)), label, dtype, downsample)

        def pointwise(label: str, filters: int) -> EqualisedConvolution:
            return EqualisedConvolution(filters, 1, seed=next(seeds), name=label, dtype=dtype)

        self.encoder = [
            pointwise("stem", widths[0]),
            *(block(f"down{number}", *widths[number - 1:number + 1], downsample=True)
              for number in range(1, halvings + 1)),
            *(block(f"block{number}", widths[-1], widths[-1]) for number in range(1, blocks // 2 + 1))]
        self.decoder_blocks = [block(f"block{number}", widths[-1], widths[-1])
                               for number in range(blocks // 2 + 1, blocks + 1)]
        self.ups = [StyledUpConvolution(filters, seed=next(seeds), name=f"up{number}", dtype=dtype)
                    for number, filters in enumerate(reversed(widths[:-1]), 1)]
        self.output_layer = pointwise("output", 3)
        self._channels = [3, *widths, *[widths[-1]] * (blocks // 2)]
        # The reach of all 3x3 convolutions and blurs, in pixels of the picture.
        reach = 8 * (self._multiple_px - 1) + 2 * blocks * self._multiple_px
        self.reach_px = -(-reach // self._multiple_px) * self._multiple_px

    def build(self, input_shape: tuple) -> None:
        layers = [*zip(self.encoder, [input_shape[-1], *self._channels[1:]])]
        layers += [(layer, self._channels[-1]) for layer in self.decoder_blocks]
        layers += zip([*self.ups, self.output_layer], self._channels[len(self.ups) + 1:0:-1])
        for layer, channels in layers:
            layer.build((None, None, None, channels))
        self.built = True

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None,
                                noise: Sequence[tf.Tensor] = ()) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Translates, and returns also the features that `encode` gives for the same images.

        Args:
          images: [B, H, W, 3] in [-1, 1].
          layers: stage numbers, growing.
          training: not used. Part of the contract of generators.
          noise: [B, h, w, 1] per doubling of the resolution, as `noise_shapes` says; without any, zeros.

        Returns:
          The translation, float32 [B, H, W, 3], and one feature map [B, H_l, W_l, C_l] per layer.
        """
        del training
        images = tf.convert_to_tensor(images)
        features = self._encode(images, len(self.encoder) + 1)
        hidden = features[-1]
        for layer in self.decoder_blocks:
            hidden = layer(hidden)
        for index, layer in enumerate(self.ups):
            hidden = layer(hidden, noise=noise[index] if noise else None)
        output = tf.cast(self.output_layer(hidden), tf.float32)
        output = crop_to(output, images) if self._mirrors_odd_sizes else fit_to(output, images)
        return output, [features[layer] for layer in layers]

    def noise_shapes(self, images: tf.Tensor) -> list[list]:
        """Shape [B, h, w, 1] of the noise of every doubling, for images [B, H, W, 3]. Entries are ints or tensors."""
        shape = tf.shape(images)
        batch, *sides = (fixed or shape[axis] for axis, fixed in enumerate(images.shape[:3]))
        added = self._multiple_px - 1 if self._mirrors_odd_sizes else 0
        sides = [(side + added) // self._multiple_px * self._multiple_px for side in sides]
        return [[batch, *(side // 2**number for side in sides), 1] for number in reversed(range(len(self.ups)))]

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """As in the base class. Computes no stage after the last layer."""
        del training
        features = self._encode(tf.convert_to_tensor(images), layers[-1] + 1)
        return [features[layer] for layer in layers]

    def _encode(self, images: tf.Tensor, stop: int) -> list[tf.Tensor]:
        """Features of the first `stop` stages."""
        features = [pad_to_multiple(images, self._multiple_px) if self._mirrors_odd_sizes else images]
        for layer in self.encoder[:stop - 1]:
            features.append(layer(features[-1]))
        return features

    def numbered_stages(self) -> list[NumberedStage]:
        names = ["input", *(layer.name for layer in self.encoder)]
        return [NumberedStage(*stage) for stage in zip(names, self._channels)]


def _channels(ngf: int, resolution_px: int) -> int:
    """The official table: each doubling of the resolution halves the channels; at most 512 channels, up to 32 px."""
    channels = round(ngf / 32 * 16384 / resolution_px)
    if channels < 1:
        raise InputError(f"--ngf must be higher with --stylegan2_size_px={resolution_px}, which leaves no channel, "
                         f"found {ngf}")
    return min(channels, 512) if resolution_px <= 32 else channels
