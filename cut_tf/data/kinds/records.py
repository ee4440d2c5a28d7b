"""`--dataset=records:DIR`: TFRecord shards of `tools.make_records`, on this machine or behind a URL.

The same pictures in a folder and in records give the same run, to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.data.checks import first_lines
from cut_tf.data.domain import Domain, TranslationData
from cut_tf.data.kinds.folders import size_problem
from cut_tf.data.records import RecordsDomain, Split, check_shards, load_index
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import DataSettings, Settings


def open_records(settings: Settings) -> TranslationData:
    """Opens the splits train (pairs) or trainA and trainB, and if there, test (pairs) or testA and testB.

    Raises:
      InputError: if the folder is not whole, a shard is missing, cut short or damaged, or pictures are too small.
    """
    folder = settings.data.dataset.split(":", 1)[1]
    folder = folder.rstrip("/") if places.is_remote(folder) else os.path.expanduser(folder)
    splits = load_index(folder)
    check_shards(folder, splits.values(), settings.records.records_check)
    train, test = (_sides(folder, splits, name) for name in ("train", "test"))
    if None in train:
        raise InputError(f"--dataset=records:{folder} must have the split train, or trainA and trainB, found "
                         f"{', '.join(sorted(splits)) or 'none'}")
    for domain in dict.fromkeys(train):
        _check_sizes(folder, domain, settings.data, True)
    for domain in test:
        if domain is not None:
            _check_sizes(folder, domain, settings.data, False)
    paired, test_paired = ("train" in splits), ("test" in splits)
    counts = [f"{len(train[0])} source, {len(train[1])} target" + (" in pairs" if paired else "")]
    counts.append(f"{len(test[0])} test images, {'paired' if test_paired else 'not paired'}" if test[0] else
                  "no test split")
    return TranslationData(*train, *test, test_paired, f"records:{folder}: {', '.join(counts)}",
                           train if paired else None)


def _sides(folder: str, splits: dict[str, Split], name: str) -> tuple[Domain | None, Domain | None]:
    """Both domains of the split `name`, or of its two halves."""
    if name in splits:
        return RecordsDomain(folder, splits[name], 0), RecordsDomain(folder, splits[name], 1)
    return tuple(RecordsDomain(folder, splits[half]) if half in splits else None for half in (f"{name}A", f"{name}B"))


def _check_sizes(folder: str, domain: Domain, settings: DataSettings, training: bool) -> None:
    preprocessing = Preprocessing.of(settings) if training else None
    problems: Sequence[str] = [problem for index in range(len(domain)) if (
        problem := size_problem(domain.origin(index).place, *domain.size(index), preprocessing))]
    if problems:
        raise InputError("\n".join([f"{folder}: {len(problems)} of {len(domain)} images cannot be used:",
                                    *first_lines([f"  {problem}" for problem in problems])]))
