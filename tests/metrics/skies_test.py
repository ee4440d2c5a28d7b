"""What is added to skies, on pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from cut_tf.metrics.skies import added_to_skies


def _sky(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 180, np.uint8)


def test_nothing_is_added_by_the_identity_nor_by_one_grey_curve():
    sky = _sky()
    assert added_to_skies(sky, sky) == (1.0, 0.0, 0.0)
    share, colour, structure = added_to_skies(sky, sky - 60)
    assert share == 1.0 and colour == pytest.approx(0, abs=1e-2) and structure == 0


def test_a_blue_tint_counts_as_its_chroma():
    sky, blue = _sky(), _sky()
    blue[..., 2] += 40
    _, a, b = rgb2lab(blue)[0, 0]
    assert added_to_skies(sky, blue).colour == pytest.approx(np.hypot(a, b), rel=1e-2)
    assert added_to_skies(blue, sky).colour == 0


def test_a_band_counts_as_its_slope():
    """A ramp of one level per pixel over a quarter of the width."""
    sky, band = _sky(), _sky()
    band[:, 30:50] = (180 + np.arange(20))[None, :, None]
    band[:, 50:] = 199
    assert added_to_skies(sky, band).structure == pytest.approx(20 / 80, rel=0.1)


def test_only_what_is_smooth_and_bright_counts():
    rng = np.random.default_rng(0)
    textured = rng.integers(100, 255, (60, 80, 3)).astype(np.uint8)
    dark = np.full((60, 80, 3), 60, np.uint8)
    for picture in (textured, dark):
        share, colour, structure = added_to_skies(picture, _sky())
        assert share == 0 and np.isnan(colour) and np.isnan(structure)
    half = np.concatenate([_sky(), dark], 0)
    assert added_to_skies(half, half).share == pytest.approx(0.5, abs=0.05)


def test_noise_is_neither_structure_nor_colour():
    rng = np.random.default_rng(0)
    noisy = np.clip(np.rint(_sky() + rng.normal(0, 2, (60, 80, 3))), 0, 255).astype(np.uint8)
    _, colour, structure = added_to_skies(_sky(), noisy)
    assert structure < 0.15 and colour < 0.6


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected uint8"):
        added_to_skies(_sky(), _sky(61))
