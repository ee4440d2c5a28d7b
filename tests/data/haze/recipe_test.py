"""From photograph, name and recipe to a hazy picture."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.haze import degradations, scattering
from cut_tf.data.haze.recipe import (
    PRESETS,
    HazeRecipe,
    add_random_haze,
    clear_photograph,
    divide,
    haze_photograph,
)

RECORDED_HAZE = [0.02223902, 0.743341863, 0.756780207, 0.751912594]
RECORDED_REAL = [
    {"depth": "luminance", "noise": "grey", "noise_levels": 21.563},
    {"depth": "luminance", "noise": "grey", "noise_levels": 4.802},
    {"depth": "planes", "clear": True},
    {"depth": "segments", "noise": "correlated", "noise_levels": 15.654}]


def _picture(seed=0, height=30, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(name="photograph")
def _photograph(tmp_path):
    (tmp_path / "clear").mkdir()
    Image.fromarray(_picture()).save(tmp_path / "clear" / "a.png")
    return tmp_path / "clear" / "a.png"


@pytest.fixture(name="depth_folder")
def _depth_folder(tmp_path):
    (tmp_path / "depth").mkdir()
    return tmp_path / "depth"


def _model(clear, depth_m, beta, airlight):
    """I = J t + A (1 - t), t = exp(-beta d), in levels, float64."""
    share = np.exp(-beta * depth_m.astype(np.float64))[..., None]
    return clear * share + 255.0 * np.asarray(airlight, np.float64) * (1.0 - share)


def test_haze_depends_on_seed_and_name_alone():
    image = _picture()
    first, again = (add_random_haze(image, "a.jpg", HazeRecipe(seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    others = [add_random_haze(image, name, HazeRecipe(seed=seed))
              for seed, name in ((2, "a.jpg"), (1, "b.jpg"), (1, "a.png"))]
    assert len({found.parameters.beta_per_m for found in [first, *others]}) == 4


def test_recorded_haze():
    """The same command gives the same dataset with every later version."""
    parameters = add_random_haze(_picture(), "a.jpg", HazeRecipe(seed=5)).parameters
    assert [parameters.beta_per_m, *map(float, parameters.airlight)] == pytest.approx(RECORDED_HAZE, rel=1e-6)


def test_the_model_holds_with_given_depths():
    image, depth_m = _picture(), np.random.default_rng(1).uniform(5, 90, (30, 40)).astype(np.float32)
    found = add_random_haze(image, "a.png", HazeRecipe(beta_min=0.01, beta_max=0.05), depth_m)
    assert 0.01 <= found.parameters.beta_per_m <= 0.05 and found.patches is None
    expected = _model(image, depth_m, found.parameters.beta_per_m, found.parameters.airlight)
    assert np.abs(found.image - expected).max() <= 0.501


def test_the_model_holds_with_patches():
    """The local coefficient is solved from every pixel: positive, with the mean that was drawn, and not even."""
    image = np.zeros((40, 50, 3), np.uint8)
    depth_m = np.full((40, 50), 20.0, np.float32)
    recipe = HazeRecipe(beta_min=0.03, beta_max=0.03, airlight_min=1.0, airlight_max=1.0, nonhomogeneous=0.5)
    found = add_random_haze(image, "a.png", recipe, depth_m)
    # Black under white airlight: I = 255 (1 - t), so beta = -ln(1 - I / 255) / d.
    local_beta = -np.log1p(found.image[..., 0] / -255.0) / 20.0
    assert local_beta.min() > 0
    assert local_beta.mean() == pytest.approx(0.03, rel=0.01)
    assert np.log(local_beta).std() == pytest.approx(0.5 * scattering.PATCH_LOG_STD, rel=0.05)
    expected = _model(image, depth_m * scattering.patch_density(40, 50, found.patches), 0.03, [1.0, 1.0, 1.0])
    assert np.abs(found.image - expected).max() <= 0.501


def test_patches_change_neither_depth_nor_coefficient_nor_airlight():
    image = _picture()
    even, patchy = (add_random_haze(image, "a.png", HazeRecipe(seed=2, nonhomogeneous=strength))
                    for strength in (0.0, 0.7))
    assert even.parameters.beta_per_m == patchy.parameters.beta_per_m
    np.testing.assert_array_equal(even.parameters.airlight, patchy.parameters.airlight)
    assert np.abs(even.image.astype(int) - patchy.image).mean() > 2


def test_ranges_are_kept():
    recipe = HazeRecipe(beta_min=0.02, beta_max=0.04, airlight_min=0.3, airlight_max=0.5)
    drawn = [add_random_haze(_picture(height=4, width=4), f"{number}.png", recipe).parameters for number in range(100)]
    betas, airlights = [found.beta_per_m for found in drawn], np.array([found.airlight for found in drawn])
    assert 0.02 <= min(betas) < 0.022 and 0.038 < max(betas) <= 0.04
    assert 0.3 <= airlights.min() < 0.33 and 0.47 < airlights.max() <= 0.5


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_photograph_with_its_depth_map(photograph, depth_folder, suffix):
    levels = np.random.default_rng(2).integers(5000, 60000, (30, 40), dtype=np.uint16)
    if suffix == ".png":
        Image.fromarray(levels).save(depth_folder / "a.png")
    else:
        np.save(depth_folder / "a.npy", (levels / 1000).astype(np.float32))
    hazed = haze_photograph(photograph, HazeRecipe(seed=3, depth=str(depth_folder)))
    np.testing.assert_array_equal(hazed.clear, _picture())
    record = json.loads(json.dumps(hazed.record))
    expected = _model(hazed.clear, levels / 1000, record["beta_per_m"], record["airlight"])
    assert np.abs(hazed.hazy - expected).max() <= 0.501
    # The default coefficient suits the depths of the map.
    low, high = scattering.MEDIAN_TRANSMISSION_RANGE
    assert low - 0.02 < math.exp(-record["beta_per_m"] * np.median(levels / 1000)) < high + 0.02
    assert record["depth"]["map"] == f"a{suffix}"
    assert (record["depth"]["width"], record["depth"]["height"]) == (40, 30)
    assert record["depth"]["least_m"] == pytest.approx(levels.min() / 1000, rel=1e-6)
    assert (record["source"], record["seed"], record["nonhomogeneous"]) == ("a.png", 3, None)


def test_a_smaller_depth_map_is_resized(photograph, depth_folder):
    small = np.random.default_rng(2).uniform(10, 60, (15, 20)).astype(np.float32)
    np.save(depth_folder / "a.npy", small)
    hazed = haze_photograph(photograph, HazeRecipe(depth=str(depth_folder)))
    depth_m = small.repeat(2, axis=0).repeat(2, axis=1)
    expected = _model(hazed.clear, depth_m, hazed.record["beta_per_m"], hazed.record["airlight"])
    assert np.abs(hazed.hazy - expected).max() <= 0.501
    assert (hazed.record["depth"]["width"], hazed.record["width"]) == (20, 40)


def test_record_of_made_up_depth_and_patches(photograph):
    hazed = haze_photograph(photograph, HazeRecipe(nonhomogeneous=0.4))
    record = json.loads(json.dumps(hazed.record))
    assert record["depth"] is None and (record["width"], record["height"]) == (40, 30)
    patches = scattering.HazePatches(**record["nonhomogeneous"])
    assert patches.strength == 0.4 and patches.waves > 0
    again = add_random_haze(hazed.clear, "a.png", HazeRecipe(nonhomogeneous=0.4))
    assert again.patches == patches
    np.testing.assert_array_equal(again.image, hazed.hazy)


def test_depths_that_suit_no_haze_are_named(photograph, depth_folder):
    np.save(depth_folder / "a.npy", np.zeros((30, 40), np.float32))
    with pytest.raises(InputError, match=r"a\.png: cannot be hazed with its depths: .*median > 0"):
        haze_photograph(photograph, HazeRecipe(depth=str(depth_folder)))


def test_haze_of_relative_inverse_depths_is_that_of_ridcp(photograph, depth_folder):
    """t = exp(-2 beta (1 - d)) with d min-max normalised and large where it is near; 2 beta is the optical depth."""
    inverse = np.random.default_rng(2).integers(0, 256, (30, 40), dtype=np.uint8)
    inverse[0, 0], inverse[0, 1] = 0, 255
    Image.fromarray(inverse).save(depth_folder / "a.png")
    recipe = HazeRecipe(depth=str(depth_folder), depth_form="inverse", optical_depth_min=1.4, optical_depth_max=1.4)
    hazed = haze_photograph(photograph, recipe)
    share = np.exp(-1.4 * (1.0 - inverse / 255.0))[..., None]
    expected = hazed.clear * share + 255.0 * np.array(hazed.record["airlight"]) * (1.0 - share)
    # The farthest 0.1 % of the distances count as sky, so that the scale is that of the next one.
    assert np.abs(hazed.hazy - expected).max() <= 2.5


@pytest.mark.parametrize("values, message", [
    ({"seed": -1}, "--seed must be an integer, zero or more, found -1"),
    ({"seed": 1.5}, r"--seed must be an integer, zero or more, found 1\.5"),
    ({"beta_min": 0.1}, r"--beta_max must be --beta_min \(0\.1\) or more, found 0\.0"),
    ({"beta_min": 0.3, "beta_max": 0.2}, r"--beta_max must be --beta_min \(0\.3\) or more, found 0\.2"),
    ({"beta_max": math.inf}, "--beta_max must be zero or more, found inf"),
    ({"beta_max": math.nan}, "--beta_max must be zero or more, found nan"),
    ({"airlight_max": 1.1}, r"--airlight_max must be at most 1, found 1\.1"),
    ({"airlight_min": 0.96}, r"--airlight_min must be at most --airlight_max \(0\.95\), found 0\.96"),
    ({"nonhomogeneous": 1.5}, r"--nonhomogeneous must be at most 1, found 1\.5"),
    ({"nonhomogeneous": -0.1}, r"--nonhomogeneous must be zero or more, found -0\.1"),
    ({"depth_scale": 0.0}, r"--depth_scale must be more than zero, found 0\.0"),
    ({"depth": 3}, "--depth must be text, found 3"),
    ({"depth_form": "disparity"}, "--depth_form must be one of metric, inverse, found 'disparity'"),
    ({"airlight_min": "0.5"}, "--airlight_min must be zero or more, found '0.5'"),
])
def test_bad_recipes_are_named(values, message):
    with pytest.raises(InputError, match=message):
        HazeRecipe(**values)


def test_halves_share_nothing_and_tests_are_pairs(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    hazy, clear = divide(paths, "train", seed=1)
    assert (len(hazy), len(clear)) == (6, 5) and sorted(hazy + clear) == sorted(paths)
    assert divide(paths, "train", seed=1, limit=4) == (hazy[:2], clear[:2])
    tested = divide(paths, "test", seed=1)
    assert tested[0] == tested[1] and sorted(tested[0]) == sorted(paths)


# ---- degradations -------------------------------------------------------------------------------------------------

_EVERYTHING = {"gamma_probability": 1.0, "noise_probability": 1.0, "jpeg_probability": 1.0, "nonhomogeneous": 0.5,
               "decoupled_probability": 1.0, "overcast_probability": 1.0, "sky_at_infinity": True}


def _scene():
    """A picture whose upper third is sky, and its depths in metres."""
    image, depth_m = _picture(height=36), np.random.default_rng(1).uniform(5, 90, (36, 40)).astype(np.float32)
    depth_m[:12] = np.inf
    return image, depth_m


@pytest.mark.parametrize("change", [{name: value} for name, value in _EVERYTHING.items()])
def test_one_degradation_changes_no_draw_of_the_others(change):
    image, depth_m = _scene()
    recipe = HazeRecipe(seed=4, optical_depth_min=0.5, optical_depth_max=3.0, airlight_min=0.3)
    plain = add_random_haze(image, "a.png", recipe, depth_m)
    changed = add_random_haze(image, "a.png", dataclasses.replace(recipe, **change), depth_m)
    np.testing.assert_array_equal(changed.parameters.airlight, plain.parameters.airlight)
    # Of the farthest depths, the last 0.1 % count as sky.
    rel = 0.01 if "decoupled_probability" in change else 1e-6
    assert changed.parameters.beta_per_m == pytest.approx(plain.parameters.beta_per_m, rel=rel)
    if change != {"sky_at_infinity": True}:  # which it has been before
        assert np.any(changed.image != plain.image) or np.any(changed.clear != plain.clear)


def test_dusk_is_in_both_pictures():
    image = _picture()
    found = add_random_haze(image, "a.png", HazeRecipe(gamma_probability=1.0, gamma_min=2.0, gamma_max=2.0))
    assert np.abs(found.clear - 255 * (image / 255.0) ** 2.0).max() <= 0.501 and found.drawn["gamma"] == 2.0
    without = add_random_haze(found.clear, "a.png", HazeRecipe())
    np.testing.assert_array_equal(found.image, without.image)


def test_noise_comes_before_the_haze_and_jpeg_after_it():
    """Half of the scene's light passes, so half of the noise is seen; the clear picture has none of it."""
    image, depth_m = np.full((120, 120, 3), 128, np.uint8), np.full((120, 120), 10.0, np.float32)
    recipe = HazeRecipe(beta_min=math.log(2) / 10, beta_max=math.log(2) / 10, noise_probability=1.0, noise_min=16,
                        noise_max=16, noise_kinds="colour")
    found = add_random_haze(image, "a.png", recipe, depth_m)
    assert found.image.astype(float).std(axis=(0, 1)) == pytest.approx([8.0] * 3, rel=0.05)
    np.testing.assert_array_equal(found.clear, image)
    with_jpeg = add_random_haze(image, "a.png", dataclasses.replace(recipe, jpeg_probability=1.0, jpeg_min=40,
                                                                    jpeg_max=40), depth_m)
    np.testing.assert_array_equal(with_jpeg.image, degradations.compress(found.image, 40))
    assert with_jpeg.drawn == {"noise": "colour", "noise_levels": 16.0, "jpeg": 40}


