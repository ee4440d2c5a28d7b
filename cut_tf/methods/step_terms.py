"""The terms of training steps, which stay on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

# Most steps whose terms wait on the device to be checked. Their vectors take less than a megabyte.
_MOST_UNREAD = 1000


class StepTerms(Mapping[str, float]):
    """The terms of one step by name, as numbers.

    All are read from the device at once, when the first of them is asked for. That waits for the end of the step.

    Args:
      names: of the terms.
      values: float32 [len(names)].
    """

    def __init__(self, names: Sequence[str], values: tf.Tensor) -> None:
        self._names = names
        self._numbers = None
        self.values_on_device = values

    def __getitem__(self, name: str) -> float:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def set_numbers(self, numbers: np.ndarray) -> None:
        """Sets the numbers, [len(names)], that have been read from the device already."""
        self._numbers = dict(zip(self._names, numbers.tolist()))

    def _read(self) -> dict[str, float]:
        if self._numbers is None:
            self.set_numbers(self.values_on_device.numpy())
        return self._numbers


class StepRecord:
    """Finds the first step that is not finite, without waiting for every single step.

    The terms of the steps stay on the device, a vector each, until `first_bad` checks all of them at once.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[int, StepTerms]] = []
        self._first_bad: tuple[int, StepTerms] | None = None

    def add(self, step: int, terms: StepTerms) -> None:
        """Adds a step, counted from 1 over the whole run. Its terms contain `all_finite`, which is 1 if all are."""
        self._unread.append((step, terms))
        if len(self._unread) >= _MOST_UNREAD:
            self.first_bad()

    def first_bad(self) -> tuple[int, StepTerms] | None:
        """(step, terms) of the first step that is not finite, or None. Waits for the device."""
        unread, self._unread = self._unread, []
        if unread:
            rows = tf.stack([terms.values_on_device for _, terms in unread]).numpy()
            for (step, terms), row in zip(unread, rows):
                terms.set_numbers(row)
                if self._first_bad is None and terms["all_finite"] != 1.0:
                    self._first_bad = step, terms
        return self._first_bad


def non_finite_message(step: int, terms: Mapping[str, float], weight_names: Callable[[str], Sequence[str]]) -> str:
    """Which terms of a step are not finite, and the first weight of each network whose gradient is not.

    Args:
      step: counted from 1.
      terms: of that step, `non_finite/<network>` among them.
      weight_names: network to the names of its trainable weights.
    """
    bad = [f"{name} = {value}" for name, value in terms.items()
           if name.startswith(("loss/", "metric/")) and not math.isfinite(value)]
    for name, value in terms.items():
        kind, _, network = name.partition("/")
        if kind == "non_finite" and value >= 0:
            bad.append(f"gradient of {network}/{weight_names(network)[int(value)]}")
    return (f"step {step}: not finite: {'; '.join(bad)}. The last checkpoint was written before that. A lower "
            "--learning_rate or --precision=float32 usually helps")
