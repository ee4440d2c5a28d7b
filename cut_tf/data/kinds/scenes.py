"""`--dataset=scenes`: rendered outdoor scenes, hazy in one domain, clear in the other. Needs no download."""

from __future__ import annotations

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Origin, TranslationData
from cut_tf.data.haze import scattering
from cut_tf.data.rendering.renderer import render_scene
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import Settings

# The pictures are the same in every run; the run's seed orders them. Splits use different scenes.
_SCENES_SEED = 2024
_TEST_SEED = 4048
_TEST_SCENES = 48


class SceneDomain:
    """Scenes first, first + 1, ... of a seed, clear or hazed by the scattering model with their true depth."""

    def __init__(self, seed: int, first: int, count: int, size_px: int, hazy: bool) -> None:
        self._seed, self._first, self._count, self._size_px, self._hazy = seed, first, count, size_px, hazy

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"scene_{self._seed}_{self._first + index:05d}.png"

    def load(self, index: int) -> np.ndarray:
        number = self._first + index
        scene = render_scene(self._seed, number, self._size_px, self._size_px)
        if not self._hazy:
            return scene.image
        parameters = scattering.sample_haze(np.random.default_rng([self._seed, number, 1]), scene.depth_m)
        return scattering.add_haze(scene.image, scene.depth_m, parameters.beta_per_m, parameters.airlight)

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
    source = SceneDomain(_SCENES_SEED, 0, count, size_px, hazy=True)
    target = SceneDomain(_SCENES_SEED, count, count, size_px, hazy=False)
    test_source = SceneDomain(_TEST_SEED, 0, _TEST_SCENES, size_px, hazy=True)
    test_target = SceneDomain(_TEST_SEED, 0, _TEST_SCENES, size_px, hazy=False)
    description = f"scenes: {count} hazy, {count} clear, {_TEST_SCENES} test pairs of {size_px}x{size_px} px"
    # The scenes of both domains as pairs: methods that may see pairs see as many scenes as the others.
    pairs = tuple(SceneDomain(_SCENES_SEED, 0, 2 * count, size_px, hazy) for hazy in (True, False))
    return TranslationData(source, target, test_source, test_target, True, description, pairs)
