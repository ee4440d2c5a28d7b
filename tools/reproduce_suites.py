"""What `tools.reproduce` compares: tables of rows, and how many steps fit into the time that there is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags as absl_flags

from cut_tf import flags
from cut_tf.errors import InputError
from cut_tf.settings import SECTIONS, LossSettings, Settings

# Learning rates fall in the last three of eight epochs, as in the quickstart, whatever the number of steps.
CONSTANT_EPOCHS, DECAY_EPOCHS = 5, 3
EPOCHS = CONSTANT_EPOCHS + DECAY_EPOCHS
# Of the budget, for what no calibration foresees: other load on the machine, the report.
_RESERVE = 0.1
# What a suite decides itself, for each run.
_OWN = ("method", "dataset", "run", "seed", "constant_epochs", "decay_epochs", "steps_per_epoch")


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      name: in file names and in `--rows`.
      label: in the report.
      flags: of `cut_tf.train`, after those of the base flagfile.
      trained: whether it is trained, once per seed; else `name` is `input` or one of `cut_tf.baselines.BASELINES`.
    """

    name: str
    label: str
    flags: tuple[str, ...] = ()
    trained: bool = True


def _odcr(name: str, label: str, **settings: str) -> Row:
    return Row(name, label, ("--method=odcr", *(f"--wpnce_{key}={value}" for key, value in settings.items())))


_DEFAULT = LossSettings()
SUITES: dict[str, tuple[Row, ...]] = {
    "dehazing": (
        Row("input", "hazy input", trained=False),
        Row("dark_channel_prior", "DCP", trained=False),
        Row("cut", "CUT", ("--method=cut",)),
        Row("fastcut", "FastCUT", ("--method=cut", "--nce_weight=10", "--nce_identity_weight=0",
                                   "--flip_equivariance")),
        _odcr("odcr", f"ODCR ({_DEFAULT.wpnce_roles} roles, {_DEFAULT.wpnce_scale}, {_DEFAULT.wpnce_form} form)"),
        _odcr("odcr_printed_roles", "ODCR, printed roles", roles="printed"),
        _odcr("odcr_softmax", "ODCR, softmax", scale="softmax"),
        _odcr("odcr_max1", "ODCR, max1", scale="max1"),
        _odcr("odcr_sigmoid", "ODCR, sigmoid", scale="sigmoid"),
        _odcr("odcr_normalise_after", "ODCR, normalise after", scale="normalise_after"),
        _odcr("odcr_printed_form", "ODCR, printed form", form="printed"),
        _odcr("odcr_literal", "ODCR, as printed", roles="printed", scale="softmax", form="printed"),
    ),
}


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


def flat(settings: Settings) -> dict[str, object]:
    """Every setting by its name, without the section, and without what the suite decides for each run."""
    return {name: value for section in SECTIONS
            for name, value in dataclasses.asdict(getattr(settings, section.name)).items() if name not in _OWN}


def set_flags(assignments: Sequence[str]) -> list[str]:
    """`name=value` of `--set` as flags of `cut_tf.train`. Raises InputError if one is another thing."""
    for assignment in assignments:
        name, equals, _ = assignment.partition("=")
        if not name or not equals or name.startswith("-"):
            raise InputError(f"--set must be name=value, found {assignment!r}")
        if name in _OWN or name == "flagfile":
            raise InputError(f"--set must leave {', '.join(_OWN)} and flagfile to the suite, found {assignment!r}")
    return [f"--{assignment}" for assignment in assignments]


def select_rows(suite: str, names: Sequence[str], common: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """The rows to compute, in the order of the suite.

    Args:
      suite: a name in SUITES.
      names: of the wanted rows; all if empty.
      common: flags that all trained rows share. With them, rows may have become the same.

    Returns:
      The rows, and by name those left out because all their settings are those of another row, whose name is the value.

    Raises:
      InputError: if a name is not in the suite, or if a row's settings are not possible.
    """
    known = [row.name for row in SUITES[suite]]
    for name in names:
        if name not in known:
            raise InputError(f"--rows must be names out of {', '.join(known)} with --suite={suite}, found {name!r}")
    rows, same, seen = [], {}, {}
    for row in SUITES[suite]:
        if names and row.name not in names:
            continue
        if row.trained:
            settings = settings_of([*common, *row.flags])
            first = seen.setdefault((settings.train.method, tuple(flat(settings).items())), row.name)
            if first != row.name:
                same[row.name] = first
                continue
        rows.append(row)
    return rows, same


class Cost(NamedTuple):
    """Time in seconds of one step of a row, and of a run besides its steps, evaluation included. Above zero."""

    step_sec: float
    fixed_sec: float


def whole_epochs(steps: int) -> int:
    """The multiple of EPOCHS at or below `steps`, EPOCHS at least."""
    return max(steps // EPOCHS, 1) * EPOCHS


def steps_within(budget_sec: float, costs: Sequence[Cost], seeds: int) -> int:
    """The number of steps per run with which all runs fit into nine tenths of a time.

    Args:
      budget_sec: time that is left.
      costs: of each trained row, one at least.
      seeds: runs per row.

    Returns:
      A multiple of EPOCHS, EPOCHS at least, even if these do not fit.
    """
    fixed_sec, step_sec = (seeds * sum(parts) for parts in ((cost.fixed_sec for cost in costs),
                                                            (cost.step_sec for cost in costs)))
    return whole_epochs(math.floor(((1 - _RESERVE) * budget_sec - fixed_sec) / step_sec))
