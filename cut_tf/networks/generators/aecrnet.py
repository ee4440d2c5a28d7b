"""AECR-Net's autoencoder-like dehazing network (Wu et al., CVPR 2021, section 3.1).

Most of the work is done at a quarter of the resolution, by one block that is used six times. Deformable convolutions
enlarge its receptive field. Adaptive mixup adds early features again. There are no norms.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from cut_tf.layers.convolution import Convolution, TransposedConvolution, seeds_from
from cut_tf.layers.deformable_convolution import DeformableConvolution
from cut_tf.layers.padding import ReflectionPadding, crop_to, pad_to_multiple
from cut_tf.layers.patch_whitening import PatchWhiteningConvolution
from cut_tf.networks.generators.base import Generator, NumberedStage
from cut_tf.settings import Settings

_MULTIPLE_PX = 4
_BLOCKS = 6
_DEFORMABLES = 2
# The hidden layers of both attentions have an eighth of the block's channels, as in FFA-Net's code.
_ATTENTION_REDUCTION = 8
# Initial theta of adaptive mixup at 1/4 and 1/2 of the resolution, as in the released code.
_THETA_QUARTER, _THETA_HALF = -1.0, -0.6


def _gain(inputs: int, filters: int, fan_channels: int) -> float:
    """The gain that makes Xavier's variance that of He et al. (2015), 2 / (kernel area * fan_channels).

    It keeps the variance of signals without norms. The released code starts with PyTorch's default, a sixth of this
    variance. With it the output is grey at first, and the first training steps are lost.
    """
    return ((inputs + filters) / fan_channels)**0.5


class FeatureAttentionBlock(keras.layers.Layer):
    """x + pixel(channel(conv(x + relu(conv(x))))), 3x3 convolutions, same shape (FFA-Net, Qin et al., AAAI 2020).

    Channel attention scales channels, by factors from their means over the picture. Pixel attention scales pixels. Both
    factors are sigmoids.
    """

    def __init__(self, filters: int, seeds: Iterator[int], name: str, dtype: str) -> None:
        super().__init__(name=name, dtype=dtype)
        hidden = max(filters // _ATTENTION_REDUCTION, 1)

        def conv(label: str, kernel_px: int, inputs: int, outputs: int) -> Convolution:
            return Convolution(outputs, kernel_px, seed=next(seeds), padding_px=kernel_px // 2,
                               gain=_gain(inputs, outputs, inputs), name=f"{name}_{label}", dtype=dtype)

        self.conv1, self.conv2 = conv("conv1", 3, filters, filters), conv("conv2", 3, filters, filters)
        self.channel1, self.channel2 = conv("channel1", 1, filters, hidden), conv("channel2", 1, hidden, filters)
        self.pixel1, self.pixel2 = conv("pixel1", 1, filters, hidden), conv("pixel2", 1, hidden, 1)

    def build(self, input_shape: tuple) -> None:
        for layer in (self.conv1, self.conv2, self.channel1, self.pixel1):
            layer.build(input_shape)
        for layer in (self.channel2, self.pixel2):
            layer.build((None, None, None, self.channel1.filters))
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden = self.conv2(tf.nn.relu(self.conv1(inputs)) + inputs)
        pooled = tf.reduce_mean(hidden, axis=[1, 2], keepdims=True)
        hidden *= tf.sigmoid(self.channel2(tf.nn.relu(self.channel1(pooled))))
        return inputs + hidden * tf.sigmoid(self.pixel2(tf.nn.relu(self.pixel1(hidden))))


class AdaptiveMixup(keras.layers.Layer):
    """sigmoid(theta) * down + (1 - sigmoid(theta)) * up, theta learned (eq. 1): three times [B, H, W, C]."""

    def __init__(self, theta: float, name: str, dtype: str) -> None:
        super().__init__(name=name, dtype=dtype)
        self.theta = self.add_weight(name="theta", shape=(), initializer=keras.initializers.Constant(theta))
        self.built = True

    def call(self, down: tf.Tensor, up: tf.Tensor) -> tf.Tensor:
        share = tf.cast(tf.sigmoid(tf.cast(self.theta, tf.float32)), up.dtype)
        return share * down + (1.0 - share) * up


class AECRNet(Generator):
    """Translates [B, H, W, 3] in [-1, 1] to the same shape and range, for any H, W of at least 16.

    Pictures are padded by mirroring to multiples of 4, and the result is cropped. `generator_blocks`, `generator_norm`
    and the anti-aliasing flags are not read. Stages, for --nce_layers: 0 the RGB input; 1 the stem; 2, 3 the
    convolutions that halve it; 4 to 9 the feature-attention blocks; 10, 11 the deformable convolutions, if any. The
    feature of a stage is its output after the ReLU, which the next stage reads.

    Args:
      settings: width (ngf, 64 in the paper) and the flags aecr_shared, aecr_mixup, aecr_dfe, aecr_whitening.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "generator") -> None:
        super().__init__(settings, seed, dtype, name)
        self.mixes_batch = settings.aecrnet.aecr_whitening  # its statistics are those of the batch
        width, seeds = settings.generator.ngf, seeds_from(seed)
        uses = 1 if settings.aecrnet.aecr_shared else _BLOCKS
        deformables = (1 if settings.aecrnet.aecr_shared else _DEFORMABLES) if settings.aecrnet.aecr_dfe else 0

        def conv(label: str, inputs: int, filters: int, kernel_px: int = 3, stride_px: int = 1) -> Convolution:
            return Convolution(filters, kernel_px, seed=next(seeds), stride_px=stride_px,
                               padding_px=1 if kernel_px == 3 else 0, gain=_gain(inputs, filters, inputs), name=label,
                               dtype=dtype)

        def up(label: str, filters: int) -> TransposedConvolution:
            return TransposedConvolution(filters, seed=next(seeds), gain=_gain(2 * filters, filters, filters),
                                         name=label, dtype=dtype)

        def deformable(label: str) -> DeformableConvolution:
            return DeformableConvolution(4 * width, seed=next(seeds), gain=_gain(1, 1, 1), name=label, dtype=dtype)

        self.whitening = PatchWhiteningConvolution(3, seed=next(seeds), gain=_gain(3, 3, 3), name="whitening") if (
            settings.aecrnet.aecr_whitening) else None
        self.mirror = ReflectionPadding(3, name="mirror", dtype=dtype)
        self.stem = conv("stem", 3, width, 7)
        self.downs = [conv("down1", width, 2 * width, stride_px=2), conv("down2", 2 * width, 4 * width, stride_px=2)]
        self.blocks = [FeatureAttentionBlock(4 * width, seeds, f"block{number}", dtype)
                       for number in range(1, uses + 1)]
        self.deformables = [deformable(f"deformable{number}") for number in range(1, deformables + 1)]
        self.mixups = [AdaptiveMixup(theta, f"mixup{number}", dtype) for number, theta in
                       enumerate((_THETA_QUARTER, _THETA_HALF), 1)] if settings.aecrnet.aecr_mixup else []
        self.ups = [up("up1", 2 * width), up("up2", width)]
        self.head = conv("output", width, 3, 7)
        self.tanh = keras.layers.Activation("tanh", name="output_tanh", dtype="float32")
        widths = [3, width, 2 * width, 4 * width]
        self._channels = widths + [4 * width] * (_BLOCKS + (_DEFORMABLES if deformables else 0))

    def build(self, input_shape: tuple) -> None:
        first = [self.stem] if self.whitening is None else [self.whitening, self.stem]
        layers = [(layer, input_shape[-1]) for layer in first]
        layers += zip(self.downs, self._channels[1:3])
        layers += [(layer, self._channels[3]) for layer in [*self.blocks, *self.deformables]]
        layers += zip([*self.ups, self.head], self._channels[3:0:-1])
        for layer, channels in layers:
            layer.build((None, None, None, channels))
        self.built = True

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int],
                                training: bool | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        images = tf.convert_to_tensor(images)
        features = list(self._stages(images, training))
        hidden = features[-1]
        # At 1/4 of the resolution the second halving is mixed in, at 1/2 the first one.
        for up, mixup, down in itertools.zip_longest(self.ups, self.mixups, (features[3], features[2])):
            hidden = tf.nn.relu(up(hidden if mixup is None else mixup(down, hidden)))
        output = self.tanh(self.head(self.mirror(hidden)))
        return crop_to(output, images), [features[layer] for layer in layers]

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """As in the base class. Computes no stage after the last layer."""
        stages = self._stages(tf.convert_to_tensor(images), training)
        features = list(itertools.islice(stages, layers[-1] + 1))
        return [features[layer] for layer in layers]

    def _stages(self, images: tf.Tensor, training: bool | None) -> Iterator[tf.Tensor]:
        """The output of each stage, computed when asked for."""
        hidden = pad_to_multiple(images, _MULTIPLE_PX)
        yield hidden
        if self.whitening is not None:
            hidden = self.whitening(hidden, training=training)
        hidden = tf.nn.relu(self.stem(self.mirror(hidden)))
        yield hidden
        for down in self.downs:
            hidden = tf.nn.relu(down(hidden))
            yield hidden
        for layers, uses in ((self.blocks, _BLOCKS), (self.deformables, _DEFORMABLES)):
            for layer in itertools.islice(itertools.cycle(layers), uses):
                hidden = layer(hidden)
                yield hidden

    def numbered_stages(self) -> list[NumberedStage]:
        names = ["input", "stem", "down1", "down2", *(f"block{number}" for number in range(1, _BLOCKS + 1)),
                 *(f"deformable{number}" for number in range(1, _DEFORMABLES + 1))]
        return [NumberedStage(*stage) for stage in zip(names, self._channels)]
