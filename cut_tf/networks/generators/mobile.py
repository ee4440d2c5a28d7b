"""A light generator for phones: it computes at an eighth of the resolution and passes the picture's details through.

Built for TFLite: 3x3 convolutions into which batch norm can be folded, bilinear upsampling, and nothing but a weighted
sum at full resolution. A picture is divided as in a Laplacian pyramid of two levels (Liang et al., LPTN, CVPR 2021).
The picture of half the size is translated by a gain and an offset per pixel. Its details are scaled and added again.
The generator starts with gain 1, offset 0 and scale 1, so that its output is its input. With --mobile_output=fitted the
half-sized translation reaches the output by the gain and offset that fit it around each place (guided filter) instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.layers.blur_pool import BlurUp
from cut_tf.layers.convolution import Convolution, seeds_from
from cut_tf.layers.limit import limit
from cut_tf.layers.local_affine import LocalAffine
from cut_tf.layers.norm import build_norm, conv_has_bias
from cut_tf.layers.padding import crop_to, pad_to_multiple
from cut_tf.networks.generators.base import Generator, NumberedStage
from cut_tf.settings import Settings

_DOWNSAMPLINGS = 3
_MULTIPLE_PX = 2**_DOWNSAMPLINGS
# With ReLUs and no norms, sqrt(2) keeps the variance of signals (He et al. 2015). Residual branches start smaller.
_GAIN, _BRANCH_GAIN = 2**0.5, 0.5
NORMS = ("none", "batch")
# Of variances of values in [-1, 1], the square of 1.3 levels of 255: fainter contrast is taken for noise, and not
# enhanced. On hazed photographs four times as much costs 0.014 of SSIM, and passes on 0.18 times the input's noise
# less. What --faint_levels takes off costs less.
_FIT_EPSILON = 1e-4


class ConvNormRelu(keras.layers.Layer):
    """relu(norm(conv3x3(x))): [B, H, W, C] to [B, H / stride, W / stride, filters]."""

    def __init__(self, filters: int, norm: str, seed: int, name: str, dtype: str, repeats_borders: bool,
                 stride_px: int = 1, kernel_px: int = 3) -> None:
        super().__init__(name=name, dtype=dtype)
        self.conv = Convolution(filters, kernel_px, seed=seed, stride_px=stride_px, padding_px=kernel_px // 2,
                                repeats_borders=repeats_borders, use_bias=norm == "none" or conv_has_bias(norm),
                                gain=_GAIN, name=f"{name}_conv", dtype=dtype)
        self.norm = build_norm(norm, f"{name}_norm", dtype)

    def build(self, input_shape: tuple) -> None:
        self.conv.build(input_shape)
        self.norm.build((None, None, None, self.conv.filters))
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.nn.relu(self.norm(self.conv(inputs), training=training))


class LightBlock(keras.layers.Layer):
    """x + norm(conv(relu(norm(conv(x))))), of the same shape."""

    def __init__(self, filters: int, norm: str, seeds: tuple[int, int], name: str, dtype: str,
                 repeats_borders: bool) -> None:
        super().__init__(name=name, dtype=dtype)
        self.first = ConvNormRelu(filters, norm, seeds[0], f"{name}_first", dtype, repeats_borders)
        self.conv = Convolution(filters, 3, seed=seeds[1], padding_px=1, repeats_borders=repeats_borders,
                                use_bias=norm == "none" or conv_has_bias(norm), gain=_BRANCH_GAIN,
                                name=f"{name}_conv", dtype=dtype)
        self.norm = build_norm(norm, f"{name}_norm", dtype)

    def build(self, input_shape: tuple) -> None:
        for layer in (self.first, self.conv, self.norm):
            layer.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return inputs + self.norm(self.conv(self.first(inputs, training=training)), training=training)


class MobileGenerator(Generator):
    """Translates [B, H, W, 3] in [-1, 1] to the same shape and range, for any H, W of at least 16.

    Pictures are padded by mirroring to multiples of 8, and the result is cropped. Stages, for --nce_layers: 0 the RGB
    input; 1, 2, 3 the convolutions that halve it, with ngf, 2 ngf, 4 ngf channels; from 4 on the residual blocks.

    Args:
      settings: width (ngf), number of blocks, norm (none or batch), padding.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.

    Raises:
      InputError: for another norm, which phones cannot fold into convolutions, or for faint levels without a fit.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "generator") -> None:
        super().__init__(settings, seed, dtype, name)
        norm, width = settings.generator.generator_norm, settings.generator.ngf
        if norm not in NORMS:
            raise InputError(f"--generator_norm must be one of {', '.join(NORMS)} with --generator=mobile, "
                             f"found {norm!r}")
        if settings.details.faint_levels and settings.mobile.mobile_output != "fitted":
            raise InputError(f"--faint_levels must be 0 with --mobile_output={settings.mobile.mobile_output}, which "
                             f"has no gain of the picture's details; --mobile_output=fitted has one. Found "
                             f"{settings.details.faint_levels:g}")
        self.mixes_batch = norm == "batch"
        seeds, repeats = seeds_from(seed), settings.mobile.mobile_padding == "repeat"

        def conv(name: str, filters: int, stride_px: int = 1, kernel_px: int = 3) -> ConvNormRelu:
            return ConvNormRelu(filters, norm, next(seeds), name, dtype, repeats, stride_px, kernel_px)

        self.downs = [conv(f"down{number}", width * 2**(number - 1), 2) for number in range(1, _DOWNSAMPLINGS + 1)]
        self.context = conv("context", 4 * width, kernel_px=1)
        self.blocks = [LightBlock(4 * width, norm, (next(seeds), next(seeds)), f"block{number}", dtype, repeats)
                       for number in range(1, settings.generator.generator_blocks + 1)]
        self.ups = [conv(f"up{number}", width * 2**(2 - number)) for number in (1, 2)]
        self._fitted = settings.mobile.mobile_output == "fitted"
        # Nine in both forms, so that a run of one can start with weights of the other.
        self.head = Convolution(9, 3, seed=next(seeds), padding_px=1, repeats_borders=repeats, name="head", dtype=dtype)
        self.enlarge = BlurUp(name="enlarge", dtype=dtype)
        self.enlarge_output = BlurUp(name="enlarge_output", dtype="float32")
        self.local_affine = LocalAffine(2, _FIT_EPSILON, "local_affine", faint_levels=settings.details.faint_levels)
        self._channels = [3, width, 2 * width, 4 * width] + [4 * width] * settings.generator.generator_blocks

    def build(self, input_shape: tuple) -> None:
        layers = [*zip([*self.downs, *self.blocks], [input_shape[-1], *self._channels[1:]])]
        layers += zip([*self.ups, self.head], [self._channels[-1], *self._channels[2:0:-1]])
        if self.blocks:
            layers.append((self.context, self._channels[-1]))
        for layer, channels in layers:
            layer.build((None, None, None, channels))
        self.built = True

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int],
                                training: bool | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        images = tf.convert_to_tensor(images)
        padded = pad_to_multiple(images, _MULTIPLE_PX)
        features = self._stages(padded, len(self._channels), training)
        output = self._decode(tf.cast(padded, tf.float32), features, training)
        limited = limit(output) if training else tf.clip_by_value(output, -1.0, 1.0)
        return crop_to(limited, images), [features[layer] for layer in layers]

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """As in the base class. Computes no stage after the last layer."""
        padded = pad_to_multiple(tf.convert_to_tensor(images), _MULTIPLE_PX)
        features = self._stages(padded, layers[-1] + 1, training)
        return [features[layer] for layer in layers]

    def _stages(self, padded: tf.Tensor, stop: int, training: bool | None) -> list[tf.Tensor]:
        """Features of the first `stop` stages."""
        features = [padded]
        for layer in [*self.downs, *self.blocks][:stop - 1]:
            hidden = features[-1]
            if self.blocks and layer is self.blocks[0]:
                hidden += self._context_of(hidden, training)
            features.append(layer(hidden, training=training))
        return features

    def _context_of(self, hidden: tf.Tensor, training: bool | None) -> tf.Tensor:
        """A summary of the whole picture, [B, 1, 1, C], since haze has one colour."""
        return self.context(tf.reduce_mean(hidden, axis=[1, 2], keepdims=True), training=training)

    def _decode(self, padded: tf.Tensor, features: list[tf.Tensor], training: bool | None) -> tf.Tensor:
        hidden = features[-1]
        for up, skip in zip(self.ups, (features[2], features[1])):
            hidden = up(self.enlarge(hidden), training=training) + skip
        maps = tf.cast(self.head(hidden), tf.float32)
        half = tf.nn.avg_pool2d(padded, 2, 2, "VALID")
        base = half + half * maps[..., :3] + maps[..., 3:6]
        if self._fitted:
            return self.local_affine(half, base, padded)
        base, half, scale = tf.split(self.enlarge_output(tf.concat([base, half, maps[..., 6:]], -1)), 3, axis=-1)
        detail = padded - half
        return base + detail + detail * scale

    def numbered_stages(self) -> list[NumberedStage]:
        names = ["input", *(layer.name for layer in [*self.downs, *self.blocks])]
        return [NumberedStage(*stage) for stage in zip(names, self._channels)]
