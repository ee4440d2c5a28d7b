"""Tiles and bands give what the whole picture gives, whatever its size, the reach and the tile."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, strategies as st
from scipy import ndimage

from cut_tf.common.windows import box_sum, row_bands, window_minimum
from cut_tf.translators.run import translate_in_tiles

_sides = st.integers(1, 60)


@given(height=st.integers(1, 300), reach=st.integers(0, 40), rows=st.integers(1, 70))
def test_every_row_lies_in_one_band_with_all_its_neighbours(height, reach, rows):
    seen = []
    for read, inside, band in row_bands(height, reach, rows):
        places = np.arange(height)
        np.testing.assert_array_equal(places[read][inside], places[band])
        assert read.start == max(band.start - reach, 0) and read.stop == min(band.stop + reach, height)
        seen += list(places[band])
    assert seen == list(range(height))


@given(height=_sides, width=_sides, reach=st.integers(0, 6), tile=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_picture_in_tiles_is_the_picture_as_a_whole(height, width, reach, tile, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    size = (2 * reach + 1, 2 * reach + 1, 1)

    def translate(batch):
        # Zeros around the picture, as convolutions have them.
        return tf.constant(ndimage.maximum_filter(batch[0], size, mode="constant")[None])

    np.testing.assert_array_equal(translate_in_tiles(translate, picture, reach, tile),
                                  ndimage.maximum_filter(picture, size, mode="constant"))


@given(height=_sides, width=_sides, radius=st.integers(0, 70), seed=st.integers(0, 99))
def test_sums_and_minima_over_windows(height, width, radius, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width))
    size = 2 * radius + 1
    ones = ndimage.convolve1d(values, np.ones(size, int), axis=0, mode="constant")
    np.testing.assert_array_equal(box_sum(values, radius),
                                  ndimage.convolve1d(ones, np.ones(size, int), axis=1, mode="constant"))
    np.testing.assert_array_equal(window_minimum(values, radius),
                                  ndimage.minimum_filter(values, size, mode="constant", cval=999))
