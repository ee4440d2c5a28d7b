"""How long the runs of `tools.reproduce` are: epochs of a run, and steps that fit into the time that there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Epochs of a run, whatever the number of steps, and those at its start with the full learning rate, as in
# cut_scenes; in the others it falls.
EPOCHS = 8
CONSTANT_EPOCHS = 5
# Of the budget, for what no calibration foresees: other load on the machine, the report.
_RESERVE = 0.1


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
