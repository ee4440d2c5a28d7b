"""`--dataset=hazed:CLEAR_DIR[,TEST_DIR]`: clear photographs that get their haze while they are read.

Nothing is written; each photograph is seen in several hazes (`cut_tf.data.haze.recipe`), which depend on its file name
and the number of the haze alone: in turn bright, dark, patchy and bright ones for training, bright ones for testing.
`tools.make_haze` writes the like to a folder.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import TranslationData
from cut_tf.data.haze.recipe import HazeRecipe, add_random_haze, divide
from cut_tf.data.image_files import list_images, read_image
from cut_tf.data.kinds.folders import FolderDomain, check_headers
from cut_tf.settings import Settings

# What tools.make_haze does by default, so that numbers can be compared.
_TEST_HAZES = (HazeRecipe(seed=0),)
# Real haze is grey at dusk and drifts; the seed becomes the number of the haze.
_TRAINING_HAZES = (HazeRecipe(), HazeRecipe(airlight_min=0.45), HazeRecipe(nonhomogeneous=0.5), HazeRecipe())


class HazedDomain(FolderDomain):
    """Photographs in several hazes: first all in the first one, then all in the second, and so on.

    Args:
      paths: clear photographs.
      recipes: the hazes.
      hazy: whether the haze is seen; if not, this is the domain of their clear partners.
      photographs: reads the files; shared by both sides of pairs, so that a pair decodes its file once.
    """

    def __init__(self, paths: Sequence[Path], recipes: Sequence[HazeRecipe], hazy: bool,
                 photographs: LastPhotograph | None = None) -> None:
        super().__init__([path for _ in recipes for path in paths])
        self._recipes = [recipe for recipe in recipes for _ in paths]
        self._hazy = hazy
        self._photographs = photographs or LastPhotograph()

    def load(self, index: int) -> np.ndarray:
        clear = self._photographs.read(self.paths[index])
        return add_random_haze(clear, self.name(index), self._recipes[index]).image if self._hazy else clear

    def key(self, index: int) -> Hashable:
        return (self.paths[index], self._recipes[index]) if self._hazy else self.paths[index]


class LastPhotograph:
    """Reads photographs, and gives the last one that a thread has read again without decoding it again."""

    def __init__(self) -> None:
        self._last = threading.local()

    def read(self, path: Path) -> np.ndarray:
        """uint8 [H, W, 3], not to be written to. Raises InputError as `read_image` does."""
        if getattr(self._last, "path", None) != path:
            # Read before the path is noted, so that a file that cannot be read is tried again.
            self._last.picture = read_image(path)
            self._last.path = path
        return self._last.picture


def _pairs(paths: Sequence[Path], recipes: Sequence[HazeRecipe]) -> tuple[HazedDomain, HazedDomain]:
    """Hazy and clear photographs of the same index."""
    photographs = LastPhotograph()
    return tuple(HazedDomain(paths, recipes, hazy, photographs) for hazy in (True, False))


def open_hazed(settings: Settings) -> TranslationData:
    """Unpaired: half of the photographs hazy, the other half clear. Pairs: all of them. Test: TEST_DIR, all pairs.

    Raises:
      InputError: if a folder has no or too few photographs, or files that are no readable picture or too small.
    """
    folders = settings.data.dataset.split(":", 1)[1].split(",")
    if len(folders) > 2 or not all(folders):
        raise InputError("--dataset must be hazed:CLEAR_DIR or hazed:CLEAR_DIR,TEST_DIR with folders of clear "
                         f"photographs, found {settings.data.dataset!r}")
    paths = list_images(Path(folders[0]))
    check_headers(Path(folders[0]), paths, settings.data)
    halves = divide(paths, "train", seed=0)
    if not halves[1]:
        raise InputError(f"--dataset={settings.data.dataset}: {folders[0]} must have two photographs or more, one for "
                         f"each domain, found {len(paths)}")
    hazes = [dataclasses.replace(_TRAINING_HAZES[number % len(_TRAINING_HAZES)], seed=number + 1)
             for number in range(settings.hazed.haze_variants)]
    tests = (None, None)
    if len(folders) == 2:
        test_paths = list_images(Path(folders[1]))
        check_headers(Path(folders[1]), test_paths, settings.data, training=False)
        tests = _pairs(test_paths, _TEST_HAZES)
    description = (f"hazed:{folders[0]}: {len(halves[0])} photographs to haze in {len(hazes)} ways, {len(halves[1])} "
                   f"clear, " + (f"{len(tests[0])} test pairs of {folders[1]}" if tests[0] else "no test split"))
    return TranslationData(HazedDomain(halves[0], hazes, True), FolderDomain(halves[1]), *tests, tests[0] is not None,
                           description, _pairs(paths, hazes))
