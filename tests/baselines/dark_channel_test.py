"""The dark channel prior on pictures whose airlight and transmission are known, and on rendered scenes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.baselines import BASELINES, dark_channel
from cut_tf.data.kinds.scenes import open_scenes
from cut_tf.settings import Settings

ROOT = Path(__file__).parents[2]
AIRLIGHT = np.array([226.0, 233.0, 240.0])
NEAR, FAR = 0.8, 0.45
PLANE_ROWS = 300


def _planes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sky, a far plane and a near one below each other: clear levels [H, W, 3], transmission [H, W], hazy uint8.

    The planes are bright, and have a black pixel in every patch, as the prior wants.
    """
    clear = np.random.default_rng(0).integers(40, 200, (3 * PLANE_ROWS, 40, 3)).astype(float)
    clear[2::5, 2::5] = 0.0
    share = np.repeat([0.0, FAR, NEAR], PLANE_ROWS)[:, None] * np.ones([1, 40])
    hazy = clear * share[..., None] + AIRLIGHT * (1.0 - share[..., None])
    return clear, share, np.rint(hazy).astype(np.uint8)


def _inside(reach: int) -> np.ndarray:
    """Rows further than `reach` from any border between planes."""
    row = np.arange(3 * PLANE_ROWS)
    return np.minimum(abs(row - PLANE_ROWS + 0.5), abs(row - 2 * PLANE_ROWS + 0.5)) > reach


def test_airlight_and_transmission_of_planes_are_recovered():
    clear, share, hazy = _planes()
    airlight = dark_channel.atmospheric_light(hazy)
    np.testing.assert_allclose(airlight * 255, AIRLIGHT, atol=1e-9)
    expected = 1.0 - 0.95 * (1.0 - share)  # omega leaves a twentieth of the haze
    coarse = dark_channel.coarse_transmission(hazy, airlight)
    np.testing.assert_allclose(coarse[_inside(7)], expected[_inside(7)], atol=0.003)  # hazy levels are rounded
    refined = dark_channel.refine_transmission(hazy, coarse)
    reach = _inside(7 + 2 * 60)  # the patch, and the windows of the guided filter
    assert reach.sum() > 300
    np.testing.assert_allclose(refined[reach], expected[reach], atol=0.003)
    found = dark_channel.dehaze(hazy)[reach].astype(float)
    planes = share[reach] > 0
    # Half a level of rounding in, over the transmission, half a level out, and the haze that omega leaves.
    remains = (clear * share[..., None] + AIRLIGHT * (1 - share[..., None]) - AIRLIGHT) / expected[..., None] + AIRLIGHT
    np.testing.assert_allclose(found[planes], remains[reach][planes], atol=0.5 / FAR + 1.5)
    np.testing.assert_array_equal(dark_channel.dehaze(hazy)[:100], np.broadcast_to(AIRLIGHT, (100, 40, 3)))


def test_airlight_is_the_brightest_of_the_haziest_pixels():
    picture = np.full((50, 50, 3), 20, np.uint8)
    picture[5:25, 5:25] = (200, 210, 220)
    picture[40:43, 40:43] = 255  # a bright object, whose patch holds dark ground
    picture[6, 6] = 255  # the same, at the edge of the sky
    picture[14, 15] = (250, 210, 220)
    np.testing.assert_allclose(dark_channel.atmospheric_light(picture) * 255, [250, 210, 220])
    picture[14, 15] = (150, 255, 255)  # brighter, but with a channel that darkens every patch of the sky
    picture[5:25, 30:50] = (180, 190, 190)
    np.testing.assert_allclose(dark_channel.atmospheric_light(picture) * 255, [180, 190, 190])


def test_coarse_transmission_equals_its_formula():
    picture = np.random.default_rng(1).integers(0, 256, (20, 33, 3), np.uint8)
    airlight = np.array([0.9, 0.8, 0.5])
    patches = ndimage.minimum_filter(picture / 255.0 / airlight, [15, 15, 1], mode="nearest").min(axis=2)
    np.testing.assert_allclose(dark_channel.coarse_transmission(picture, airlight), 1 - 0.95 * patches, atol=1e-6)


@pytest.mark.parametrize("height", [400, 530])
def test_radiance_equals_its_formula_in_every_band(height):
    row, column = np.mgrid[:height, :24]
    picture = np.stack([120 + 100 * row / height, 150 + 2 * column, 140 + 50 * np.sin(row / 9)], -1).astype(np.uint8)
    picture[:height // 2:11, ::7] = (0, 30, 10)
    picture[2 * height // 3:] = 240 + (row[2 * height // 3:, :, None] + column[:1, :, None]) % 5  # nothing but haze
    airlight = dark_channel.atmospheric_light(picture)
    share = dark_channel.refine_transmission(picture, dark_channel.coarse_transmission(picture, airlight))
    assert share.min() < 0.1 and share.max() > 0.5
    expected = (picture / 255 - airlight) / np.maximum(share, 0.1)[..., None] + airlight
    expected = np.clip(255 * expected, 0, 255)
    np.testing.assert_allclose(dark_channel.dehaze(picture), expected, atol=0.5 + 1e-6)


def test_a_picture_without_haze_stays():
    clear = np.random.default_rng(3).integers(0, 256, (60, 45, 3), np.uint8)
    clear[3::6, 3::6] = 0
    np.testing.assert_allclose(dark_channel.dehaze(clear).astype(int), clear, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (2, 3), (14, 16), (130, 5)])
def test_any_size(size):
    picture = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
    before = picture.copy()
    result = dark_channel.dehaze(picture)
    assert result.shape == picture.shape and result.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_flat_pictures_stay(level):
    # Nothing tells a flat picture from haze without end, whose colour is that of the airlight.
    flat = np.full((20, 30, 3), level, np.uint8)
    np.testing.assert_array_equal(dark_channel.dehaze(flat), flat)


@pytest.mark.parametrize("picture", [np.zeros([0, 4, 3], np.uint8), np.zeros([4, 4], np.uint8),
                                     np.zeros([4, 4, 4], np.uint8), np.zeros([4, 4, 3], np.float32)])
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match=r"picture must be uint8 \[H, W, 3\] with at least one pixel, got "):
        dark_channel.dehaze(picture)


def test_rendered_scenes_come_closer_to_the_clear_ones():
    data = open_scenes(Settings.of(scenes_size_px=96))
    for index in (2, 4, 7):
        hazy, clear = data.test_source.load(index), data.test_target.load(index)
        dehazed = BASELINES["dark_channel_prior"](hazy)
        before, after = (peak_signal_noise_ratio(clear, found) for found in (hazy, dehazed))
        assert after > before + 1.0, f"scene {index}: {before:.2f} dB hazy, {after:.2f} dB dehazed"


def test_no_tensorflow_is_needed():
    code = "import sys, cut_tf.baselines; assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
