"""`--dataset=scenes`: rendered outdoor scenes, hazy in one domain, clear in the other. Needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Origin, TranslationData
from cut_tf.data.haze.recipe import HazeRecipe, haze_picture
from cut_tf.data.rendering.renderer import render_scene
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import Settings

# The pictures are the same in every run; the run's seed orders them. Splits use different scenes.
_SCENES_SEED = 2024
_TEST_SEED = 4048
_TEST_SCENES = 48


class SceneDomain:
    """Scenes first, first + 1, ... of a seed, clear or hazed by the scattering model with their true depth.

    The recipes take turns by the number of the scene.
    """

    def __init__(self, seed: int, first: int, count: int, size_px: int, hazy: bool,
                 recipes: Sequence[HazeRecipe] = (HazeRecipe(),)) -> None:
        self._seed, self._first, self._count, self._size_px, self._hazy = seed, first, count, size_px, hazy
        self._recipes = tuple(recipes)

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"scene_{self._seed}_{self._first + index:05d}.png"

    def load(self, index: int) -> np.ndarray:
        number = self._first + index
        scene = render_scene(self._seed, number, self._size_px, self._size_px)
        recipe = self._recipes[number % len(self._recipes)]
        if not (self._hazy or recipe.changes_clear):
            return scene.image
        found = haze_picture(scene.image, [self._seed, number, 1], recipe, scene.depth_m)
        return found.image if self._hazy else found.clear

    def size(self, index: int) -> tuple[int, int]:
        return self._size_px, self._size_px

    def origin(self, index: int) -> Origin:
        return Origin(self.name(index), 0)

    def key(self, index: int) -> int:
        return index


def open_scenes(settings: Settings) -> TranslationData:
    """Training: hazy scenes and other, clear ones; or all of them as pairs. Test: pairs, seen in neither."""
    count, size_px = settings.scenes.scenes_images, settings.scenes.scenes_size_px
    rule = Preprocessing.of(settings.data).too_small(size_px, size_px)
    if rule:
        raise InputError(f"--scenes_size_px: {rule}, found {size_px}")
    recipes = settings.haze_recipe.training_recipes(varied=False)
    tests = settings.haze_recipe.test_recipes()
    source = SceneDomain(_SCENES_SEED, 0, count, size_px, True, recipes)
    target = SceneDomain(_SCENES_SEED, count, count, size_px, False, recipes)
    test_source, test_target = (SceneDomain(_TEST_SEED, 0, _TEST_SCENES, size_px, hazy, tests) for hazy in
                                (True, False))
    description = f"scenes: {count} hazy, {count} clear, {_TEST_SCENES} test pairs of {size_px}x{size_px} px"
    # The scenes of both domains as pairs: methods that may see pairs see as many scenes as the others.
    pairs = tuple(SceneDomain(_SCENES_SEED, 0, 2 * count, size_px, hazy, recipes) for hazy in (True, False))
    return TranslationData(source, target, test_source, test_target, True, description, pairs)
