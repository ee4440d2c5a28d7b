"""What the rest of the program expects of every generator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.common import images as image_values
from cut_tf.common.errors import InputError
from cut_tf.networks import GENERATORS
from cut_tf.networks.registration import PACKAGE
from cut_tf.settings import Settings, names_in


class NumberedStage(NamedTuple):
    """A stage whose output PatchNCE can compare: its name in messages and TensorBoard, and its channels C_l."""

    name: str
    channels: int


class Generator(keras.Model):
    """Translates float32 [B, H, W, 3] in [-1, 1] to the same shape and range, for any H and W of at least 16.

    A subclass takes (settings, seed, dtype, name) and hands them on to `__init__`, makes its weights in `build`, and
    implements `translate_with_features` and `numbered_stages`. Stage 0 is the input. A subclass that can stop early
    implements `encode` too.

    Keras' own ways work: `save("NAME.keras")`, `keras.models.load_model` in any process that has imported cut_tf,
    `predict`, `export`. A .keras file holds the settings of generators, not those of the run.

    Args:
      settings: of the network; of the others nothing is read.
      seed: seed of the weights.
      dtype: Keras dtype policy, e.g. float32 or mixed_bfloat16.
      name: of the network.

    Attributes:
      reach_px: a pixel of the output depends on input pixels up to this distance, for translation in tiles. None if it
        depends on the whole picture, as with instance norm.
      mixes_batch: whether the pictures of a batch influence each other's output in training, as with batch norm. Then
        the methods translate source and target one after the other.
    """

    reach_px: int | None = None
    mixes_batch: bool = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Makes the class known to Keras, which looks for it by name when it loads a file."""
        super().__init_subclass__(**keywords)
        keras.saving.register_keras_serializable(PACKAGE)(cls)

    def __init__(self, settings: Settings, seed: int = 0, dtype: str = "float32", name: str = "generator") -> None:
        super().__init__(name=name)
        self._settings, self._seed, self._policy = settings, seed, dtype

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes the same network of: plain values."""
        read = names_in(use for row in GENERATORS.values() for use in row.uses)
        values = self._settings.flat()
        return {"name": self.name, "seed": self._seed, "dtype": self._policy, "keras": compat.KERAS_MAJOR,
                "settings": {name: values[name] for name in read}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Generator:
        """The network of `get_config`, with weights of its seed.

        Raises:
          InputError: for a configuration of the other major version of Keras, which files weights under other names
            and would mix them up.
        """
        if config.get("keras", compat.KERAS_MAJOR) != compat.KERAS_MAJOR:
            raise InputError(f".keras files must be of the Keras that reads them, {keras.__version__}, found one of "
                             f"Keras {config['keras']}; runs and SavedModels are read by both (cut_tf.from_pretrained)")
        # As a run's settings are read, so that files of earlier versions keep their meaning.
        settings = Settings.from_json(json.dumps({"train": {}, "network": config["settings"]}), "the configuration")
        network = cls(settings, config["seed"], config["dtype"], config["name"])
        network.build((None, None, None, 3))
        return network

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Keras' hook after `from_config`, which has made the weights already."""

    def export(self, filepath: str | Path, format: str = "tf_saved_model", **options: Any) -> None:
        """Keras' export. As a SavedModel it has one endpoint `serve`, which takes any size on both stacks.

        For TF Serving and phones see `python -m cut_tf.export`, which compares what it writes with the generator.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, **options)
            return
        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", lambda pictures: self(pictures, training=False),
                             input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "pictures")])
        archive.write_out(str(filepath), **options)

    def translate(self, pictures: np.ndarray) -> np.ndarray:
        """Translates pictures as a user has them. For large ones, and for many, see `cut_tf.Translator`.

        Args:
          pictures: uint8 [H, W, 3] or [B, H, W, 3], any H and W of at least 16.

        Returns:
          uint8 of the same shape.

        Raises:
          InputError: if shape or dtype are not these.
        """
        pictures = np.asarray(pictures)
        batch = pictures[None] if pictures.ndim == 3 else pictures
        image_values.check_image(batch[0] if batch.ndim == 4 and len(batch) else batch, "pictures")
        output = image_values.to_bytes(self(image_values.from_bytes(batch), training=False)).numpy()
        return output[0] if pictures.ndim == 3 else output

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
        if not self.has_layer(layers[-1]):
            raise InputError(f"--nce_layers must be below {len(self.numbered_stages())}, the number of stages of this "
                             f"generator, found {layers[-1]}")

    def has_layer(self, layer: int) -> bool:
        """Whether there is a stage with that number."""
        return layer < len(self.numbered_stages())

    def feature_names(self, layers: Sequence[int]) -> list[str]:
        """Readable names of features, such as `04_down1`, for TensorBoard and messages."""
        stages = self.numbered_stages()
        return [f"{layer:02d}_{stages[layer].name}" for layer in layers]

    def feature_channels(self, layers: Sequence[int]) -> list[int]:
        """Channels C_l of each feature."""
        stages = self.numbered_stages()
        return [stages[layer].channels for layer in layers]
