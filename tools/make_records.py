"""Writes a dataset as TFRecord shards: python -m tools.make_records --input=photos --output=records.

Training then takes --dataset=records:DIR, also from another machine or a URL such as gs://bucket/records. Shards are
written whole, with an index of counts and checksums. Started again, the same command writes what is missing, and
refuses if pictures have changed since.
"""

from __future__ import annotations

import os
import sys

from absl import flags

from cut_tf import command_line, flags as settings_flags
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.data import DATASETS, kinds_of
from cut_tf.settings import FIELDS, Settings, names_in

# Settings that every dataset with test pairs reads.
_READ_OF_ALL = ("test_pairs",)
_INPUT = flags.DEFINE_string("input", None, "what to write: a folder or another form that --dataset of cut_tf.train "
                             "takes, such as haze:RESIDE/ITS,RESIDE/SOTS/indoor or hazed:CLEAR_DIR", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the shards, also as a URL; made if it is not there",
                              required=True)
_SHARDS = flags.DEFINE_integer("shards", 0, "shards of each split; 0 makes as many as --max_mb_per_shard needs",
                               lower_bound=0)
_MAX_MB = flags.DEFINE_integer("max_mb_per_shard", 256, "without --shards: most MiB of pictures in a shard; a larger "
                               "picture is alone in one", lower_bound=1)
_PAIRED = flags.DEFINE_bool("paired", False, "write the training pairs, for methods that learn from pairs, where the "
                            "dataset has other pictures for the others; a folder whose trainA and trainB have the same "
                            "names is written in pairs anyway")
_SET = flags.DEFINE_multi_string("set", [], "NAME=VALUE, a flag of cut_tf.train that --input reads, such as "
                                 "haze_preset=real; may be repeated")
_WORKERS = flags.DEFINE_integer("workers", 0, "shards that are written at a time; 0 means one per CPU core",
                                lower_bound=0)


def _settings() -> Settings:
    """The settings with which --input is opened: pictures as they are."""
    values = flags.FlagValues()
    settings_flags.define(values)
    try:
        values(["make_records", *(f"--{flag}" for flag in _SET.value)])
    except flags.Error as error:
        raise InputError(f"--set must be flags of cut_tf.train, found {error}") from error
    uses = [*_READ_OF_ALL, *(name for kind in kinds_of(_INPUT.value) for name in DATASETS[kind].uses)]
    for name in FIELDS:
        if values[name].present and name not in names_in(uses):
            raise InputError(f"--set must be flags that --input reads, found {name}, which --input={_INPUT.value} "
                             "does not")
    return settings_flags.settings_from(values).having(dataset=_INPUT.value, preprocess="none", batch_size=1)


def _make() -> None:
    if _SHARDS.value and _MAX_MB.value != _MAX_MB.default:
        raise InputError(f"--max_mb_per_shard must not be given with --shards, found {_MAX_MB.value}")
    settings = _settings()
    command_line.start_tensorflow()
    from cut_tf.data import open_dataset
    from cut_tf.data.record_writing import splits_of, write_records

    data = open_dataset(settings)
    splits = splits_of(data, _PAIRED.value)
    folder = _OUTPUT.value if places.is_remote(_OUTPUT.value) else os.path.abspath(_OUTPUT.value)
    print(data.description, flush=True)
    dataset = " ".join([_INPUT.value, *sorted(_SET.value)])
    done = []
    written = write_records(splits, folder, dataset, _SHARDS.value, _MAX_MB.value,
                            _WORKERS.value or os.cpu_count() or 1, lambda: done.append(None))
    print(f"{len(done)} shards in {folder}, {written} of them written now: --dataset=records:{_OUTPUT.value}")


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for bad flags or files, with the reason on stderr."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        _make()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
