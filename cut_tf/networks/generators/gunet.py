"""A U-Net of gated depthwise convolutions for dehazing, after gUNet (Song et al., arXiv 2209.11448, variant T).

Residual blocks x + P(D(V x) * sigmoid(G x)) with 1x1 convolutions V, G, P and a depthwise 5x5 convolution D; skips are
mixed into the decoder by selective kernel fusion. What differs from the paper: the first level works at half of the
resolution, where a CPU needs half of the time; upsampling is bilinear, which leaves no pattern on skies; there are no
norms, whose place small branches take; borders are repeated.

The output is the soft reconstruction K x - B + x: haze is I = J t + A (1 - t), so that J = K I - B + I with
K = 1 / t - 1 and B = A (1 / t - 1). Both are 0 in the beginning, where the output is the input. With
--gunet_maps=smooth they have half of the resolution and are enlarged: a discriminator then finds no grid of pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from cut_tf.layers.blur_pool import BlurUp
from cut_tf.layers.convolution import Convolution, seeds_from
from cut_tf.layers.depthwise import DepthwiseConvolution
from cut_tf.layers.faint_details import faint_excess
from cut_tf.layers.limit import limit
from cut_tf.layers.padding import crop_to, pad_to_multiple, repeat_borders
from cut_tf.layers.portable import mean_over_pixels
from cut_tf.networks.generators.base import Generator, NumberedStage
from cut_tf.settings import Settings

_LEVELS = 3
_MULTIPLE_PX = 2**_LEVELS
_DEPTHWISE_PX = 5
# Channels of the hidden layer of a fusion, as a share of those that it weighs.
_FUSION_REDUCTION = 8
# K and B of a pixel: one value and three.
_MAPS = 4
# Of a block's branch: without norms, branches that are added start small.
_BRANCH_GAIN = 0.5


def _gain(inputs: int, filters: int) -> float:
    """The gain with which Xavier's variance is 1 / fan in, which keeps the size of signals where there are no norms."""
    return ((inputs + filters) / (2 * inputs))**0.5


class GatedBlock(keras.layers.Layer):
    """x + P(D(V x) * sigmoid(G x)): [B, H, W, C] to the same shape (gUNet, section 3)."""

    def __init__(self, filters: int, seeds: Iterator[int], name: str, dtype: str) -> None:
        super().__init__(name=name, dtype=dtype)

        def pointwise(label: str, gain: float, use_bias: bool = True) -> Convolution:
            return Convolution(filters, 1, seed=next(seeds), use_bias=use_bias, gain=gain, name=f"{name}_{label}",
                               dtype=dtype)

        # A bias before the depthwise convolution is one after it.
        self.value = pointwise("value", 1.0, use_bias=False)
        self.depthwise = DepthwiseConvolution(_DEPTHWISE_PX, seed=next(seeds), name=f"{name}_depthwise", dtype=dtype)
        self.gate, self.branch = pointwise("gate", 1.0), pointwise("branch", _BRANCH_GAIN)

    def build(self, input_shape: tuple) -> None:
        for layer in (self.value, self.depthwise, self.gate, self.branch):
            layer.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + self.branch(self.depthwise(self.value(inputs)) * tf.sigmoid(self.gate(inputs)))


