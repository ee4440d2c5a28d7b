import math

import numpy as np
import pytest

from cut_tf.data.haze.scattering import (
    AIRLIGHT_RANGE,
    LEAST_VISIBILITY_M,
    MEDIAN_TRANSMISSION_RANGE,
    PATCH_LOG_STD,
    HazePatches,
    add_haze,
    estimate_depth_like,
    patch_density,
    sample_haze,
    sample_patches,
    transmission,
)
from cut_tf.data.rendering.renderer import SKY_DEPTH_M, render_scene

AIRLIGHT = np.array([0.8, 0.85, 0.9])


@pytest.fixture(scope="module")
def scene():
    return render_scene(11, 2, 64, 64)


def noise_image(height=8, width=9):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_transmission_by_hand():
    depth_m = np.array([[0.0, 10.0, 100.0, np.inf]])
    result = transmission(depth_m, 0.02)
    assert result.dtype == np.float32 and result.shape == (1, 4)
    np.testing.assert_allclose(result, [[1.0, 0.8187308, 0.1353353, 0.0]], atol=1e-6)


def test_transmission_without_haze_is_one_even_at_infinity():
    np.testing.assert_array_equal(transmission(np.array([[1.0, np.inf]]), 0.0), [[1.0, 1.0]])


def test_one_pixel_by_hand():
    # t = exp(-0.1 * 5) = 0.6065307; I = J t + A (1 - t) in units of 255:
    # red   200 t + 255 * 0.80 (1 - t) = 121.306 + 80.268 = 201.574
    # green 100 t + 255 * 0.85 (1 - t) =  60.653 + 85.285 = 145.938
    # blue    0 t + 255 * 0.90 (1 - t) =   0.000 + 90.301 =  90.301
    image = np.array([[[200, 100, 0]]], np.uint8)
    np.testing.assert_array_equal(add_haze(image, np.array([[5.0]]), 0.1, AIRLIGHT), [[[202, 146, 90]]])


def test_no_scattering_leaves_the_picture_untouched():
    image = noise_image()
    hazy = add_haze(image, np.full((8, 9), 300.0), 0.0, AIRLIGHT)
    assert hazy.dtype == np.uint8
    np.testing.assert_array_equal(hazy, image)


def test_infinite_depth_shows_only_the_airlight():
    hazy = add_haze(noise_image(), np.full((8, 9), np.inf), 0.01, AIRLIGHT)
    np.testing.assert_array_equal(hazy, np.broadcast_to([204, 217, 230], (8, 9, 3)))


def test_arguments_are_not_changed():
    image, depth_m = noise_image(), np.full((8, 9), 20.0, np.float32)
    image_before, depth_before = image.copy(), depth_m.copy()
    add_haze(image, depth_m, 0.05, AIRLIGHT)
    np.testing.assert_array_equal(image, image_before)
    np.testing.assert_array_equal(depth_m, depth_before)


def test_thicker_haze_brings_every_pixel_nearer_to_the_airlight(scene):
    gaps = [np.abs(add_haze(scene.image, scene.depth_m, beta, AIRLIGHT) / 255.0 - AIRLIGHT).mean()
            for beta in (0.0, 0.005, 0.02, 0.1)]
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]


def test_inverting_the_model_restores_the_picture_within_rounding(scene):
    beta = 0.03
    hazy = add_haze(scene.image, scene.depth_m, beta, AIRLIGHT)
    share = transmission(scene.depth_m, beta)[:, :, None]
    visible = share[:, :, 0] > 0.3
    restored = (hazy / 255.0 - AIRLIGHT * (1.0 - share)) / np.maximum(share, 1e-6)
    error = np.abs(255.0 * restored - scene.image)[visible]
    assert visible.mean() > 0.05
    # Half a level of rounding, amplified by 1 / t.
    assert (error <= 0.5 / share[visible] + 1e-2).all()
    assert np.abs(hazy.astype(int) - scene.image)[visible].mean() > 5


