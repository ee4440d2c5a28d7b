"""What the rest of the program expects of every generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError


class NumberedStage(NamedTuple):
    """A stage whose output PatchNCE can compare: its name in messages and TensorBoard, and its channels C_l."""

    name: str
    channels: int


class Generator(keras.Model):
    """Translates float32 [B, H, W, 3] in [-1, 1] to the same shape and range, for any H and W of at least 16.

    A subclass takes (settings, seed, dtype, name), makes its weights in `build`, and implements
    `translate_with_features` and `numbered_stages`. Stage 0 is the input. A subclass that can stop early implements
    `encode` too.

    Attributes:
      reach_px: a pixel of the output depends on input pixels up to this distance, for translation in tiles. None if it
        depends on the whole picture, as with instance norm.
      mixes_batch: whether the pictures of a batch influence each other's output in training, as with batch norm. Then
        the methods translate source and target one after the other.
    """

    reach_px: int | None = None
    mixes_batch: bool = False

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The translation, [B, H, W, 3]."""
        return self.translate_with_features(images, (), training)[0]

    def translate_with_features(self, images: tf.Tensor, layers: Sequence[int],
                                training: bool | None = None) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Translates, and returns also the features that `encode` gives for the same images.

        Args:
          images: [B, H, W, 3] in [-1, 1].
          layers: stage numbers, growing.
          training: whether layers such as batch norm behave as in training.

        Returns:
          The translation, float32 [B, H, W, 3] in [-1, 1], and one feature map [B, H_l, W_l, C_l] per layer.
        """
        raise NotImplementedError

    def encode(self, images: tf.Tensor, layers: Sequence[int], training: bool | None = None) -> list[tf.Tensor]:
        """Features after the given stages, [B, H_l, W_l, C_l] each."""
        return self.translate_with_features(images, layers, training)[1]

    def numbered_stages(self) -> list[NumberedStage]:
        """All stages that --nce_layers can name, in order."""
        raise NotImplementedError

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raises InputError if a layer number is not that of a stage."""
        stages = len(self.numbered_stages())
        if layers[-1] >= stages:
            raise InputError(f"--nce_layers must be below {stages}, the number of stages of this generator, found "
                             f"{layers[-1]}")

    def feature_names(self, layers: Sequence[int]) -> list[str]:
        """Readable names of features, such as `04_down1`, for TensorBoard and messages."""
        stages = self.numbered_stages()
        return [f"{layer:02d}_{stages[layer].name}" for layer in layers]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """Channels C_l of each feature."""
        stages = self.numbered_stages()
        return [stages[layer].channels for layer in layers]
