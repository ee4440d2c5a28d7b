"""From photograph, name and recipe to a hazy picture."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.haze import scattering
from cut_tf.data.haze.recipe import HazeRecipe, add_random_haze, divide, haze_photograph

RECORDED_HAZE = [0.02223902, 0.743341863, 0.756780207, 0.751912594]


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