def test_sampled_haze_lies_in_its_ranges(scene):
    nearer = scene.depth_m < SKY_DEPTH_M
    medians, airlights = [], []
    for seed in range(40):
        haze = sample_haze(np.random.default_rng(seed), scene.depth_m)
        assert haze.beta_per_m > 0.0 and haze.airlight.shape == (3,)
        assert math.exp(-haze.beta_per_m * LEAST_VISIBILITY_M) >= 0.0199
        medians.append(np.median(transmission(scene.depth_m, haze.beta_per_m)[nearer]))
        airlights.append(haze.airlight)
    low, high = MEDIAN_TRANSMISSION_RANGE
    assert min(medians) > low - 0.02 and max(medians) < max(high, np.min(medians)) + 0.02
    airlights = np.array(airlights)
    assert airlights.min() >= AIRLIGHT_RANGE[0] - 1e-6 and airlights.max() <= AIRLIGHT_RANGE[1] + 1e-6
    assert 0.0 < np.ptp(airlights, axis=1).max() < 0.06
    assert airlights.mean(axis=1).std() > 0.02


def test_sampled_haze_sets_the_median_transmission_of_what_is_not_sky():
    depth_m = np.full((10, 10), 1000.0, np.float32)
    depth_m[4:] = 120.0
    medians = [math.exp(-120.0 * sample_haze(np.random.default_rng(seed), depth_m).beta_per_m) for seed in range(60)]
    assert 0.25 <= min(medians) < 0.32 and 0.63 < max(medians) <= 0.70


def test_sampled_haze_is_reproducible_and_follows_its_generator(scene):
    first, again, other = (sample_haze(np.random.default_rng(seed), scene.depth_m) for seed in (1, 1, 2))
    assert first.beta_per_m == again.beta_per_m != other.beta_per_m
    np.testing.assert_array_equal(first.airlight, again.airlight)


def test_near_pictures_keep_the_least_visibility():
    haze = sample_haze(np.random.default_rng(0), np.full((4, 4), 2.0))
    assert haze.beta_per_m == pytest.approx(3.912 / LEAST_VISIBILITY_M)


@pytest.mark.parametrize("beta_range, airlight_range", [((0.01, 0.03), (0.4, 0.5)), ((0.02, 0.02), (0.6, 0.61)),
                                                        ((0.0, 0.5), (0.0, 1.0)), ((0.1, 0.2), (0.3, 0.3))])
def test_sampled_haze_keeps_to_given_ranges(beta_range, airlight_range):
    depth_m = np.full((4, 4), 7.0)
    drawn = [sample_haze(np.random.default_rng(seed), depth_m, beta_range, airlight_range) for seed in range(200)]
    betas, airlights = np.array([haze.beta_per_m for haze in drawn]), np.array([haze.airlight for haze in drawn])
    least, greatest = beta_range
    assert betas.min() >= least and betas.max() <= greatest
    assert np.ptp(betas) >= 0.9 * (greatest - least)
    assert airlights.min() >= airlight_range[0] - 1e-7 and airlights.max() <= airlight_range[1] + 1e-7
    assert np.ptp(airlights) >= 0.8 * (airlight_range[1] - airlight_range[0])


def test_a_range_for_one_parameter_leaves_the_other_as_it_was():
    depth_m = np.full((4, 4), 70.0)
    plain, dense, dark = (sample_haze(np.random.default_rng(3), depth_m, *ranges)
                          for ranges in [(), ((0.4, 0.5),), (None, (0.1, 0.2))])
    assert plain.beta_per_m == dark.beta_per_m != dense.beta_per_m
    np.testing.assert_array_equal(plain.airlight, dense.airlight)
    assert dark.airlight.max() < plain.airlight.min()


def test_an_infinite_sky_does_not_count_for_the_density():
    depth_m = np.full((10, 10), np.inf)
    depth_m[4:] = 120.0
    finite = np.where(np.isinf(depth_m), 1000.0, depth_m)
    found, expected = (sample_haze(np.random.default_rng(0), depths) for depths in (depth_m, finite))
    assert found.beta_per_m == expected.beta_per_m > 0


