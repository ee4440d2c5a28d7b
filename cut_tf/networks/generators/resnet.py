"""The ResNet generator of CUT and CycleGAN, with named encoder features.

The architecture is that of Johnson et al. 2016 as Zhu et al. 2017 use it. Anti-aliased sampling is as in the official
code of CUT (ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf.layers.blur_pool import BlurDown, BlurUp
from cut_tf.layers.convolution import Convolution, TransposedConvolution, seeds_from
from cut_tf.layers.fast.recomputation import Recomputable, recomputed
from cut_tf.layers.norm import build_norm, cancels_bias, conv_has_bias, norm_relu
from cut_tf.layers.padding import ReflectionPadding, crop_to, pad_to_multiple
from cut_tf.networks.generators.base import Generator, NumberedStage
from cut_tf.settings import Settings

_DOWNSAMPLINGS = 2
MULTIPLE_PX = 2**_DOWNSAMPLINGS


class ResidualBlock(keras.layers.Layer):
    """x + norm(conv(pad(relu(norm(conv(pad(x))))))) with 3x3 convolutions and mirrored borders, of the same shape."""

    def __init__(self, filters: int, norm: str, seeds: tuple[int, int], name: str, dtype: str,
                 recompute: bool = False) -> None:
        super().__init__(name=name, dtype=dtype)
        bias = conv_has_bias(norm)
        self._adds_bias = not cancels_bias(norm)
        self._can_recompute = norm == "instance"
        self._recompute = recompute
        self.pad = ReflectionPadding(1, dtype=dtype)
        self.conv1 = Convolution(filters, 3, seed=seeds[0], use_bias=bias, name=f"{name}_conv1", dtype=dtype)
        self.norm1 = build_norm(norm, f"{name}_norm1", dtype)
        self.conv2 = Convolution(filters, 3, seed=seeds[1], use_bias=bias, name=f"{name}_conv2", dtype=dtype)
        self.norm2 = build_norm(norm, f"{name}_norm2", dtype)

    def build(self, input_shape: tuple) -> None:
        for layer in (self.conv1, self.norm1, self.conv2, self.norm2):
            layer.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training and self._recompute:
            return recomputed(self._of_kernels)(inputs, *(tf.convert_to_tensor(conv.convolution.kernel)
                                                          for conv in (self.conv1, self.conv2)))
        hidden = Recomputable(self.conv1(self.pad(inputs), adds_bias=self._adds_bias))
        hidden = hidden.apply(lambda pixels: norm_relu(self.norm1, pixels, training)).apply(self.pad)
        recompute = hidden.recompute if training and self._can_recompute else None
        hidden = self.conv2(hidden.value, adds_bias=self._adds_bias, recompute=recompute)
        return inputs + self.norm2(hidden, training=training)

    def _of_kernels(self, inputs: tf.Tensor, kernel1: tf.Tensor, kernel2: tf.Tensor) -> tf.Tensor:
        """The block as a function of all tensors that have a gradient. Biases have none, and norms have no weights."""
        hidden = self.conv1.with_kernel(self.pad(inputs), kernel1)
        hidden = self.pad(norm_relu(self.norm1, hidden, training=True))
        return inputs + self.norm2(self.conv2.with_kernel(hidden, kernel2), training=True)


class Stage(NamedTuple):
    """One step of the generator. Its position in the sequence is the official layer number."""

    name: str
    kind: str  # pad, conv, norm, relu, blur, block, up or tanh
    layer: keras.layers.Layer
    channels: int


class ResnetGenerator(Generator):
    """Translates [B, H, W, 3] in [-1, 1] to the same shape and range, for any H, W of at least 16.

    Pictures are padded by mirroring to multiples of 4, and the result is cropped; with odd_sizes=official they go
    through as they are, layers that halve round up, and the result is cropped. Stages are numbered as in the official
    sequence. With anti-aliasing, 0 is the padded RGB input, 4 and 8 are the two convolutions before the downsampling,
    seen before their norm, and 12 to 20 are the residual blocks.

    Args:
      settings: width (ngf), number of blocks, norm, anti-aliasing and odd_sizes.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.

    Attributes:
      mirrors_odd_sizes: whether it mirrors sides up to a multiple of MULTIPLE_PX first.
      stages: all steps, in order.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "generator") -> None:
        super().__init__(settings, seed, dtype, name)
        self._seeds = seeds_from(seed)
        self.mirrors_odd_sizes = settings.sizes.odd_sizes == "mirror"
        self.stages = self._build_stages()
        self.stage_layers = [stage.layer for stage in self.stages]
        # The layers around the blocks reach at most 21 px. A block has two 3x3 convolutions at a quarter of the
        # resolution.
        reach = 24 + 2 * MULTIPLE_PX * settings.generator.generator_blocks
        self.mixes_batch = settings.generator.generator_norm == "batch"
        self.reach_px = None if settings.generator.generator_norm == "instance" else reach

    def _conv(self, name: str, filters: int, kernel_px: int, stride_px: int, padding_px: int, bias: bool) -> Stage:
        layer = Convolution(filters, kernel_px, seed=next(self._seeds), stride_px=stride_px, padding_px=padding_px,
                            use_bias=bias, name=name, dtype=self._policy)
        return Stage(name, "conv", layer, filters)

    def _norm_relu(self, name: str, filters: int) -> list[Stage]:
        norm = build_norm(self._settings.generator.generator_norm, f"{name}_norm", self._policy)
        relu = keras.layers.Activation("relu", name=f"{name}_relu", dtype=self._policy)
        return [Stage(f"{name}_norm", "norm", norm, filters), Stage(f"{name}_relu", "relu", relu, filters)]

    def _build_stages(self) -> list[Stage]:
        settings, policy = self._settings, self._policy
        bias, filters = conv_has_bias(settings.generator.generator_norm), settings.generator.ngf
        stages = [Stage("input", "pad", ReflectionPadding(3, name="input", dtype=policy), 3),
                  self._conv("stem", filters, 7, 1, 0, bias), *self._norm_relu("stem", filters)]
        for number in range(1, _DOWNSAMPLINGS + 1):
            filters *= 2
            stride_px = 1 if settings.antialias.antialias_down else 2
            stages += [self._conv(f"down{number}", filters, 3, stride_px, 1, bias),
                       *self._norm_relu(f"down{number}", filters)]
            if settings.antialias.antialias_down:
                stages.append(Stage(f"down{number}_blur", "blur", BlurDown(dtype=policy), filters))
        for number in range(1, settings.generator.generator_blocks + 1):
            block = ResidualBlock(filters, settings.generator.generator_norm, (next(self._seeds), next(self._seeds)),
                                  f"block{number}", policy, settings.resnet.recompute_blocks)
            stages.append(Stage(f"block{number}", "block", block, filters))
        for number in range(1, _DOWNSAMPLINGS + 1):
            filters //= 2
            stages += self._up(f"up{number}", filters, bias)
        stages += [Stage("output_pad", "pad", ReflectionPadding(3, dtype=policy), filters),
                   self._conv("output", 3, 7, 1, 0, True),
                   Stage("output_tanh", "tanh", keras.layers.Activation("tanh", dtype="float32"), 3)]
        return stages

    def _up(self, name: str, filters: int, bias: bool) -> list[Stage]:
        if self._settings.antialias.antialias_up:
            stages = [Stage(f"{name}_blur", "up", BlurUp(dtype=self._policy), 2 * filters),
                      self._conv(name, filters, 3, 1, 1, bias)]
        else:
            layer = TransposedConvolution(filters, seed=next(self._seeds), use_bias=bias, name=name,
                                          dtype=self._policy)
            stages = [Stage(name, "conv", layer, filters)]
        return stages + self._norm_relu(name, filters)

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        for stage in self.stages:
            stage.layer.build((None, None, None, channels))
            channels = stage.channels
        self.built = True

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int],
                                training: bool | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        images = tf.convert_to_tensor(images)
        output, features = self._run(images, layers, len(self.stages), training)
        output = crop_to(output, images)
        return output, features

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """As in the base class. Computes no stage after the last layer."""
        return self._run(tf.convert_to_tensor(images), layers, layers[-1] + 1, training)[1]

    def _run(self, images: tf.Tensor, layers: Sequence[int], stop: int,
             training: bool | None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        hidden = Recomputable(pad_to_multiple(images, MULTIPLE_PX) if self.mirrors_odd_sizes else images)
        can_recompute = training and self._settings.generator.generator_norm == "instance"
        features = {}
        for index, stage in enumerate(self.stages[:stop]):
            if stage.kind == "norm" and index + 1 < stop and index not in layers:
                hidden = hidden.apply(lambda pixels, norm=stage.layer: norm_relu(norm, pixels, training))
            elif stage.kind == "norm":
                hidden = hidden.apply(lambda pixels, norm=stage.layer: norm(pixels, training=training))
            elif stage.kind == "block":
                hidden = Recomputable(stage.layer(hidden.value, training=training))
            elif stage.kind == "relu" and index - 1 not in layers:
                pass  # computed with the norm before it
            elif isinstance(stage.layer, Convolution):
                adds_bias = index in layers or not self._bias_is_cancelled_after(index)
                recompute = hidden.recompute if can_recompute else None
                hidden = Recomputable(stage.layer(hidden.value, adds_bias=adds_bias, recompute=recompute))
            elif stage.kind == "conv":
                hidden = Recomputable(stage.layer(hidden.value))
            else:
                hidden = hidden.apply(stage.layer)
            features.update({tapped: hidden.value for tapped in self._tapped_here(index, layers)})
        return hidden.value, [features[layer] for layer in layers]

    def _bias_is_cancelled_after(self, index: int) -> bool:
        """Whether a norm follows stage `index` that removes its bias."""
        return self.stages[index + 1].kind == "norm" and cancels_bias(self._settings.generator.generator_norm)

    def _tapped_here(self, index: int, layers: Sequence[int]) -> list[int]:
        """The requested layers whose feature is the output of stage `index`.

        The official ReLU works in place. So a tapped norm is seen after the ReLU that follows it, unless it is the last
        tapped layer, where encoding stops before the ReLU. If the norm does nothing, the same holds for the convolution
        before it.
        """
        aliases = [index]
        if layers and self.stages[index].kind == "relu" and index <= layers[-1]:
            aliases.append(index - 1)
            if self._settings.generator.generator_norm == "none":
                aliases.append(index - 2)
        return [layer for layer in aliases if layer in layers]

    def numbered_stages(self) -> list[NumberedStage]:
        return [NumberedStage(stage.name, stage.channels) for stage in self.stages]
