"""Chooses how a layer is computed: by TensorFlow's own operations, or by this package's faster forms."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from cut_tf.layers import portable

_PLAIN = contextvars.ContextVar("cut_tf_plain_kernels", default=False)


@contextlib.contextmanager
def plain_kernels(plain: bool = True) -> Iterator[None]:
    """Layers called inside use TensorFlow's own operations alone, if `plain`."""
    token = _PLAIN.set(plain)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def on_gpu() -> bool:
    """Whether TensorFlow sees a GPU, on which layers then run. The only place that finds out."""
    return bool(tf.config.list_physical_devices("GPU"))


def are_fast() -> bool:
    """Whether a layer may take a faster form: neither `plain_kernels` nor `portable_ops` is in force."""
    return not _PLAIN.get() and not portable.is_portable()


def are_fast_on_cpu() -> bool:
    """Whether a layer may take a form that is faster on a CPU alone."""
    return are_fast() and not on_gpu()
