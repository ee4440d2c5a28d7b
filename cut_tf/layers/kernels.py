"""Chooses how a layer is computed: by TensorFlow's own operations, or by this package's faster forms."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from cut_tf.layers import portable

_PLAIN = contextvars.ContextVar("cut_tf_plain_kernels", default=False)
_ANY_SIZE = contextvars.ContextVar("cut_tf_fast_at_any_size", default=False)


@contextlib.contextmanager
def plain_kernels(plain: bool = True) -> Iterator[None]:
    """Layers called inside use TensorFlow's own operations alone, if `plain`."""
    token = _PLAIN.set(plain)
    try:
        yield
    finally:
        _PLAIN.reset(token)


@contextlib.contextmanager
def fast_at_any_size(fast: bool | None = None) -> Iterator[None]:
    """Layers called inside take forms that are fast on a CPU for pictures of unknown size. For inference.

    Args:
      fast: whether they do; None: if TensorFlow sees no GPU. Where a size is known, the forms of training go first.
    """
    token = _ANY_SIZE.set(not on_gpu() if fast is None else fast)
    try:
        yield
    finally:
        _ANY_SIZE.reset(token)


def on_gpu() -> bool:
    """Whether TensorFlow sees a GPU, on which layers then run. The only place that finds out."""
    return bool(tf.config.list_physical_devices("GPU"))


def are_fast() -> bool:
    """Whether a layer may take a faster form: neither `plain_kernels` nor `portable_ops` is in force."""
    return not _PLAIN.get() and not portable.is_portable()


def are_fast_on_cpu() -> bool:
    """Whether a layer may take a form that is faster on a CPU alone."""
    return are_fast() and not on_gpu()


def are_fast_at_any_size() -> bool:
    """Whether `fast_at_any_size` is in force, and neither `plain_kernels` nor `portable_ops`."""
    return _ANY_SIZE.get() and are_fast()


def sizes(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """The shape, with int32 scalars in the place of sizes that are not known before the graph runs."""
    found = tf.shape(tensor)
    return [found[axis] if size is None else size for axis, size in enumerate(tensor.shape)]
