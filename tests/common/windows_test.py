"""Window sums and minima against SciPy, at radii from none to beyond the picture, and bands without seams."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cut_tf.common.windows import box_sum, row_bands, window_minimum

SIZES = [(1, 1), (1, 9), (7, 2), (23, 31)]
RADII = [0, 1, 3, 7, 60]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", RADII)
def test_box_sum_equals_a_convolution_with_ones(size, radius):
    values = np.random.default_rng(radius).normal(size=size)
    expected = ndimage.convolve(values, np.ones([2 * radius + 1] * 2), mode="constant")
    np.testing.assert_allclose(box_sum(values, radius), expected, atol=1e-12)


def test_box_sum_of_channels_and_of_bytes():
    values = np.random.default_rng(0).integers(0, 256, (13, 11, 3), np.uint8)
    sums = box_sum(values, 2)
    assert sums.dtype == np.int64
    for channel in range(3):
        expected = ndimage.convolve(values[..., channel].astype(int), np.ones([5, 5], int), mode="constant")
        np.testing.assert_array_equal(sums[..., channel], expected)


def test_box_sum_leaves_its_argument_as_it_was():
    values = np.arange(12.0).reshape(3, 4)
    box_sum(values, 1)
    np.testing.assert_array_equal(values, np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_window_minimum_equals_scipy(size, radius, kind):
    values = np.random.default_rng(radius).integers(0, 256, size).astype(kind)
    minima = window_minimum(values, radius)
    assert minima.dtype == kind
    np.testing.assert_array_equal(minima, ndimage.minimum_filter(values, 2 * radius + 1, mode="nearest"))


@pytest.mark.parametrize("height", [1, 5, 6, 13])
@pytest.mark.parametrize("reach", [0, 2, 20])
def test_bands_put_together_give_the_whole(height, reach):
    values = np.random.default_rng(height).integers(0, 256, (height, 4))
    expected = ndimage.minimum_filter(values, [2 * reach + 1, 1], mode="nearest")
    result, read = np.full_like(values, -1), 0
    for reads, inside, band in row_bands(height, reach, rows=5):
        assert np.all(result[band] == -1), "a row was given twice"
        part = values[reads]
        result[band] = ndimage.minimum_filter(part, [2 * reach + 1, 1], mode="nearest")[inside]
        read = max(read, len(part))
    np.testing.assert_array_equal(result, expected)
    assert read <= 5 + 2 * reach
