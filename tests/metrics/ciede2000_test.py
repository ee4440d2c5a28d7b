"""CIEDE2000 against scikit-image, against the pairs published with the formula, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab

from cut_tf.metrics.ciede2000 import ciede2000, colour_difference, lab_of_rgb

# Sharma, Wu, Dalal (2005), table 1: hues just to either side of opposite, greys, large, small and dark differences.
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
    ((50.0, 2.5, 0.0), (56.0, -27.0, -3.0), 31.9030),
    ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


def _reference(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(deltaE_ciede2000(rgb2lab(target), rgb2lab(prediction)).mean())


def _edge_colours() -> np.ndarray:
    """All colours of 0, 1, 10, 128, 254 and 255 levels, among them black, white and greys: uint8 [1, 216, 3]."""
    levels = np.array([0, 1, 10, 128, 254, 255], np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)


@pytest.mark.parametrize("one, other, expected", PUBLISHED)
def test_equals_the_published_pairs_both_ways(one, other, expected):
    found = [float(colour_difference(np.array(first), np.array(second))) for first, second in
             ((one, other), (other, one))]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_equals_scikit_image_on_noise_for_each_image_of_a_batch():
    prediction, target = np.random.default_rng(0).integers(0, 256, (2, 3, 31, 45, 3), dtype=np.uint8)
    prediction[2] = np.clip(target[2].astype(int) + np.random.default_rng(1).integers(-2, 3, target[2].shape), 0, 255)
    result = ciede2000(prediction, target)
    assert result.dtype == tf.float32 and result.shape == [3]
    np.testing.assert_allclose(result, [_reference(*pair) for pair in zip(prediction, target)], atol=1e-4)


def test_equals_scikit_image_on_every_pair_of_edge_colours():
    colours = _edge_colours()
    found = colour_difference(lab_of_rgb(colours[0][:, None]), lab_of_rgb(colours))
    expected = deltaE_ciede2000(*np.broadcast_arrays(rgb2lab(colours).swapaxes(0, 1), rgb2lab(colours)))
    opposite = np.abs(found - expected) > 1e-3
    assert not opposite.any(), f"{opposite.sum()} pairs differ"


def test_equals_scikit_image_on_a_photograph_of_many_chunks():
    target = data.astronaut()[:300, :250]  # 75,000 pixels
    hazy = (0.4 * target + 150).astype(np.uint8)
    np.testing.assert_allclose(ciede2000(hazy[None], target[None]), [_reference(hazy, target)], atol=1e-4)


def test_by_hand():
    black, white = np.zeros((1, 3, 4, 3), np.uint8), np.full((1, 3, 4, 3), 255, np.uint8)
    # Lightness 0 and 100, whose mean of 50 has the weight 1. White is grey but for the last digits of the matrix.
    np.testing.assert_allclose(ciede2000(black, white), [100.0], atol=1e-3)
    half = black.copy()
    half[:, :, :2] = 255
    np.testing.assert_allclose(ciede2000(half, white), [50.0], atol=1e-3)
    np.testing.assert_array_equal(ciede2000(half, half), [0.0])


def test_colours_of_known_lab():
    # L* from the grey's linear light Y: 116 Y^(1/3) - 16; and below Y = (6/29)^3 the line through zero, 903.3 Y.
    linear = ((128 / 255 + 0.055) / 1.055) ** 2.4
    lab = lab_of_rgb(np.array([[128, 128, 128], [2, 2, 2]], np.uint8))
    np.testing.assert_allclose(lab[:, 0], [116 * np.cbrt(linear) - 16, 24389 / 27 * 2 / 255 / 12.92], atol=1e-6)
    np.testing.assert_allclose(lab[:, 1:], 0.0, atol=0.01)


def test_other_shapes_are_named():
    image = np.zeros((1, 16, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 16, 12, 3\).*\(1, 16, 13, 3\)"):
        ciede2000(image, np.zeros((1, 16, 13, 3), np.uint8))
    with pytest.raises(ValueError, match=r"target: expected uint8 \[B, H, W, 3\], got float32"):
        ciede2000(image, image.astype(np.float32))
