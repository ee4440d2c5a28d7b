"""Datasets by the form of the `--dataset` flag."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from cut_tf.common.errors import InputError
from cut_tf.common.registry import Row
from cut_tf.data.checks import with_test_pairs_checked
from cut_tf.data.domain import Domain, JoinedDomain, TranslationData
from cut_tf.settings import Settings


@dataclasses.dataclass(frozen=True)
class Dataset(Row):
    """A row of `DATASETS`.

    Attributes:
      form: how --dataset names it. The part in front of a colon distinguishes it from the others.
    """

    form: str = ""


DATASETS = {
    "scenes": Dataset("cut_tf.data.kinds.scenes:open_scenes", "rendered scenes and their haze, no download",
                      ("scenes.*", "haze_recipe.*"), form="scenes"),
    "rooms": Dataset("cut_tf.data.kinds.scenes:open_rooms", "rendered rooms and their haze, no download",
                     ("scenes.*", "haze_recipe.*"), form="rooms"),
    "haze": Dataset("cut_tf.data.kinds.haze:open_haze", "folders laid out as RESIDE (ITS, OTS, SOTS/indoor, "
                    "SOTS/outdoor), O-HAZE, I-HAZE, NH-HAZE or Dense-Haze", ("haze.*",),
                    form="haze:TRAIN_DIR[,TEST_DIR]"),
    "hazed": Dataset("cut_tf.data.kinds.hazed:open_hazed", "clear photographs that get haze as they are read",
                     ("hazed.*", "haze_recipe.*"), form="hazed:CLEAR_DIR[,TEST_DIR]"),
    "single": Dataset("cut_tf.data.kinds.single:open_single", "a picture each, for SinCUT",
                      form="single:SOURCE_FILE,TARGET_FILE"),
    "tfds": Dataset("cut_tf.data.kinds.tfds:open_tfds", "of TensorFlow Datasets, such as cycle_gan/horse2zebra, or "
                    "haze_pairs, which cut_tf brings along", form="tfds:NAME"),
    "records": Dataset("cut_tf.data.kinds.records:open_records", "TFRecord shards of tools.make_records",
                       ("records.*",), form="records:DIR"),
    "two_folders": Dataset("cut_tf.data.kinds.folders:open_two_folders", "two folders of training pictures",
                           form="SOURCE_DIR,TARGET_DIR"),
    "folder": Dataset("cut_tf.data.kinds.folders:open_folder", "a folder with trainA, trainB and, if any, testA, testB",
                      form="DIR"),
}
# Joins datasets: --dataset=scenes+hazed:photos.
_JOIN = "+"


def kinds_of(dataset: str) -> list[str]:
    """Names in `DATASETS` of the dataset, or of the datasets that it joins."""
    return [_kind(part) for part in _parts(dataset)]


def _parts(dataset: str) -> list[str]:
    """The datasets that it joins; itself alone if its files and folders are there, whose names may hold a +."""
    prefix, _, rest = dataset.partition(":")
    named = rest if prefix in DATASETS else dataset
    return [dataset] if all(map(os.path.exists, named.split(","))) else dataset.split(_JOIN)


def _kind(name: str) -> str:
    if name in DATASETS and DATASETS[name].form == name:
        return name
    prefix, colon, _ = name.partition(":")
    if colon and prefix in DATASETS:
        return prefix
    return "two_folders" if "," in name else "folder"


def open_dataset(settings: Settings) -> TranslationData:
    """Opens `settings.data.dataset`; checks folders and file headers, decodes no picture.

    Raises:
      InputError: if the dataset does not exist or cannot be used; the message says what was looked for. Also if the
        pictures of a test pair differ in size.
    """
    parts, border_px = _parts(settings.data.dataset), settings.haze.crop_border_px
    if border_px and not any(map(_has_border, parts)):
        raise InputError(f"--crop_border_px must be 0 unless --dataset=haze:TRAIN_DIR,TEST_DIR, found {border_px} with "
                         f"--dataset={settings.data.dataset}")
    if len(parts) == 1:
        return _open_one(settings)
    return join([_open_one(settings.having(dataset=part, crop_border_px=border_px if _has_border(part) else 0))
                 for part in parts])


def _has_border(part: str) -> bool:
    """Whether it is a dehazing benchmark with test pairs, to which --crop_border_px belongs."""
    return _kind(part) == "haze" and "," in part


def join(parts: Sequence[TranslationData]) -> TranslationData:
    """Joins the pictures of all parts. Pairs and test split come from the parts that have them."""
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
    """Joins the sides that exist, or None without any: a folder may have a testA and no testB."""
    present = [side for side in sides if side is not None]
    return JoinedDomain(present) if present else None


def _open_one(settings: Settings) -> TranslationData:
    return with_test_pairs_checked(DATASETS[_kind(settings.data.dataset)](settings), settings.data)
