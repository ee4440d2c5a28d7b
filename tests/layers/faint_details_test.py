"""What a gain has too much of faint details, against SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cut_tf.layers.faint_details import KEPT, faint_excess
from cut_tf.layers.portable import portable_ops

_LEVEL = 1 / 127.5


def _picture(contrast_levels: float, seed: int = 0) -> np.ndarray:
    """A slope with noise of that size, [2, 12, 17, 3]."""
    noise = np.random.default_rng(seed).normal(0, contrast_levels * _LEVEL, [2, 12, 17, 3])
    return (np.linspace(-0.5, 0.5, 17)[:, None] + noise).astype(np.float32)


@pytest.mark.parametrize("is_portable", [False, True])
def test_equals_the_cut_difference_from_the_mean_computed_by_scipy(is_portable):
    picture = _picture(contrast_levels=4)
    gain = np.random.default_rng(1).uniform(0, 3, picture.shape).astype(np.float32)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    mean = ndimage.convolve(picture.astype(np.float64), kernel[None, :, :, None], mode="nearest")
    expected = np.maximum(gain - KEPT, 0) * np.clip(picture - mean, -3 * _LEVEL, 3 * _LEVEL)
    if is_portable:
        with portable_ops():
            found = faint_excess(tf.constant(picture), tf.constant(gain), 3.0)
    else:
        found = faint_excess(tf.constant(picture), tf.constant(gain), 3.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_noise_passes_with_the_kept_gain_and_an_edge_loses_three_levels():
    picture = np.zeros([1, 9, 32, 1], np.float32)
    picture[:, :, 16:] = 0.5
    picture[:, 4, 6] += _LEVEL
    output = 2.0 * picture - faint_excess(tf.constant(picture), tf.constant(2.0), 3.0).numpy()
    # A point is 1 - 4/16 of itself above its neighbourhood's mean: this much gets the kept gain, the rest all of it.
    assert output[0, 4, 6, 0] == pytest.approx((0.75 * KEPT + 0.25 * 2) * _LEVEL, rel=1e-4)
    # Beside the edge a quarter of 0.5 is the difference: far more than three levels, of which 1.2 are missing.
    assert output[0, 0, 16, 0] == pytest.approx(1.0 - (2 - KEPT) * 3 * _LEVEL, rel=1e-5)
    assert output[0, 0, 30, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("gain", [0.0, 0.5, KEPT])
def test_nothing_is_taken_off_where_contrast_is_not_enhanced(gain):
    assert np.abs(faint_excess(tf.constant(_picture(4)), tf.constant(gain), 3.0)).max() == 0.0


def test_a_gain_of_one_channel_is_that_of_all():
    picture, gain = _picture(2), np.random.default_rng(2).uniform(1, 2, [2, 12, 17, 1]).astype(np.float32)
    of_one, of_three = (faint_excess(tf.constant(picture), tf.constant(each), 2.0)
                        for each in (gain, gain.repeat(3, -1)))
    np.testing.assert_array_equal(of_one, of_three)
