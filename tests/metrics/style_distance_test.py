"""Distances of palette and texture against closed forms, scipy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from cut_tf.metrics import style_distance


def _noise(height: int, width: int, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)


def test_one_dimension_is_scipys_wasserstein_distance():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(500, 1)), rng.gamma(2.0, size=(500, 1))
    expected = stats.wasserstein_distance(one[:, 0], other[:, 0])
    assert style_distance.sliced_wasserstein(one, other) == pytest.approx(expected, rel=1e-9)


def test_a_shift_counts_with_the_mean_length_of_its_projection():
    """Of a unit vector in three dimensions, the mean absolute projection on a random direction is 1 / 2."""
    one = np.random.default_rng(0).normal(size=(400, 3))
    found = style_distance.sliced_wasserstein(one, one + np.array([0.0, 8.0, 0.0]), directions=20_000)
    assert found == pytest.approx(4.0, rel=0.02)
    assert style_distance.sliced_wasserstein(one, one[::-1]) == pytest.approx(0.0, abs=1e-12)


def test_colours_of_flat_pictures():
    black, other = np.zeros((20, 30, 3), np.uint8), np.full((50, 40, 3), (0, 60, 0), np.uint8)
    assert style_distance.colour_distance(black, other) == pytest.approx(30.0, rel=0.1)
    assert style_distance.colour_distance(black, black) == 0


def test_colour_ignores_where_and_texture_ignores_the_palette():
    picture = _noise(90, 80)
    mixed = np.random.default_rng(1).permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    assert style_distance.colour_distance(picture, mixed) < 1.5
    dark, bright = _noise(90, 80, high=100), _noise(60, 100, seed=1, high=100) + 120
    assert style_distance.texture_distance(dark, bright) < 1.0
    assert style_distance.colour_distance(dark, bright) > 80


def test_texture_of_flat_and_noisy_pictures():
    """Patches of noise are 147 independent values of deviation s: projections are normal, and |N(0, s)| has the mean
    s sqrt(2 / pi); without its mean a value of 49 keeps 48 / 49 of the variance. A half size halves s."""
    flat, noisy = np.full((60, 60, 3), 128, np.uint8), _noise(400, 400)
    deviation = np.sqrt((256**2 - 1) / 12 * 48 / 49)
    for scale in (1, 2):
        expected = deviation / scale * np.sqrt(2 / np.pi)
        assert style_distance.texture_distance(flat, noisy, scale) == pytest.approx(expected, rel=0.03)
    assert style_distance.texture_distance(noisy, noisy[::-1]) < 1.5


def test_structure_is_scikit_images_ssim_of_luma_and_gradient():
    picture, source = _noise(40, 50), _noise(40, 50, seed=1)
    source[10:30, 10:30] = picture[10:30, 10:30]
    found = style_distance.structure_similarity(picture, source)
    luma = [np.rint(0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]) for image in
            (picture, source)]
    expected = structural_similarity(*(values.astype(np.uint8) for values in luma), gaussian_weights=True, sigma=1.5,
                                     use_sample_covariance=False, data_range=255)
    assert found["ssim_luminance"] == pytest.approx(expected, abs=0.01)
    assert 0 < found["ssim_edges"] < 1
    same = style_distance.structure_similarity(picture, picture)
    assert same == {"ssim_luminance": pytest.approx(1.0), "ssim_edges": pytest.approx(1.0)}
    # Another brightness and palette leave the edges where they are.
    darker = (picture[..., ::-1] * 0.98).astype(np.uint8)
    assert style_distance.structure_similarity(darker, darker[::-1])["ssim_edges"] < 0.2


def test_pictures_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match="sides must be at least 14 px at scale 2, found 30x13"):
        style_distance.texture_distance(_noise(13, 30), _noise(40, 40), scale=2)