@pytest.mark.parametrize("height, width", [(40, 60), (200, 31), (7, 7), (1, 50)])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_density_of_patches_is_positive_with_mean_one(height, width, strength):
    for seed in range(5):
        density = patch_density(height, width, sample_patches(np.random.default_rng(seed), strength))
        assert density.shape == (height, width) and density.dtype == np.float32
        assert density.min() > 0
        assert density.mean(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
        assert np.log(density, dtype=np.float64).std() == pytest.approx(strength * PATCH_LOG_STD, abs=1e-5)


def test_density_of_patches_is_smooth_and_follows_its_generator():
    first, again, other = (patch_density(200, 300, sample_patches(np.random.default_rng(seed), 1.0))
                           for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.5
    # The whole range is about 4 standard deviations; neighbours differ by a small part of one.
    for axis in (0, 1):
        assert 0 < np.abs(np.diff(np.log(first), axis=axis)).max() < 0.25 * PATCH_LOG_STD


def test_larger_pictures_show_the_same_patches_in_more_detail():
    patches = HazePatches(0.8, 2.0, 0.3, 1.7)
    small, large = patch_density(40, 60, patches), patch_density(80, 120, patches)
    np.testing.assert_allclose(large[::2, ::2], small, rtol=0.05)


def test_one_pixel_has_no_patches():
    np.testing.assert_array_equal(patch_density(1, 1, HazePatches(1.0, 2.0, 0.0, 0.0)), [[1.0]])


def test_pseudo_depth_rises_towards_the_top_and_is_smooth():
    for seed in range(8):
        depth_m = estimate_depth_like(60, 80, np.random.default_rng(seed))
        assert depth_m.shape == (60, 80) and depth_m.dtype == np.float32
        assert depth_m.min() > 2.0 and depth_m.max() < 800.0
        assert depth_m[:10].mean() > 4.0 * depth_m[-10:].mean()
        steps = np.abs(np.diff(np.log(depth_m), axis=1))
        assert 0.0 < steps.max() < 0.15
    assert estimate_depth_like(1, 1, np.random.default_rng(0)).shape == (1, 1)


def test_pseudo_depth_follows_its_generator():
    first, again, other = (estimate_depth_like(20, 30, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1.0


@pytest.mark.parametrize("change, message", [
    ({"image": np.zeros((4, 5, 3), np.float32)}, r"image must be uint8 \[H, W, 3\], got float32 \[4, 5, 3\]"),
    ({"image": np.zeros((4, 5), np.uint8)}, r"image must be uint8 \[H, W, 3\], got uint8 \[4, 5\]"),
    ({"depth_m": np.ones((4, 6))}, r"depth_m must have the height and width of image, \[4, 5\], got \[4, 6\]"),
    ({"depth_m": np.ones(5)}, r"depth_m must be a real array \[H, W\].*got float64 \[5\]"),
    ({"depth_m": np.full((4, 5), -1.0)}, r"depth_m must be >= 0 everywhere, got minimum -1\.0"),
    ({"depth_m": np.full((4, 5), np.nan)}, r"depth_m must be >= 0 everywhere, got minimum nan"),
    ({"beta_per_m": -0.1}, r"beta_per_m must be a finite number >= 0, got -0\.1"),
    ({"beta_per_m": math.inf}, r"beta_per_m must be a finite number >= 0, got inf"),
    ({"beta_per_m": "1"}, r"beta_per_m must be a finite number >= 0, got '1'"),
    ({"airlight": np.ones(4)}, r"airlight must be a real array \[3\], got float64 \[4\]"),
    ({"airlight": np.array([0.5, 1.2, 0.5])}, r"airlight must lie in \[0, 1\], got \[0\.5, 1\.2, 0\.5\]"),
])
def test_bad_arguments_of_add_haze_are_named(change, message):
    arguments = {"image": np.zeros((4, 5, 3), np.uint8), "depth_m": np.ones((4, 5)), "beta_per_m": 0.1,
                 "airlight": AIRLIGHT, **change}
    with pytest.raises(ValueError, match=message):
        add_haze(**arguments)


def test_bad_depth_for_sampling_is_named():
    with pytest.raises(ValueError, match=r"depth_m must have a finite median > 0 below the sky, got inf"):
        sample_haze(np.random.default_rng(0), np.full((2, 2), np.inf))
    with pytest.raises(ValueError, match=r"depth_m must have a finite median > 0 below the sky, got 0\.0"):
        sample_haze(np.random.default_rng(0), np.zeros((2, 2)))


@pytest.mark.parametrize("height, width, message", [
    (0, 4, r"height must be an integer >= 1, got 0"), (4, 2.5, r"width must be an integer >= 1, got 2\.5")])
def test_bad_sizes_are_named(height, width, message):
    with pytest.raises(ValueError, match=message):
        estimate_depth_like(height, width, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        patch_density(height, width, HazePatches(1.0, 2.0, 0.0, 0.0))