def test_a_picture_without_haze_stays_as_it_is():
    image = _picture()
    recipe = HazeRecipe(**{**_EVERYTHING, "gamma_probability": 0.0}, clear_probability=1.0)
    found = add_random_haze(image, "a.png", recipe)
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.clear, image)
    assert found.drawn["clear"] is True and found.parameters.beta_per_m == 0.0


@pytest.mark.parametrize("name", ["gamma", "noise", "jpeg", "clear", "decoupled", "patchy"])
def test_shares_are_those_of_the_recipe(name):
    change = {f"{name}_probability": 0.3, **({"nonhomogeneous": 0.5} if name == "patchy" else {})}
    drawn = [add_random_haze(_picture(height=4, width=4), f"{number}.png", HazeRecipe(**change))
             for number in range(400)]
    got = [found.patches is not None if name == "patchy" else found.drawn.get("depth") == "decoupled"
           if name == "decoupled" else name in found.drawn for found in drawn]
    assert abs(np.mean(got) - 0.3) < 0.07  # three standard deviations


def test_optical_depth_of_the_farthest_is_what_was_asked_for():
    image, depth_m = _scene()
    recipe = HazeRecipe(optical_depth_min=1.5, optical_depth_max=1.5)
    found = add_random_haze(image, "a.png", recipe, depth_m)
    far_m = depth_m[12:].max()
    assert found.parameters.beta_per_m * far_m == pytest.approx(1.5, rel=1e-6)
    # Metres do not matter, relations of distances do.
    nearer = add_random_haze(image, "a.png", recipe, depth_m / 20)
    np.testing.assert_array_equal(found.image, nearer.image)


