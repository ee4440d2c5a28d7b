"""Bytes to network values and back."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common import images

ALL_BYTES = np.arange(256, dtype=np.uint8)


def test_from_bytes_by_hand():
    values = images.from_bytes(tf.constant([[0, 51], [127, 255]], tf.uint8))
    assert values.dtype == tf.float32
    np.testing.assert_allclose(values, [[-1.0, -0.6], [-1 / 255, 1.0]], rtol=0, atol=1e-7)


def test_ends_of_the_range_are_exact():
    assert images.from_bytes(ALL_BYTES).numpy().min() == -1.0
    assert images.from_bytes(ALL_BYTES).numpy().max() == 1.0


def test_round_trip_of_every_byte():
    back = images.to_bytes(images.from_bytes(ALL_BYTES))
    assert back.dtype == tf.uint8
    np.testing.assert_array_equal(back, ALL_BYTES)


def test_round_trip_inside_a_dataset():
    picture = np.arange(16 * 16 * 3, dtype=np.int64).reshape(16, 16, 3).astype(np.uint8)
    dataset = tf.data.Dataset.from_tensors(picture).map(images.from_bytes).map(
        lambda values: (values, images.to_bytes(values)))
    values, back = next(iter(dataset))
    np.testing.assert_array_equal(back, picture)
    np.testing.assert_array_equal(values, images.from_bytes(picture))


def test_to_bytes_rounds_to_the_nearest_level():
    levels = np.array([0.4, 0.6, 100.49, 100.51, 254.4, 254.6])
    np.testing.assert_array_equal(images.to_bytes(tf.constant(levels / 127.5 - 1.0)), [0, 1, 100, 101, 254, 255])


def test_to_bytes_clips():
    np.testing.assert_array_equal(
        images.to_bytes(tf.constant([-np.inf, -7.0, -1.001, 1.001, 7.0, np.inf])), [0, 0, 0, 255, 255, 255])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_to_bytes_computes_in_float32(dtype):
    values = tf.cast(tf.linspace(-1.0, 1.0, 2049), dtype)
    exact = (tf.cast(values, tf.float64).numpy() + 1) * 127.5
    clear = np.abs(exact % 1 - 0.5) > 1e-4  # elsewhere both neighbours are right
    np.testing.assert_array_equal(images.to_bytes(values)[clear], np.round(exact)[clear])


def test_arrays_are_converted_to_the_bit_as_tensors_are():
    every = np.arange(256, dtype=np.uint8)
    values = images.values_of(every)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, images.from_bytes(tf.constant(every)))
    np.testing.assert_array_equal(images.pixels_of(values), every)
    # Halves between two levels, too, and values out of range.
    fine = np.linspace(-1.1, 1.1, 100_001, dtype=np.float32)
    between = ((np.arange(255) + 0.5) / 127.5 - 1.0).astype(np.float32)
    for floats in (fine, between):
        found = images.pixels_of(floats)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, images.to_bytes(tf.constant(floats)))


def test_check_image():
    assert images.check_image(np.zeros((16, 17, 3), np.uint8), "x") is None


@pytest.mark.parametrize("image, message", [
    (np.zeros((16, 16, 3), np.float32), r"^x\.png: expected uint8 \[H, W, 3\], got float32 \[16, 16, 3\]$"),
    (np.zeros((16, 16), np.uint8), r"^x\.png: expected uint8 \[H, W, 3\], got uint8 \[16, 16\]$"),
    (np.zeros((16, 16, 4), np.uint8), r"^x\.png: expected uint8 \[H, W, 3\], got uint8 \[16, 16, 4\]$"),
    (np.zeros((40, 15, 3), np.uint8), r"^x\.png: sides must be at least 16 px, found 15x40$"),
])
def test_check_image_names_the_rule(image, message):
    with pytest.raises(ValueError, match=message):
        images.check_image(image, "x.png")
