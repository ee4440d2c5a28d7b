"""`--dataset=scenes` and `--dataset=rooms`: rendered scenes, hazy in one domain, clear in the other. Needs no download.

Scenes are outdoors, as far as one sees; rooms are 0.5 to 9 m deep, and get haze that is so much denser in 1/m.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Origin, TranslationData
from cut_tf.data.haze.recipe import HazeRecipe, haze_picture
from cut_tf.data.rendering.renderer import Scene, render_scene
from cut_tf.data.rendering.rooms import render_room
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import Settings

# The pictures are the same in every run; the run's seed orders them. Splits use different scenes.
_SCENES_SEED = 2024
_TEST_SEED = 4048
_TEST_SCENES = 48
# What is 30 m away outdoors is 1 m away in a room.
_ROOMS_SCALE = 1.0 / 30.0


class SceneDomain:
    """Scenes first, first + 1, ... of a seed, clear or hazed by the scattering model with their true depth.

    The recipes take turns by the number of the scene.
    """

    def __init__(self, seed: int, first: int, count: int, size_px: int, hazy: bool,
                 recipes: Sequence[HazeRecipe] = (HazeRecipe(),),
                 render: Callable[[int, int, int, int], Scene] = render_scene) -> None:
        self._seed, self._first, self._count, self._size_px, self._hazy = seed, first, count, size_px, hazy
        self._recipes = tuple(recipes)
        self._render = render
        self._kind = "room" if render is render_room else "scene"

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"{self._kind}_{self._seed}_{self._first + index:05d}.png"

    def load(self, index: int) -> np.ndarray:
        number = self._first + index
        scene = self._render(self._seed, number, self._size_px, self._size_px)
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
    return _open(settings, "scenes", render_scene, 1.0)


def open_rooms(settings: Settings) -> TranslationData:
    """As `open_scenes`, indoors."""
    return _open(settings, "rooms", render_room, _ROOMS_SCALE)


def _open(settings: Settings, kind: str, render: Callable[[int, int, int, int], Scene],
          scale: float) -> TranslationData:
    """The domains of one kind; `scale` is that of its distances, outdoors 1."""
    count, size_px = settings.scenes.scenes_images, settings.scenes.scenes_size_px
    rule = Preprocessing.of(settings.data).too_small(size_px, size_px)
    if rule:
        raise InputError(f"--scenes_size_px: {rule}, found {size_px}")
    hazes = settings.haze_recipe
    recipes, tests = ([dataclasses.replace(recipe, visibility_min_m=scale * recipe.visibility_min_m)
                       for recipe in found] for found in (hazes.training_recipes(varied=False), hazes.test_recipes()))

    def domain(seed: int, first: int, number: int, hazy: bool) -> SceneDomain:
        used = tests if seed == _TEST_SEED else recipes
        return SceneDomain(seed, first, number, size_px, hazy, used, render)

    description = f"{kind}: {count} hazy, {count} clear, {_TEST_SCENES} test pairs of {size_px}x{size_px} px"
    # The scenes of both domains as pairs: methods that may see pairs see as many scenes as the others.
    return TranslationData(
        domain(_SCENES_SEED, 0, count, True), domain(_SCENES_SEED, count, count, False),
        domain(_TEST_SEED, 0, _TEST_SCENES, True), domain(_TEST_SEED, 0, _TEST_SCENES, False), True, description,
        (domain(_SCENES_SEED, 0, 2 * count, True), domain(_SCENES_SEED, 0, 2 * count, False)))
