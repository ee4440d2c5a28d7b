"""`--dataset=hazed:CLEAR_DIR[,TEST_DIR]`: clear photographs that get their haze while they are read.

Nothing is written; each photograph is seen in several hazes (`cut_tf.data.haze.recipe`), which depend on its file name
and the number of the haze alone. `--haze_preset` and the flags of single fields say which: of the default, `mild`, in
turn bright, dark, patchy and bright ones for training, bright ones for testing. `tools.make_haze` writes the like to a
folder.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Domain, TranslationData
from cut_tf.data.haze.depth_maps import find_depth_maps
from cut_tf.data.haze.recipe import HazeRecipe, HazyPicture, add_random_haze, depth_of, divide
from cut_tf.data.image_files import list_images, read_image
from cut_tf.data.kinds.folders import FolderDomain, PathsDomain, check_headers
from cut_tf.settings import Settings


class HazedDomain(PathsDomain):
    """Photographs in several hazes: first all in the first one, then all in the second, and so on.

    Args:
      paths: clear photographs, each as often as it has hazes.
      recipes: the haze of each.
      hazy: whether the haze is seen; if not, this is the domain of their clear partners.
      photographs: reads the files; shared by both sides of pairs, so that a pair decodes its file once.
    """

    def __init__(self, paths: Sequence[Path], recipes: Sequence[HazeRecipe], hazy: bool,
                 photographs: LastPhotograph | None = None) -> None:
        super().__init__(paths)
        self._recipes = list(recipes)
        self._hazy = hazy
        self._photographs = photographs or LastPhotograph()

    def load(self, index: int) -> np.ndarray:
        path, recipe = self.paths[index], self._recipes[index]
        if not (self._hazy or recipe.changes_clear):
            return self._photographs.read(path)
        found = self._photographs.hazed(path, recipe)
        return found.image if self._hazy else found.clear

    def key(self, index: int) -> Hashable:
        path, recipe = self.paths[index], self._recipes[index]
        return (path, recipe) if self._hazy or recipe.changes_clear else path


class LastPhotograph:
    """Reads and hazes photographs. The last result of each thread is kept, so that it need not be computed again."""

    def __init__(self) -> None:
        self._last = threading.local()

    def hazed(self, path: Path, recipe: HazeRecipe) -> HazyPicture:
        """Hazy picture and its clear version, not to be written to. Raises InputError as `read_image` does."""
        if getattr(self._last, "hazed", None) != (path, recipe):
            clear = self.read(path)
            depth_m, _ = depth_of(path, recipe, *clear.shape[:2])
            try:
                self._last.pair = add_random_haze(clear, path.name, recipe, depth_m)
            except ValueError as error:
                raise InputError(f"{path}: cannot be hazed with its depths: {error}") from error
            self._last.hazed = path, recipe
        return self._last.pair

    def read(self, path: Path) -> np.ndarray:
        """uint8 [H, W, 3], not to be written to. Raises InputError as `read_image` does."""
        if getattr(self._last, "path", None) != path:
            # Read before the path is stored, so that a file that cannot be read is tried again.
            self._last.picture = read_image(path)
            self._last.path = path
        return self._last.picture


def _pairs(paths: Sequence[Path], recipes: Sequence[HazeRecipe]) -> tuple[HazedDomain, HazedDomain]:
    """Hazy and clear photographs of the same index."""
    photographs = LastPhotograph()
    return tuple(HazedDomain(paths, recipes, hazy, photographs) for hazy in (True, False))


def _each_in_all(paths: Sequence[Path], hazes: Sequence[HazeRecipe]) -> tuple[list[Path], list[HazeRecipe]]:
    """First all photographs with the first haze, then all with the second, and so on."""
    return [path for _ in hazes for path in paths], [haze for haze in hazes for _ in paths]


def _clear_half(paths: Sequence[Path], hazes: Sequence[HazeRecipe]) -> Domain:
    """The clear domain of unpaired training: in the dusk, or under the overcast sky, that the hazy one has too."""
    if any(haze.changes_clear for haze in hazes):
        return HazedDomain(*_each_in_all(paths, hazes), hazy=False)
    return FolderDomain(paths)


def _check_depths(paths: Sequence[Path], given: Mapping[str, Any]) -> None:
    """Raises InputError unless all photographs have depth maps, if a folder of these was given."""
    if given["depth"]:
        find_depth_maps(Path(given["depth"]), [path.stem for path in paths], given["depth_form"])


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
    given = {"depth": settings.hazed.depth, "depth_scale": settings.hazed.depth_scale,
             "depth_form": settings.hazed.depth_form}
    recipes, turns = ([dataclasses.replace(recipe, **given) for recipe in found] for found in (
        settings.haze_recipe.training_recipes(), settings.haze_recipe.test_recipes()))
    _check_depths(paths, given)
    # The seed becomes the number of the haze.
    hazes = [dataclasses.replace(recipes[number % len(recipes)], seed=number + 1)
             for number in range(settings.hazed.haze_variants)]
    tests = (None, None)
    if len(folders) == 2:
        test_paths = list_images(Path(folders[1]))
        check_headers(Path(folders[1]), test_paths, settings.data, training=False)
        _check_depths(test_paths, given)
        # With the preset mild what tools.make_haze does by default, so that numbers can be compared.
        tests = _pairs(test_paths, [turns[index % len(turns)] for index in range(len(test_paths))])
    description = (f"hazed:{folders[0]}: {len(halves[0])} photographs to haze in {len(hazes)} ways "
                   f"({settings.haze_recipe.haze_preset}), {len(halves[1])} clear, "
                   + (f"{len(tests[0])} test pairs of {folders[1]}" if tests[0] else "no test split"))
    return TranslationData(HazedDomain(*_each_in_all(halves[0], hazes), hazy=True), _clear_half(halves[1], hazes),
                           *tests, tests[0] is not None, description, _pairs(*_each_in_all(paths, hazes)))
