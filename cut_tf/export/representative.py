"""Typical inputs of a generator, and how near to it an exported model is on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data import kinds_of, open_dataset
from cut_tf.data.domain import TranslationData
from cut_tf.data.image_files import list_images
from cut_tf.data.kinds.folders import FolderDomain
from cut_tf.export.options import Size
from cut_tf.settings import Settings

# For TFLite, half of them find the ranges of int8, the other half are for the gate.
_PICTURES = 40
# Of pictures for models that take any size.
ANY_SIDE_PX = 256
# Datasets that need no files.
_RENDERED = ("scenes", "rooms")
# Below float32's rounding; JSON has no infinity for pictures that are equal.
_LEAST_ERROR = 4e-20


def open_inputs(source: str | Path, side_px: int) -> TranslationData:
    """The dataset of typical inputs.

    Args:
      source: scenes, rooms or both joined by a +; another dataset as of --dataset, with a colon, such as
        hazed:CLEAR_DIR; or a folder of pictures.
      side_px: of what is rendered.

    Raises:
      InputError: if it is not there, or has no pictures.
    """
    if ":" in str(source) or _is_rendered(str(source)):
        return open_dataset(Settings.of(dataset=str(source), preprocess="none", scenes_size_px=side_px))
    pictures = FolderDomain(list_images(Path(source)))
    return TranslationData(pictures, pictures, None, None, False, str(source))


def inputs_of(settings: Settings) -> str:
    """Typical inputs of a run: what it was trained on, if that is rendered, else scenes."""
    return settings.data.dataset if _is_rendered(settings.data.dataset) else _RENDERED[0]


def _is_rendered(source: str) -> bool:
    return set(kinds_of(source)) <= set(_RENDERED)


def representative_pictures(source: str | Path, size: Size | None, count: int = _PICTURES) -> list[np.ndarray]:
    """Typical inputs of one size, cut from the middle of pictures.

    Args:
      source: as of `open_inputs`; the test split's inputs, or else those of training.
      size: in pixels; 256x256 if None.
      count: at most so many, spread over the pictures.

    Returns:
      float32 [1, H, W, 3] in [-1, 1] each.

    Raises:
      InputError: if there are fewer than two pictures, or one cannot be read.
    """
    size = size or Size(ANY_SIDE_PX, ANY_SIDE_PX)
    data = open_inputs(source, max(size))
    domain = data.test_source or data.source
    if len(domain) < 2:
        raise InputError(f"--representative must name two pictures or more, found {len(domain)} in {source}")
    found = [domain.load(index) for index in np.linspace(0, len(domain) - 1, min(count, len(domain)), dtype=int)]
    return [images.from_bytes(_cut(picture, size)[None]).numpy() for picture in found]


def _cut(picture: np.ndarray, size: Size) -> np.ndarray:
    """The middle of uint8 [h, w, 3]; enlarged first if it is smaller than `size`."""
    scale = max(size.height_px / picture.shape[0], size.width_px / picture.shape[1], 1.0)
    if scale > 1.0:
        sides = [max(round(side * scale), least) for side, least in zip(picture.shape[:2], size)]
        picture = tf.cast(tf.round(tf.image.resize(picture, sides, "bilinear")), tf.uint8).numpy()
    top, left = (picture.shape[0] - size.height_px) // 2, (picture.shape[1] - size.width_px) // 2
    return picture[top:top + size.height_px, left:left + size.width_px]


def psnr_db(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """PSNR in dB over all pictures together, of float32 values in [-1, 1] with peak 2; 200 if all are equal."""
    errors = [np.mean(np.square(one.astype(np.float64) - other)) for one, other in zip(expected, found)]
    return 10 * float(np.log10(4 / max(np.mean(errors), _LEAST_ERROR)))
