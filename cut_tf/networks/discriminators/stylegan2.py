"""The StyleGAN2-style discriminator of SinCUT (Karras et al., CVPR 2020; Park et al., ECCV 2020, section 4.4)."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.layers.convolution import seeds_from
from cut_tf.layers.stylegan2 import EqualisedConvolution, EqualisedDense, ResidualBlock
from cut_tf.networks.generators.stylegan2 import check_size
from cut_tf.settings import Settings

_LAST_SIDE_PX = 4


class StyleGAN2Discriminator(keras.Model):
    """[B, S, S, 3] in [-1, 1] to one raw score per picture, float32 [B, 1]; S is `stylegan2_size_px`.

    Residual blocks halve the resolution down to 4x4. As in SinCUT's official code there is no minibatch standard
    deviation.

    Args:
      settings: width (ndf) and `stylegan2_size_px`.
      seed: seed of the weights.
      dtype: Keras dtype policy.

    Raises:
      InputError: for sizes and widths that the official table of channels does not cover.
    """

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32",
                 name: str = "discriminator") -> None:
        super().__init__(name=name)
        side, ndf, seeds = settings.stylegan2.stylegan2_size_px, settings.discriminator.ndf, seeds_from(seed)
        check_size(side, _LAST_SIDE_PX)
        self._side_px = side
        self.stem = EqualisedConvolution(_channels(ndf, side), 1, seed=next(seeds), name="stem", dtype=dtype)
        self.blocks = []
        while side > _LAST_SIDE_PX:
            widths = _channels(ndf, side), _channels(ndf, side // 2)
            self.blocks.append(ResidualBlock(*widths, (next(seeds), next(seeds), next(seeds)),
                                             f"down{len(self.blocks) + 1}", dtype, downsample=True))
            side //= 2
        width = self._width = _channels(ndf, side)
        self.last_conv = EqualisedConvolution(width, 3, seed=next(seeds), name="last_conv", dtype=dtype)
        self.dense = EqualisedDense(width, seed=next(seeds), name="dense", dtype=dtype, activate=True)
        self.score = EqualisedDense(1, seed=next(seeds), name="score")

    def build(self, input_shape: tuple) -> None:
        self.stem.build(input_shape)
        for layer in self.blocks:
            layer.build((None, None, None, layer.channels))
        self.last_conv.build((None, None, None, self._width))
        self.dense.build((None, self._width * _LAST_SIDE_PX**2))
        self.score.build((None, self._width))
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Raises InputError for pictures of another size."""
        del training
        if tuple(images.shape[1:3]) != (self._side_px, self._side_px):
            raise InputError(f"--stylegan2_size_px must be the size of the pictures with --discriminator=stylegan2, "
                             f"found {self._side_px} and pictures of {images.shape[2]}x{images.shape[1]}")
        hidden = self.stem(images)
        for layer in self.blocks:
            hidden = layer(hidden)
        # Flattened channel by channel, in the order of the official weights.
        hidden = tf.transpose(self.last_conv(hidden), [0, 3, 1, 2])
        return self.score(self.dense(tf.reshape(hidden, [-1, hidden.shape[1] * _LAST_SIDE_PX**2])))


def _channels(ndf: int, resolution_px: int) -> int:
    """The official table: each doubling of the resolution halves the channels; at most 384 channels, up to 32 px."""
    channels = int(ndf / 64 * 16384 / resolution_px)
    if channels < 1:
        raise InputError(f"--ndf must be higher with --stylegan2_size_px={resolution_px}, which leaves no channel, "
                         f"found {ndf}")
    return min(channels, 384) if resolution_px <= 32 else channels
