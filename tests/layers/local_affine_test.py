"""Enlarging by local gains and offsets, against closed forms and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cut_tf.layers.local_affine import LocalAffine

_EPSILON = 4e-4


def _picture(height: int, width: int, contrast: float = 0.5) -> np.ndarray:
    """Noise of pixels on a slope, [1, H, W, 3]."""
    slope = np.linspace(-0.4, 0.4, width)[None, :, None]
    noise = np.random.default_rng(height).uniform(-contrast, contrast, [height, width, 3])
    return (slope + noise)[None].astype(np.float32)


def _halved(picture: np.ndarray) -> np.ndarray:
    _, height, width, channels = picture.shape
    return picture.reshape(1, height // 2, 2, width // 2, 2, channels).mean((2, 4), dtype=np.float32)


def _fit(small: np.ndarray, translated: np.ndarray, picture: np.ndarray, epsilon: float = _EPSILON,
         dtype: str = "float32") -> np.ndarray:
    tensors = [tf.constant(values, dtype) for values in (small, translated, picture)]
    return LocalAffine(2, epsilon, "fit", dtype)(*tensors).numpy().astype(np.float64)


def _window_means(values: np.ndarray) -> np.ndarray:
    """[h, w] to [h / 4, w / 4]: means of 4x4 px, then of those of them in 5x5 that are inside."""
    height, width = values.shape
    blocks = values.reshape(height // 4, 4, width // 4, 4).mean((1, 3))
    return _box(blocks)


def _box(values: np.ndarray) -> np.ndarray:
    sums, inside = (ndimage.uniform_filter(each, 5, mode="constant") for each in (values, np.ones_like(values)))
    return sums / inside


def _enlarged(values: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear, with half-pixel centres and repeated borders."""
    places = [(np.arange(factor * side) + 0.5) / factor - 0.5 for side in values.shape]
    return ndimage.map_coordinates(values, np.stack(np.meshgrid(*places, indexing="ij")), order=1, mode="nearest")


@pytest.mark.parametrize("height, width", [(16, 16), (64, 48), (136, 72)])
def test_equals_the_guided_filter_computed_by_scipy(height, width):
    picture = _picture(height, width)
    small = _halved(picture)
    translated = (1.4 * small**2 + 0.3 * np.random.default_rng(1).normal(size=small.shape) - 0.1).astype(np.float32)
    expected = np.empty(picture.shape)
    for channel in range(3):
        x, y = small[0, ..., channel].astype(np.float64), translated[0, ..., channel].astype(np.float64)
        mean_x, mean_y = _window_means(x), _window_means(y)
        from_x, from_y = x - _enlarged(mean_x, 4), y - _enlarged(mean_y, 4)
        gain = _window_means(from_x * from_y) / (_window_means(from_x**2) + _EPSILON)
        offset = mean_y - gain * mean_x
        expected[0, ..., channel] = (_enlarged(_box(gain), 8) * picture[0, ..., channel]
                                     + _enlarged(_box(offset), 8))
    np.testing.assert_allclose(_fit(small, translated, picture), expected, atol=2e-5)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float16", 1 / 255)])
def test_a_gain_and_an_offset_of_the_small_picture_are_those_of_the_large_one(dtype, tolerance):
    """In float16, as GPUs of phones compute, within half a level of 255."""
    picture = _picture(64, 96)
    small = _halved(picture)
    gains, offsets = np.float32([0.5, 1.3, -0.7]), np.float32([0.2, -0.1, 0.0])
    found = _fit(small, gains * small + offsets, picture, epsilon=1e-7, dtype=dtype)
    np.testing.assert_allclose(found, gains * picture + offsets, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_gain_falls_where_contrast_is_below_epsilon(dtype):
    """v / (v + epsilon) of it is left: here a half, within the spread of v over the windows."""
    noise = np.random.default_rng(0).uniform(-0.06, 0.06, [1, 128, 128, 3]).astype(np.float32)
    variance = _halved(noise).var()
    found = _fit(_halved(noise), 2 * _halved(noise), noise, epsilon=variance, dtype=dtype)
    slopes = (found * noise).sum((0, 1, 2)) / (noise**2).sum((0, 1, 2))
    np.testing.assert_allclose(slopes, [1.0] * 3, rtol=0.05)


def test_a_flat_picture_gets_the_colour_of_its_translation():
    flat = np.full([1, 32, 32, 3], 0.25, np.float32)
    translated = np.broadcast_to(np.float32([0.5, -0.5, 0.0]), [1, 16, 16, 3])
    found = _fit(_halved(flat), translated, flat)
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([0.5, -0.5, 0.0]), flat.shape), atol=1e-6)


def test_textures_that_the_picture_lacks_do_not_reach_the_output():
    picture = _picture(128, 128)
    small = _halved(picture)
    texture = 0.2 * np.random.default_rng(7).choice([-1.0, 1.0], small.shape).astype(np.float32)
    added = _fit(small, small + texture, picture) - _fit(small, small, picture)
    assert np.sqrt(np.mean(added**2)) < 0.03


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_gradients_reach_the_translation(size):
    picture = tf.constant(_picture(*size))
    small = tf.constant(_halved(picture.numpy()))
    with tf.GradientTape() as tape:
        translated = tf.Variable(small)
        loss = tf.reduce_sum(LocalAffine(2, _EPSILON, "fit")(small, translated, picture))
    gradient = tape.gradient(loss, translated).numpy()
    # The output's mean follows the translation's: four pixels of the output for each.
    assert np.isfinite(gradient).all() and gradient.sum() == pytest.approx(picture.numpy().size, rel=0.02)
