"""Blurred sampling against SciPy and against explicit kernels, at even, odd and non-square sizes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cut_tf.layers.blur_pool import BlurDown, BlurUp
from cut_tf.layers.portable import portable_ops

_SIZES = [(2, 2), (4, 4), (5, 7), (8, 6), (9, 16), (3, 10)]


def _pictures(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size[0]).normal(size=(2, *size, 3))


def _down(pictures: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        # SciPy's "mirror" does not repeat the border pixel.
        pictures = ndimage.convolve1d(pictures, np.array([1.0, 2.0, 1.0]) / 4, axis=axis, mode="mirror")
    return pictures[:, ::2, ::2]


def _up_line(line: np.ndarray) -> np.ndarray:
    """Repeats the border once, inserts zeros, convolves with [1, 3, 3, 1] / 4 and cuts the border off."""
    stuffed = np.zeros(2 * (len(line) + 2))
    stuffed[::2] = np.pad(line, 1, "edge")
    return np.convolve(stuffed, np.array([1.0, 3.0, 3.0, 1.0]) / 4)[3:3 + 2 * len(line)]


def _up(pictures: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        pictures = np.apply_along_axis(_up_line, axis, pictures)
    return pictures


@pytest.mark.parametrize("size", _SIZES)
def test_averages_of_neighbours_equal_the_explicit_kernel_too(size):
    """What phones get."""
    pictures = _pictures(size)
    with portable_ops():
        found = BlurDown()(tf.constant(pictures, tf.float32))
    np.testing.assert_allclose(found, _down(pictures), atol=1e-6)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("layer, explicit", [(BlurDown(), _down), (BlurUp(), _up)], ids=["down", "up"])
def test_equals_the_explicit_kernel(layer, explicit, size):
    pictures = _pictures(size)
    expected = explicit(pictures)
    found = layer(tf.constant(pictures, tf.float32))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sizes_are_rounded_up_and_doubled():
    pictures = tf.zeros([1, 9, 6, 2])
    assert BlurDown()(pictures).shape == [1, 5, 3, 2]
    assert BlurUp()(pictures).shape == [1, 18, 12, 2]


@pytest.mark.parametrize("layer, explicit", [(BlurDown(), _down), (BlurUp(), _up)], ids=["down", "up"])
def test_works_on_sizes_that_are_not_known_before_the_call(layer, explicit):
    sample = tf.function(layer.call, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((5, 7), (8, 6)):
        pictures = _pictures(size)
        np.testing.assert_allclose(sample(tf.constant(pictures, tf.float32)), explicit(pictures), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind, explicit", [(BlurDown, _down), (BlurUp, _up)], ids=["down", "up"])
def test_keeps_the_precision_of_its_input(kind, explicit, dtype):
    pictures = _pictures((8, 6))
    found = kind(dtype=f"mixed_{dtype}")(tf.constant(pictures, dtype))
    assert found.dtype == dtype
    # Values of up to 4, 8 bits of mantissa and a few roundings.
    np.testing.assert_allclose(tf.cast(found, tf.float32), explicit(pictures), atol=0.06)


@pytest.mark.parametrize("layer, explicit", [(BlurDown(), _down), (BlurUp(), _up)], ids=["down", "up"])
def test_gradient_is_the_transposed_map(layer, explicit):
    pictures, weights = _pictures((5, 7)), np.random.default_rng(9).normal(size=explicit(_pictures((5, 7))).shape)
    variable = tf.Variable(pictures, dtype=tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(variable) * tf.constant(weights, tf.float32))
    direction = np.random.default_rng(5).normal(size=pictures.shape)
    along = np.sum(np.asarray(tape.gradient(total, variable)) * direction)
    assert along == pytest.approx(np.sum(explicit(direction) * weights), rel=1e-4)
