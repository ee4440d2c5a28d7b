"""Measures without a target: against SciPy, brute force and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from cut_tf.metrics.no_reference import (
    colourfulness,
    dark_channel,
    local_contrast,
    no_reference_scores,
)


def _noise(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 31), (530, 9)])
def test_dark_channel_equals_scipy_in_every_band(size):
    picture = np.maximum(_noise(*size), np.random.default_rng(1).integers(0, 200, (size[0], 1, 1))).astype(np.uint8)
    expected = ndimage.minimum_filter(picture, [15, 15, 3], mode="nearest")[..., 1].mean() / 255
    assert dark_channel(picture) == pytest.approx(expected, abs=1e-12)


def test_dark_channel_by_hand():
    picture = np.full((15, 30, 3), 204, np.uint8)
    assert dark_channel(picture) == pytest.approx(0.8)
    picture[7, 0, 1] = 51  # within 7 px of it lie all 15 rows and 8 of 30 columns
    assert dark_channel(picture) == pytest.approx((8 * 0.2 + 22 * 0.8) / 30)


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (18, 23), (290, 4)])
def test_local_contrast_equals_the_deviation_in_every_patch(size):
    picture = _noise(*size)
    luma = picture / 255 @ [0.299, 0.587, 0.114]
    deviations = [luma[max(row - 7, 0):row + 8, max(column - 7, 0):column + 8].std()
                  for row in range(size[0]) for column in range(size[1])]
    assert local_contrast(picture) == pytest.approx(np.mean(deviations), abs=1e-12)


def test_contrast_gain_of_the_haze_model_is_one_over_the_transmission():
    clear = _noise(25, 19) // 2 * 2
    hazy = (clear // 2 + 64).astype(np.uint8)  # t = 1/2
    assert no_reference_scores(clear, hazy)["contrast_gain"] == pytest.approx(2.0, abs=1e-12)
    assert no_reference_scores(hazy, clear)["contrast_gain"] == pytest.approx(0.5, abs=1e-12)
    assert no_reference_scores(clear, clear)["contrast_gain"] == 1.0


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (201, 97, 33)])
def test_flat_pictures_have_no_contrast_at_all(colour):
    flat = np.broadcast_to(np.array(colour, np.uint8), (20, 16, 3))
    assert local_contrast(flat) == 0.0
    assert math.isnan(no_reference_scores(flat, flat)["contrast_gain"])
    assert no_reference_scores(_noise(20, 16), flat)["contrast_gain"] == math.inf
    assert no_reference_scores(flat, _noise(20, 16))["contrast_gain"] == 0.0


@pytest.mark.parametrize("size", [(1, 1), (21, 13), (300, 5)])
def test_colourfulness_equals_its_formula(size):
    picture = _noise(*size)
    red, green, blue = np.moveaxis(picture.astype(float), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    expected = math.sqrt(rg.var() + yb.var()) + 0.3 * math.hypot(rg.mean(), yb.mean())
    assert colourfulness(picture) == pytest.approx(expected, abs=1e-9)


def test_colourfulness_by_hand():
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:2, :, 0] = picture[2:, :, 1] = 255  # red above green: rg is 255 or -255, yb is 127.5
    assert colourfulness(picture) == pytest.approx(255 + 0.3 * 127.5)
    assert colourfulness(np.repeat(_noise(8, 8)[..., :1], 3, axis=-1)) == 0.0


def test_scores_tell_input_from_output():
    clear, hazy = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 204, np.uint8)
    clear[..., 0] = 100
    scores = no_reference_scores(clear, hazy)
    assert scores["dark_channel_input"] == pytest.approx(0.8) and scores["dark_channel_output"] == 0.0
    assert scores["colourfulness_input"] == 0.0
    assert scores["colourfulness_output"] == pytest.approx(0.3 * math.hypot(100, 50))


@pytest.mark.parametrize("measure", [dark_channel, local_contrast, colourfulness])
@pytest.mark.parametrize("picture", [np.zeros([4, 0, 3], np.uint8), np.zeros([4, 4], np.uint8),
                                     np.zeros([4, 4, 3], np.float32)])
def test_what_is_no_picture_is_refused(measure, picture):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\] with at least one pixel, got "):
        measure(picture)
