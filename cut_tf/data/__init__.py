"""Datasets by the form of the `--dataset` flag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cut_tf.data.checks import with_test_pairs_checked
from cut_tf.data.domain import Domain, JoinedDomain, TranslationData
from cut_tf.data.kinds.folders import open_folder, open_two_folders
from cut_tf.data.kinds.haze import open_haze
from cut_tf.data.kinds.hazed import open_hazed
from cut_tf.data.kinds.scenes import open_scenes
from cut_tf.data.kinds.single import open_single
from cut_tf.data.kinds.tfds import open_tfds
from cut_tf.errors import InputError
from cut_tf.settings import Settings

DATASETS = {"scenes": open_scenes, "tfds": open_tfds, "haze": open_haze, "hazed": open_hazed,
            "single": open_single, "two_folders": open_two_folders, "folder": open_folder}
# Joins datasets: --dataset=scenes+hazed:photos.
_JOIN = "+"


def open_dataset(settings: Settings) -> TranslationData:
    """Opens `settings.data.dataset`; checks folders and file headers, decodes no picture.

    Raises:
      InputError: if the dataset is not there or not usable; the message says what was looked for. Or if the pictures of
        a test pair differ in size.
    """
    parts = settings.data.dataset.split(_JOIN)
    if len(parts) == 1 or Path(settings.data.dataset).is_dir():
        return _open_one(settings)
    return join([_open_one(settings.having(dataset=part)) for part in parts])


def join(parts: Sequence[TranslationData]) -> TranslationData:
    """The pictures of all parts as one dataset; pairs and test split are those of the parts that have any."""
    tests = [part for part in parts if part.test_paired]
    test_source, test_target = (_joined([getattr(part, side) for part in tests or parts])
                                for side in ("test_source", "test_target"))
    pairs = [part.pairs for part in parts]
    return TranslationData(
        source=JoinedDomain([part.source for part in parts]), target=JoinedDomain([part.target for part in parts]),
        test_source=test_source, test_target=test_target, test_paired=bool(tests),
        description=" + ".join(part.description for part in parts),
        pairs=None if None in pairs else tuple(JoinedDomain(side) for side in zip(*pairs)))


def _joined(sides: Sequence[Domain | None]) -> JoinedDomain | None:
    """The sides that are there, None without any: a folder may have a testA alone."""
    present = [side for side in sides if side is not None]
    return JoinedDomain(present) if present else None


def _open_one(settings: Settings) -> TranslationData:
    name = settings.data.dataset
    if name == "scenes":
        kind = "scenes"
    elif name.startswith(("tfds:", "haze:", "hazed:", "single:")):
        kind = name.split(":")[0]
    else:
        kind = "two_folders" if "," in name else "folder"
    if settings.haze.crop_border_px and (kind != "haze" or "," not in name):
        raise InputError(f"--crop_border_px must be 0 unless --dataset=haze:TRAIN_DIR,TEST_DIR, "
                         f"found {settings.haze.crop_border_px} with --dataset={name}")
    return with_test_pairs_checked(DATASETS[kind](settings), settings.data)
