"""Reflection padding against NumPy, and padding to a multiple with its undoing."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.layers.padding import ReflectionPadding, crop_to, pad_to_multiple, repeat_to


def _pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (16, 7)])
@pytest.mark.parametrize("padding_px", [1, 3])
def test_reflection_does_not_repeat_the_border(size, padding_px):
    pictures = _pictures(*size)
    sides = [(0, 0), (padding_px, padding_px), (padding_px, padding_px), (0, 0)]
    found = ReflectionPadding(padding_px)(pictures)
    np.testing.assert_array_equal(found, np.pad(pictures, sides, "reflect"))


@pytest.mark.parametrize("size", [(8, 8), (9, 12), (5, 4)])
@pytest.mark.parametrize("padding_px", [1, 3])
def test_the_gradient_of_reflection_is_its_transpose(size, padding_px):
    pictures = tf.constant(_pictures(*size))
    where = np.arange(size[0] * size[1]).reshape(size)
    came_from = np.pad(where, padding_px, "reflect").ravel()
    upstream = np.random.default_rng(1).normal(size=(2, came_from.size, 3)).astype(np.float32)
    expected = np.zeros((2, where.size, 3))
    np.add.at(expected, (slice(None), came_from), upstream)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        padded = ReflectionPadding(padding_px)(pictures)
    found = tape.gradient(padded, pictures, upstream.reshape(padded.shape))
    np.testing.assert_allclose(found, expected.reshape(pictures.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, padded", [((16, 16), (16, 16)), ((17, 23), (20, 24)), ((18, 16), (20, 16)),
                                          ((16, 21), (16, 24))])
def test_pads_bottom_and_right_to_the_next_multiple(size, padded):
    pictures = _pictures(*size)
    found = pad_to_multiple(tf.constant(pictures), 4)
    assert found.shape == [2, *padded, 3]
    sides = [(0, 0), (0, padded[0] - size[0]), (0, padded[1] - size[1]), (0, 0)]
    np.testing.assert_array_equal(found, np.pad(pictures, sides, "reflect"))


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (19, 16)])
def test_crop_undoes_the_padding(size):
    pictures = tf.constant(_pictures(*size))
    np.testing.assert_array_equal(crop_to(pad_to_multiple(pictures, 4), pictures), pictures)


def test_works_on_sizes_that_are_not_known_before_the_call():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def there_and_back(pictures: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        padded = pad_to_multiple(pictures, 4)
        return padded, crop_to(padded, pictures)

    for size in ((17, 23), (16, 16), (18, 20)):
        pictures = _pictures(*size)
        padded, back = there_and_back(pictures)
        np.testing.assert_array_equal(padded, pad_to_multiple(tf.constant(pictures), 4))
        np.testing.assert_array_equal(back, pictures)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (16, 2), (8, 8), (20, 30)])
def test_repeat_to_repeats_the_last_row_and_column(size):
    values = np.arange(2 * size[0] * size[1] * 3, dtype=np.float32).reshape(2, *size, 3)
    bottom, right = max(8 - size[0], 0), max(8 - size[1], 0)
    expected = np.pad(values, [(0, 0), (0, bottom), (0, right), (0, 0)], "edge")
    np.testing.assert_array_equal(repeat_to(tf.constant(values), 8), expected)
    dynamic = tf.function(lambda images: crop_to(repeat_to(images, 8), images),
                          input_signature=[tf.TensorSpec([None, None, None, 3])])
    np.testing.assert_array_equal(dynamic(values), values)
