"""TensorFlow Datasets' `haze_pairs`: clear photographs of a folder, each with its hazy version.

Importing this module, which imports TensorFlow Datasets, registers the name:

    import tensorflow_datasets as tfds
    import cut_tf.data.haze.tfds_builder
    builder = tfds.builder("haze_pairs", clear_folder="photos", seed=1, nonhomogeneous=0.5)
    builder.download_and_prepare()

`cut_tf.data.haze.recipe` makes the haze, the same as in tools.make_haze. A `download_config` with a `beam_runner` or
`beam_options` spreads the photographs over the workers of an Apache Beam pipeline (pip install apache-beam); without
one they are hazed one after the other. Both write the same examples.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.data.haze.depth_maps import find_depth_maps
from cut_tf.data.haze.recipe import HazeRecipe, divide, haze_photograph
from cut_tf.data.image_files import list_images

# Without a folder of test photographs, every tenth photograph is for testing.
TEST_EVERY = 10
_DESCRIPTION = """\
Clear photographs, each with a version that the atmospheric scattering model has hazed: `source` is hazy, `target` is
clear, `beta` the scattering coefficient in 1/m, `airlight` the colour of the haze. The splits are those of the CycleGAN
datasets: no photograph is in both trainA and trainB, so the sources of trainA and the targets of trainB are unpaired;
testA and testB both have all of the test pairs.
"""
_INSTRUCTIONS = """\
Put clear photographs into MANUAL_DIR/haze_pairs, or name their folder: tfds.builder("haze_pairs", clear_folder=...).
Either the folder has subfolders train and test, or one in ten of its photographs is taken for the test splits.
"""


def haze_example(path: str, recipe: HazeRecipe) -> tuple[str, dict[str, object]]:
    """Key and features of one photograph: the function that both ways to build the dataset call."""
    hazed = haze_photograph(Path(path), recipe)
    return Path(path).name, {
        "source": hazed.hazy, "target": hazed.clear, "name": Path(path).name,
        "beta": hazed.record["beta_per_m"], "airlight": np.array(hazed.record["airlight"], np.float32),
    }


class HazePairs(tfds.core.GeneratorBasedBuilder):
    """Builder of `haze_pairs`; see the module's docstring.

    Args:
      clear_folder: folder of clear photographs, or of the subfolders `train` and `test`; if empty,
        MANUAL_DIR/haze_pairs. With subfolders, a folder of depth maps must have the same ones.
      recipe: the haze.
      data_dir, config, version, file_format: as for every builder. Datasets of several recipes need a `data_dir` each.
      **haze: fields of HazeRecipe, instead of `recipe`.

    Raises:
      InputError: if the recipe is not valid, or `data_dir` has the dataset already, but made otherwise.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

    def __init__(self, *, clear_folder: str = "", recipe: HazeRecipe | None = None, data_dir: str | None = None,
                 config: object = None, version: object = None, file_format: object = None, **haze: object) -> None:
        fields = [field.name for field in dataclasses.fields(HazeRecipe)]
        unknown = sorted(set(haze) - set(fields))
        if unknown or (recipe and haze):
            raise InputError(f"haze_pairs must be given clear_folder and either recipe or some of {', '.join(fields)}, "
                             f"found {', '.join(unknown) or 'both'}")
        self._clear_folder = str(clear_folder)
        self._recipe = recipe or HazeRecipe(**haze)
        self._with_beam = False
        super().__init__(data_dir=data_dir, config=config, version=version, file_format=file_format)
        # The base class pickles a builder as the arguments of its own __init__.
        self._original_state.update(clear_folder=self._clear_folder, recipe=self._recipe)
        if clear_folder or recipe or haze:
            self._check_same()

    def _metadata(self) -> dict[str, object]:
        return {"clear_folder": self._clear_folder, **dataclasses.asdict(self._recipe)}

    def _check_same(self) -> None:
        """Raises InputError if existing files have another recipe. TensorFlow Datasets would use them silently."""
        # What an earlier version has made lacks the fields that recipes had not yet.
        recorded = {**dataclasses.asdict(HazeRecipe()), **self.info.metadata}
        differences = [f"{name} {recorded.get(name)!r} against {value!r}" for name, value in self._metadata().items()
                       if recorded.get(name) != value and (name != "clear_folder" or value)]
        if differences:
            raise InputError(f"{self.data_dir}: was made with another recipe: {'; '.join(differences)}. Give the same "
                             "or no arguments to use it, or another data_dir")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({
                "source": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "target": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "name": tfds.features.Text(),
                "beta": np.float32,
                "airlight": tfds.features.Tensor(shape=(3,), dtype=np.float32),
            }),
            supervised_keys=("source", "target"),
            metadata=tfds.core.MetadataDict(cut_tf=cut_tf.__version__, **self._metadata()),
        )

    def download_and_prepare(self, *, download_config: tfds.download.DownloadConfig | None = None,
                             **options: object) -> None:
        """As for every builder; uses Beam if `download_config` has a `beam_runner` or `beam_options`."""
        self._with_beam = bool(download_config and (download_config.beam_runner or download_config.beam_options))
        super().download_and_prepare(download_config=download_config, **options)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, object]:
        folder = Path(self._clear_folder) if self._clear_folder else Path(dl_manager.manual_dir) / self.name
        folder = folder.absolute()  # for Beam's workers, which may run elsewhere
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            parts = ("train", "test")
            photographs = [list_images(folder / part) for part in parts]
        else:
            parts = ("", "")
            photographs = _held_out(list_images(folder), self._recipe.seed)
        depth = self._recipe.depth
        recipes = [dataclasses.replace(recipe, depth=depth and str(Path(depth, part).absolute()))
                   for recipe, part in zip((self._recipe, self._recipe.for_test_pairs()), parts)]
        hazy, clear = divide(photographs[0], "train", self._recipe.seed)
        if not (clear and photographs[1]):
            raise InputError(f"{folder}: haze_pairs needs two photographs for training and one for testing, "
                             f"found {len(photographs[0])} and {len(photographs[1])}")
        for paths, recipe in zip(photographs, recipes):
            if recipe.depth:
                find_depth_maps(Path(recipe.depth), [path.stem for path in paths], recipe.depth_form)
        return {
            "trainA": self._generate_examples(hazy, recipes[0]),
            "trainB": self._generate_examples(clear, recipes[0]),
            "testA": self._generate_examples(photographs[1], recipes[1]),
            "testB": self._generate_examples(photographs[1], recipes[1]),
        }

    def _generate_examples(self, photographs: Sequence[Path], recipe: HazeRecipe) -> object:
        """A Beam transform or a generator of what `haze_example` returns."""
        paths = [str(path) for path in photographs]
        if not self._with_beam:
            return (haze_example(path, recipe) for path in paths)
        beam = tfds.core.lazy_imports.apache_beam
        # Reshuffled, so that Beam does not put reading the list and hazing all of it on one worker.
        return beam.Create(paths) | beam.Reshuffle() | beam.Map(functools.partial(haze_example, recipe=recipe))


def _held_out(photographs: Sequence[Path], seed: int) -> list[list[Path]]:
    """Training and test photographs, each sorted: every tenth of a shuffle is for testing."""
    order = np.random.default_rng(seed).permutation(len(photographs))
    test = set(order[::TEST_EVERY].tolist())
    return [[path for index, path in enumerate(photographs) if (index in test) == chosen] for chosen in (False, True)]