def test_sky_at_infinity_is_nothing_but_haze():
    image, depth_m = _scene()
    depth_m[:12] = 1000.0  # the sky of the rendered scenes
    recipe = HazeRecipe(beta_min=1e-4, beta_max=1e-4)
    thin = add_random_haze(image, "a.png", recipe, depth_m)
    assert np.ptp(thin.image[:12].astype(int)) > 100
    sky = add_random_haze(image, "a.png", dataclasses.replace(recipe, sky_at_infinity=True), depth_m)
    airlight = np.rint(255 * sky.parameters.airlight)
    assert (sky.image[:12] == airlight).all()
    np.testing.assert_array_equal(sky.image[12:], thin.image[12:])
    np.testing.assert_array_equal(sky.clear, image)


def test_an_overcast_sky_has_one_colour_in_both_pictures():
    image, depth_m = _scene()
    found = add_random_haze(image, "a.png", HazeRecipe(overcast_probability=1.0), depth_m)
    airlight = np.rint(255 * found.parameters.airlight)
    assert (found.clear[:12] == airlight).all() and (found.image[:12] == airlight).all()
    np.testing.assert_array_equal(found.clear[12:], image[12:])


def test_decoupled_haze_does_not_follow_the_depths():
    """Black under white airlight shows the transmission; it is that of the random smooth depths, not of the given."""
    image = np.zeros((40, 50, 3), np.uint8)
    depth_m = np.linspace(5, 80, 40 * 50, dtype=np.float32).reshape(40, 50)
    recipe = HazeRecipe(optical_depth_min=2.0, optical_depth_max=2.0, airlight_min=1.0, airlight_max=1.0)
    coupled, decoupled = (add_random_haze(image, "a.png", dataclasses.replace(recipe, decoupled_probability=share),
                                          depth_m).image[..., 0] for share in (0.0, 1.0))
    optical_depth = -np.log1p(decoupled / -255.0)
    assert optical_depth.max() == pytest.approx(2.0, abs=0.05)
    assert optical_depth.min() == pytest.approx(2.0 / 16, abs=0.02)
    assert np.corrcoef(coupled.ravel(), depth_m.ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(decoupled.ravel(), depth_m.ravel())[0, 1]) < 0.8


def test_recorded_draws_of_real():
    """What the preset draws for a name stays with every later version."""
    found = [add_random_haze(_picture(), f"{number}.jpg", dataclasses.replace(PRESETS["real"], seed=5))
             for number in range(4)]
    assert [{name: round(value, 3) if isinstance(value, float) else value for name, value in picture.drawn.items()}
            for picture in found] == RECORDED_REAL


def test_the_clear_version_of_a_photograph(photograph):
    recipe = HazeRecipe(gamma_probability=1.0)
    np.testing.assert_array_equal(clear_photograph(photograph, recipe), haze_photograph(photograph, recipe).clear)
    np.testing.assert_array_equal(clear_photograph(photograph, HazeRecipe()), _picture())
    assert haze_photograph(photograph, recipe).record["drawn"]["depth"] == "rise"
