"""Bytes to network values and back: the only place that knows the range.

An image is uint8 [H, W, 3] or [B, H, W, 3] in RGB order on disk and at every user's end, and float32 of the same
shape in [-1, 1] inside: value = byte / 127.5 - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cut_tf.common.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

# What translates pictures: (uint8 [H, W, 3], its name for messages) to uint8 [H, W, 3].
Translate = Callable[[np.ndarray, str], np.ndarray]

MIN_SIDE_PX = 16
HALF_RANGE = 127.5


def from_bytes(images: tf.Tensor) -> tf.Tensor:
    """uint8 in [0, 255], any shape, to float32 in [-1, 1]."""
    import tensorflow as tf  # here, so that --help need not wait for it

    return tf.cast(images, tf.float32) / HALF_RANGE - 1.0


def to_bytes(images: tf.Tensor) -> tf.Tensor:
    """float in [-1, 1], any shape, to uint8 in [0, 255]: clipped, rounded to the nearest level."""
    import tensorflow as tf

    scaled = (tf.cast(images, tf.float32) + 1.0) * HALF_RANGE
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0.0, 255.0), tf.uint8)


def values_of(pixels: np.ndarray) -> np.ndarray:
    """`from_bytes` without TensorFlow: uint8, any shape, to the same float32."""
    return pixels.astype(np.float32) / np.float32(HALF_RANGE) - np.float32(1.0)


def pixels_of(values: np.ndarray) -> np.ndarray:
    """`to_bytes` without TensorFlow: float32, any shape, to the same uint8."""
    scaled = np.rint((values + np.float32(1.0)) * np.float32(HALF_RANGE))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def to_unit(values: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1], any shape, to float32 in [0, 1], which phones' samples use."""
    return values * np.float32(0.5) + np.float32(0.5)


def from_unit(values: np.ndarray) -> np.ndarray:
    """float32 in [0, 1], any shape, to float32 in [-1, 1]."""
    return values * np.float32(2.0) - np.float32(1.0)


def check_image(image: np.ndarray, where: str) -> None:
    """Raises InputError unless `image` is uint8 [H, W, 3] with both sides at least MIN_SIDE_PX."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise InputError(f"{where}: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise InputError(f"{where}: sides must be at least {MIN_SIDE_PX} px, found {image.shape[1]}x{image.shape[0]}")
