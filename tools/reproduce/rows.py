"""Which rows of a suite `tools.reproduce` computes, and with which settings of `cut_tf.train`."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags as absl_flags

from cut_tf import flags
from cut_tf.common.errors import InputError
from cut_tf.settings import FIELDS, Settings
from tools.reproduce.suites import SUITES, Row

# What a suite decides itself, for each run.
_OWN = ("method", "dataset", "run", "seed", "constant_epochs", "decay_epochs", "steps_per_epoch")


def settings_of(arguments: Sequence[str]) -> Settings:
    """The settings that `cut_tf.train` would have with these flags.

    Raises:
      InputError: if a flag is unknown or has a bad value.
    """
    values = absl_flags.FlagValues()
    flags.define(values)
    try:
        left = values(["train", *arguments])[1:]
    except absl_flags.Error as error:
        raise InputError(f"--base and --set must give flags of cut_tf.train: {error}") from error
    if left:
        raise InputError(f"--base and --set must give flags of cut_tf.train, found {' '.join(left)}")
    return flags.settings_from(values)


def read_flags(arguments: Sequence[str]) -> list[str]:
    """The flags that a run with all of them reads: what the rows have in common need not concern every method."""
    used = flags.used_settings(settings_of(arguments))
    kept = []
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        name = name if name in FIELDS else name.removeprefix("no")
        if name not in FIELDS or name in used:
            kept.append(argument)
    return kept


def flat(settings: Settings) -> dict[str, object]:
    """Every setting by its name, without the section, and without what the suite decides for each run."""
    return {name: value for name, value in settings.flat().items() if name not in _OWN}


def set_flags(assignments: Sequence[str]) -> list[str]:
    """`name=value` of `--set` as flags of `cut_tf.train`. Raises InputError if one is another thing."""
    for assignment in assignments:
        name, equals, _ = assignment.partition("=")
        if not name or not equals or name.startswith("-"):
            raise InputError(f"--set must be name=value, found {assignment!r}")
        if name in _OWN or name == "flagfile":
            raise InputError(f"--set must leave {', '.join(_OWN)} and flagfile to the suite, found {assignment!r}")
    return [f"--{assignment}" for assignment in assignments]


def select_rows(suite: str, names: Sequence[str], common: Sequence[str],
                teacher: str = "") -> tuple[list[Row], dict[str, str]]:
    """The rows to compute, in the order of the suite.

    Args:
      suite: a name in SUITES.
      names: of the wanted rows; all if empty.
      common: flags that all trained rows share. With them, rows may have become the same.
      teacher: folder of a run, for rows that learn from one.

    Returns:
      The rows, with all flags spelt out, and by name those left out because all their settings are those of another
      row, whose name is the value.

    Raises:
      InputError: if a name is not in the suite, if a row's settings are not possible, or if a row wants a teacher and
        there is none, or the other way round.
    """
    known = [row.name for row in SUITES[suite].rows]
    for name in names:
        if name not in known:
            raise InputError(f"--rows must be names out of {', '.join(known)} with --suite={suite}, found {name!r}")
    _check_teacher(suite, [row for row in SUITES[suite].rows if not names or row.name in names], teacher)
    shared = settings_of(common)
    values = {"last_layer": shared.patch_nce.layers()[-1], "batch_size": shared.data.batch_size,
              "teacher": teacher}
    rows, same, seen = [], {}, {}
    for row in SUITES[suite].rows:
        if names and row.name not in names:
            continue
        if row.trained:
            row = row._replace(flags=tuple(flag.format(**values) for flag in row.flags))
            settings = settings_of([*common, *row.flags])
            first = seen.setdefault((settings.train.method, tuple(flat(settings).items())), row.name)
            if first != row.name:
                same[row.name] = first
                continue
        rows.append(row)
    return rows, same


def _check_teacher(suite: str, rows: Sequence[Row], teacher: str) -> None:
    taught = [row.name for row in rows if any("{teacher}" in flag for flag in row.flags)]
    if bool(taught) != bool(teacher):
        rule = f"the folder of a run with rows {', '.join(taught)}" if taught else "empty without rows that have one"
        raise InputError(f"--teacher must be {rule} of --suite={suite}, found {teacher!r}")
