"""Layers in the operations that phones compute fast: `with portable_ops():` while a generator is traced for export.

The results stay the same within rounding. Mirrored padding is made of slices, since TFLite's XNNPACK delegate does not
support MIRROR_PAD. Instance norm is made of means and differences.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

_PORTABLE = contextvars.ContextVar("cut_tf_portable_ops", default=False)
# XNNPACK concatenates at most five tensors.
_MOST_PARTS = 5


@contextlib.contextmanager
def portable_ops() -> Iterator[None]:
    """Layers called inside use portable operations."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def is_portable() -> bool:
    """Whether `portable_ops` is in force."""
    return _PORTABLE.get()


def mirror_pad(inputs: tf.Tensor, bottom_right: tuple[int, int], top_left: tuple[int, int] = (0, 0)) -> tf.Tensor:
    """tf.pad(..., "REFLECT") of [B, H, W, C], made of slices.

    Args:
      inputs: H and W above the padding; may be unknown.
      bottom_right: rows and columns added at the end.
      top_left: rows and columns added at the start.
    """
    for axis, before, after in zip((1, 2), top_left, bottom_right):
        first = [_slice(inputs, axis, place) for place in range(before, 0, -1)]
        last = [_slice(inputs, axis, -place - 2) for place in range(after)]
        inputs = join([*first, inputs, *last], axis)
    return inputs


def _slice(inputs: tf.Tensor, axis: int, place: int) -> tf.Tensor:
    """One row (axis 1) or column (axis 2); negative places count from the end."""
    part = slice(place, place + 1 or None)
    return inputs[:, part] if axis == 1 else inputs[:, :, part]


def join(parts: list[tf.Tensor], axis: int) -> tf.Tensor:
    """Concatenates in as many steps as it takes, of so many tensors each as XNNPACK takes."""
    while len(parts) > 1:
        parts = [tf.concat(parts[first:first + _MOST_PARTS], axis) for first in range(0, len(parts), _MOST_PARTS)]
    return parts[0]


def instance_norm(inputs: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Zero mean and unit variance per image and channel over H and W: float32 [B, H, W, C]."""
    centred = inputs - mean_over_pixels(inputs)
    return centred * tf.math.rsqrt(mean_over_pixels(centred * centred) + epsilon)


def mean_over_pixels(pixels: tf.Tensor) -> tf.Tensor:
    """[B, 1, 1, C], the mean of the rows' means. It has a tenth of the rounding error of one sum over all pixels."""
    return tf.reduce_mean(tf.reduce_mean(pixels, 2, keepdims=True), 1, keepdims=True)