class Fusion(keras.layers.Layer):
    """w * skip + (1 - w) * hidden, w per channel from the mean of both over the picture: twice [B, H, W, C].

    The selective kernel fusion of gUNet and DehazeFormer (Song et al., TIP 2023), whose softmax over two is a sigmoid.
    """

    def __init__(self, filters: int, seeds: Iterator[int], name: str, dtype: str) -> None:
        super().__init__(name=name, dtype=dtype)
        hidden = max(filters // _FUSION_REDUCTION, 4)
        self.squeeze = Convolution(hidden, 1, seed=next(seeds), gain=_gain(filters, hidden), name=f"{name}_squeeze",
                                   dtype=dtype)
        self.weigh = Convolution(filters, 1, seed=next(seeds), gain=_gain(hidden, filters), name=f"{name}_weigh",
                                 dtype=dtype)

    def build(self, input_shape: tuple) -> None:
        self.squeeze.build(input_shape)
        self.weigh.build((None, None, None, self.squeeze.filters))
        self.built = True

    def call(self, skip: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        pooled = mean_over_pixels(skip + hidden)
        share = tf.sigmoid(self.weigh(tf.nn.relu(self.squeeze(pooled))))
        return hidden + share * (skip - hidden)


class GUNet(Generator):
    """Translates [B, H, W, 3] in [-1, 1] to the same shape and range, for any H, W of at least 16.

    Sizes that are not a multiple of 8 are mirrored up to one and cropped back. Stages, for --nce_layers: 0 the RGB
    input; then, at a half, a quarter and an eighth of the resolution with ngf, 2 ngf and 4 ngf channels, a convolution
    that halves it and the blocks: generator_blocks, at an eighth twice as many.

    Args:
      settings: width (ngf) and number of blocks at each level; 48 and 2 make 744,466 weights.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "generator") -> None:
        super().__init__(settings, seed, dtype, name)
        seeds, count = seeds_from(seed), settings.generator.generator_blocks
        widths = [settings.generator.ngf * 2**level for level in range(_LEVELS)]

        def conv(label: str, inputs: int, filters: int, kernel_px: int, stride_px: int = 1) -> Convolution:
            return Convolution(filters, kernel_px, seed=next(seeds), stride_px=stride_px, gain=_gain(inputs, filters),
                               name=label, dtype=dtype)

        def blocks(label: str, filters: int, number: int) -> list[GatedBlock]:
            return [GatedBlock(filters, seeds, f"{label}_block{index}", dtype) for index in range(1, number + 1)]

        self.downs = [conv(f"down{level}", inputs, filters, 2, 2)
                      for level, (inputs, filters) in enumerate(zip([3, *widths], widths), 1)]
        self.encoder = [blocks(f"encoder{level}", filters, count * (2 if level == _LEVELS else 1))
                        for level, filters in enumerate(widths, 1)]
        self.ups, self.fusions, self.decoder = [], [], []
        for level in range(_LEVELS - 1, 0, -1):
            filters = widths[level - 1]
            self.ups.append(conv(f"up{level}", 2 * filters, filters, 1))
            self.fusions.append(Fusion(filters, seeds, f"fusion{level}", dtype))
            self.decoder.append(blocks(f"decoder{level}", filters, count))
        self.enlarge = BlurUp(name="enlarge", dtype=dtype)
        self._smooth = settings.gunet.gunet_maps == "smooth"
        self._enlarge_maps = BlurUp(name="enlarge_maps", dtype="float32")
        self.head = Convolution(_MAPS * (1 if self._smooth else 4), 3, seed=next(seeds), name="head", dtype=dtype)
        self._faint_levels = settings.details.faint_levels
        self._widths = widths

    def build(self, input_shape: tuple) -> None:
        for down, inputs, filters, blocks in zip(self.downs, [input_shape[-1], *self._widths], self._widths,
                                                 self.encoder):
            down.build((None, None, None, inputs))
            self._build_all(blocks, filters)
        for up, fusion, blocks, filters in zip(self.ups, self.fusions, self.decoder, self._widths[-2::-1]):
            up.build((None, None, None, 2 * filters))
            self._build_all([fusion, *blocks], filters)
        self.head.build((None, None, None, self._widths[0]))
        self.built = True

    @staticmethod
    def _build_all(layers: Sequence[keras.layers.Layer], channels: int) -> None:
        for layer in layers:
            layer.build((None, None, None, channels))

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int],
                                training: bool | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        images = tf.convert_to_tensor(images)
        padded = pad_to_multiple(images, _MULTIPLE_PX)
        features = list(self._stages(padded))
        output = self._reconstruct(tf.cast(padded, tf.float32), self._decode(features))
        limited = limit(output) if training else tf.clip_by_value(output, -1.0, 1.0)
        return crop_to(limited, images), [features[layer] for layer in layers]

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """As in the base class; stops after the last of them."""
        padded = pad_to_multiple(tf.convert_to_tensor(images), _MULTIPLE_PX)
        features = list(itertools.islice(self._stages(padded), layers[-1] + 1))
        return [features[layer] for layer in layers]

    def _stages(self, padded: tf.Tensor) -> Iterator[tf.Tensor]:
        """The output of each stage, computed when asked for."""
        hidden = padded
        yield hidden
        for down, blocks in zip(self.downs, self.encoder):
            for layer in [down, *blocks]:
                hidden = layer(hidden)
                yield hidden

    def _decode(self, features: list[tf.Tensor]) -> tf.Tensor:
        """[B, H / 2, W / 2, ngf]."""
        hidden, stage = features[-1], len(features) - 1 - len(self.encoder[-1])
        for up, fusion, blocks, skipped in zip(self.ups, self.fusions, self.decoder, self.encoder[-2::-1]):
            # The last feature of the level above stands before the convolution that halved it.
            hidden = fusion(features[stage - 1], self.enlarge(up(hidden)))
            stage -= 1 + len(skipped)
            for block in blocks:
                hidden = block(hidden)
        return hidden

    def _reconstruct(self, padded: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """K x - B + x of the picture x [B, H, W, 3]; K has one channel, B three. Faint details get less."""
        maps = tf.cast(self.head(repeat_borders(hidden, 1)), tf.float32)
        maps = self._enlarge_maps(maps) if self._smooth else tf.nn.depth_to_space(maps, 2)
        gain, offset = maps[..., :1], maps[..., 1:]
        output = gain * padded - offset + padded
        return output - faint_excess(padded, gain + 1.0, self._faint_levels) if self._faint_levels else output

    def numbered_stages(self) -> list[NumberedStage]:
        stages = [NumberedStage("input", 3)]
        for down, blocks, channels in zip(self.downs, self.encoder, self._widths):
            stages += [NumberedStage(layer.name, channels) for layer in [down, *blocks]]
        return stages
