"""Recipes of haze as settings: presets, and single fields that replace theirs."""

from __future__ import annotations

import dataclasses

import pytest

from cut_tf.common.errors import InputError
from cut_tf.settings import Settings
from cut_tf.settings.haze import PRESETS, VARIANTS, HazeRecipe, HazeRecipeSettings, recipe_of

FIELDS = {field.name: field for field in dataclasses.fields(HazeRecipe)}
OVERRIDES = {field.name: field for field in dataclasses.fields(HazeRecipeSettings) if field.name != "haze_preset"}


def test_every_field_of_a_recipe_but_those_of_one_folder_is_a_setting():
    assert set(FIELDS) - set(OVERRIDES) == {"seed", "depth", "depth_scale", "depth_form"}
    for name, field in OVERRIDES.items():
        assert field.default is None and field.metadata["kind"] is type(FIELDS[name].default), name
        assert FIELDS[name].metadata["help"] in field.metadata["help"]


def test_mild_is_the_haze_of_earlier_versions():
    assert PRESETS["mild"] == HazeRecipe()
    assert VARIANTS["mild"] == (HazeRecipe(), HazeRecipe(airlight_min=0.45), HazeRecipe(nonhomogeneous=0.5),
                                HazeRecipe())
    assert Settings().haze_recipe.training_recipes() == list(VARIANTS["mild"])
    assert Settings().haze_recipe.training_recipes(varied=False) == [HazeRecipe()]
    assert Settings().haze_recipe.test_recipes() == [HazeRecipe()]


def test_ranges_of_real_are_those_of_ridcp():
    real = PRESETS["real"]
    assert (real.airlight_min, real.airlight_max) == (0.25, 1.0)
    assert (real.gamma_min, real.gamma_max, real.gamma_probability) == (1.5, 3.0, 0.5)
    assert (real.noise_min, real.noise_max, real.noise_probability) == (2, 25, 0.5)
    assert (real.jpeg_min, real.jpeg_max, real.jpeg_probability) == (30, 95, 0.5)
    # exp(-2 beta (1 - d)) with beta in 0.3 to 1.5 lies within.
    assert real.optical_depth_min <= 0.6 and real.optical_depth_max >= 3.0


def test_single_fields_replace_those_of_every_preset():
    settings = Settings.of(haze_preset="mild,real", gamma_probability=0.0, airlight_min=0.5)
    recipes = settings.haze_recipe.training_recipes()
    assert {recipe.airlight_min for recipe in recipes} == {0.5}
    assert not any(recipe.gamma_probability for recipe in recipes)
    assert sum(recipe.jpeg_probability > 0 for recipe in recipes) == len(recipes) / 2
    assert settings.changed() == {"haze_preset": "mild,real", "gamma_probability": 0.0, "airlight_min": 0.5}


def test_presets_take_turns():
    recipes = Settings.of(haze_preset="reside,real").haze_recipe
    assert recipes.training_recipes() == [PRESETS["reside"], PRESETS["real"]]
    assert recipes.test_recipes() == [PRESETS["reside"], dataclasses.replace(PRESETS["real"], clear_probability=0.0)]


@pytest.mark.parametrize("values, message", [
    ({"haze_preset": "wild"}, "--haze_preset must be some of mild, reside, real, separated by commas, found 'wild'"),
    ({"haze_preset": ""}, "--haze_preset must be some of mild, reside, real, separated by commas, found ''"),
    ({"haze_preset": "real", "airlight_max": 0.2},
     r"--airlight_min must be at most --airlight_max \(0\.2\), found 0\.25"),
    ({"gamma_probability": 1.5}, r"--gamma_probability must be at most 1, found 1\.5"),
    ({"noise_min": -1.0}, r"--noise_min must be zero or more, found -1\.0"),
    ({"noise_kinds": "pink"}, "--noise_kinds must be some of colour, grey, correlated, separated by commas, "
                              "found 'pink'"),
    ({"depth_kinds": "planes,"}, "--depth_kinds must be some of rise, planes, .*, found 'planes,'"),
    ({"jpeg_min": 0}, "--jpeg_min must be more than zero, found 0"),
    ({"jpeg_max": 101}, "--jpeg_max must be at most 100, found 101"),
    ({"jpeg_max": 20}, r"--jpeg_min must be at most --jpeg_max \(20\), found 30"),
    ({"transmission_min": 0.9}, r"--transmission_min must be at most --transmission_max \(0\.7\), found 0\.9"),
    ({"transmission_min": 0.0}, r"--transmission_min must be more than zero, found 0\.0"),
    ({"visibility_min_m": 0.0}, r"--visibility_min_m must be more than zero, found 0\.0"),
    ({"optical_depth_min": 1.0}, r"--optical_depth_min must be at most --optical_depth_max \(0\.0\), found 1\.0"),
    ({"sky_at_infinity": 1}, "--sky_at_infinity must be of type bool, found 1"),
])
def test_bad_values_are_named_by_their_flag(values, message):
    with pytest.raises(InputError, match=message):
        Settings.of(**values)


def test_presets_by_name():
    assert recipe_of("real", seed=3, jpeg_min=80) == dataclasses.replace(PRESETS["real"], seed=3, jpeg_min=80)
    with pytest.raises(InputError, match="--haze_preset must be one of mild, reside, real, found 'wild'"):
        recipe_of("wild")
