"""The order of pictures in an endless, shuffled stream: a pure function of the position, so that resuming is free."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def _permutation(count: int, seed: int, domain: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, domain, epoch]).permutation(count)


def picture_at(position: int, count: int, seed: int, domain: int) -> int:
    """Index of the picture at `position`: every epoch of `count` positions is a new permutation.

    Args:
      position: 0, 1, 2, ... over the whole run.
      count: pictures of the domain.
      seed: of the run.
      domain: 0 for source, 1 for target; they are shuffled independently.
    """
    epoch, offset = divmod(position, count)
    return int(_permutation(count, seed, domain, epoch)[offset])


def augmentation_rng(position: int, seed: int, domain: int) -> np.random.Generator:
    """Random numbers for crop and mirror of that position."""
    # The fourth number makes these streams differ from those of the permutations.
    return np.random.default_rng([seed, domain, position, 1])
