"""Mean and deviation of numbers that come in any order and from any number of processes."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and population standard deviation (numpy's std, ddof=0) over `count` finite values; NaN if there is none."""

    mean: float
    std: float
    count: int


@dataclasses.dataclass
class ExactMoments:
    """Count, sum and sum of squares of finite floats, as fractions and so without rounding.

    However values are divided among processes and merged, the result is the same to the last bit, and no variance is
    lost where values are large and close to each other.
    """

    count: int = 0
    total: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)

    def add(self, value: float) -> None:
        """Adds a value; one that is not finite is left out."""
        if math.isfinite(value):
            exact = Fraction(value)
            self.count += 1
            self.total += exact
            self.squares += exact * exact

    def merge(self, other: ExactMoments) -> None:
        """Adds the values that `other` was made of."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def summary(self) -> Summary:
        """Mean and deviation, each rounded once."""
        if not self.count:
            return Summary(math.nan, math.nan, 0)
        mean = self.total / self.count
        return Summary(float(mean), math.sqrt(self.squares / self.count - mean * mean), self.count)
