"""Depths that are made up for photographs: ranges, and what each kind follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cut_tf.baselines.guided_filter import guided_filter
from cut_tf.data.haze import made_up_depths
from cut_tf.settings.haze import DEPTH_KINDS


def _picture(height=60, width=80):
    """A bright smooth sky over dark ground with a darker house."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2] = (150, 180, 220)
    picture[height // 2:] = (60, 90, 30)
    picture[height // 3: -height // 6, width // 3: width // 2] = (120, 30, 20)
    return picture


@pytest.mark.parametrize("kind", DEPTH_KINDS)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (9, 1), (2, 3), (33, 47), (60, 80)])
def test_depths_are_finite_and_positive_at_every_size(kind, height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for seed in range(4):
        depth_m = made_up_depths.make_up_depth(image, kind, np.random.default_rng(seed))
        assert depth_m.shape == (height, width) and depth_m.dtype == np.float32
        assert np.isfinite(depth_m).all() and 3.0 < depth_m.min() <= depth_m.max() < 500.0


@pytest.mark.parametrize("kind", DEPTH_KINDS)
def test_depths_depend_on_the_draws_alone_and_flat_pictures_are_no_error(kind):
    for image in (_picture(), np.full((20, 30, 3), 90, np.uint8)):
        first, again, other = (made_up_depths.make_up_depth(image, kind, np.random.default_rng(seed))
                               for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert np.abs(np.log(first) - np.log(other)).max() > 0.05


def test_smooth_depths_fill_the_range_and_are_smooth():
    depth_m = made_up_depths.smooth_depth(90, 120, np.random.default_rng(3), 2.0, 50.0)
    assert (depth_m.min(), depth_m.max()) == (pytest.approx(2.0, rel=1e-5), pytest.approx(50.0, rel=1e-5))
    steps = np.abs(np.diff(np.log(depth_m), axis=1))
    assert steps.max() < 0.15 * np.ptp(np.log(depth_m))


def test_planes_are_planes():
    """1 / depth of a plane is linear in the picture: second differences vanish but where two planes meet."""
    flat = []
    for seed in range(6):
        nearness = 1.0 / made_up_depths.make_up_depth(_picture(), "planes", np.random.default_rng(seed)).astype(float)
        bends = np.abs(np.diff(nearness, 2, axis=0)[:, 1:-1]) + np.abs(np.diff(nearness, 2, axis=1)[1:-1])
        flat.append((bends < 1e-4 * nearness.max()).mean())
        # The floor comes nearer downwards.
        assert (np.diff(1.0 / nearness[-5:], axis=0) <= 1e-6).all()
    assert min(flat) > 0.9


def test_the_bright_is_far_where_luminance_decides():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image = ndimage.gaussian_filter(image.astype(float), (6, 6, 0))
    image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    log_depth = np.log(made_up_depths.make_up_depth(image, "luminance", np.random.default_rng(5)).astype(float))
    grey = ndimage.uniform_filter(image.mean(axis=2), 3)
    rise = np.linspace(1, 0, 60)[:, None] * np.ones((1, 80))
    # What luminance explains beyond the rise towards the top.
    design = np.stack([np.ones(grey.size), rise.ravel(), grey.ravel() / np.ptp(grey)], axis=1)
    weights = np.linalg.lstsq(design, log_depth.ravel(), rcond=None)[0]
    assert weights[2] > 0.5


def test_segments_change_where_colours_do():
    image = _picture()
    jumps, elsewhere = [], []
    for seed in range(12):
        log_depth = np.log(made_up_depths.make_up_depth(image, "segments", np.random.default_rng(seed)).astype(float))
        step = np.abs(np.diff(log_depth, axis=1))[22:48]
        jumps += [step[:, 25].mean(), step[:, 39].mean()]
        elsewhere.append(np.delete(step, range(22, 43), axis=1).mean())
    assert np.median(jumps) > 5 * np.median(elsewhere)


def test_edges_follow_the_picture_as_the_guided_filter_with_a_grey_guide():
    """Three equal channels make the colour filter's matrix v 1 1^T + e I: the grey filter with e / 3."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    image, depth_m = np.repeat(grey[..., None], 3, axis=2), rng.uniform(10, 100, (40, 50))
    radius = round(made_up_depths._EDGE_WINDOW * 50)
    expected = guided_filter(image / 255.0, np.log(depth_m), radius, 3 * made_up_depths._EDGE_EPS)
    expected = np.clip(expected, np.log(depth_m).min(), np.log(depth_m).max())
    np.testing.assert_allclose(np.log(made_up_depths._with_edges_of(image, depth_m)), expected, atol=1e-9)


def test_sky_is_the_smooth_and_bright_that_hangs_from_the_top():
    sky = made_up_depths.estimate_sky(_picture())
    expected = np.zeros((60, 80), bool)
    expected[:30] = True
    expected[20:30, 26:40] = False  # the house
    assert (sky == expected).mean() > 0.95
    assert not made_up_depths.estimate_sky(_picture()[::-1]).any()
    assert not made_up_depths.estimate_sky(np.full((20, 30, 3), 40, np.uint8)).any()
    noisy = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert not made_up_depths.estimate_sky(noisy).any()
