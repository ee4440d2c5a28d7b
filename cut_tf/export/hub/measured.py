"""What the card of a hub folder shows of the exported model: numbers and examples on typical pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.data.domain import TranslationData
from cut_tf.metrics import METRICS

_PICTURES, _EXAMPLES = 24, 3


class Measured(NamedTuple):
    """Means over pictures, and some of them.

    Attributes:
      source: the pictures, as --representative names them.
      pairs: pictures that have a true one to compare with; 0 without.
      metrics: name in METRICS to the means (of the input, of the output); empty without pairs.
      examples: input, output and, of a pair, the true picture, uint8 [H, W, 3], side by side.
    """

    source: str
    pairs: int
    metrics: dict[str, tuple[float, float]]
    examples: list[np.ndarray]


def measure(translate: Callable[[np.ndarray], np.ndarray], data: TranslationData, source: str | Path) -> Measured:
    """Translates pictures, at most _PICTURES of them, spread over all.

    Args:
      translate: uint8 [H, W, 3] to the same.
      data: of `representative.open_inputs`.
      source: its name.

    Raises:
      InputError: if a picture cannot be read.
    """
    sources = data.test_source or data.source
    targets = data.test_target if data.test_paired else None
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in METRICS if targets is not None}
    examples = []
    chosen = np.linspace(0, len(sources) - 1, min(_PICTURES, len(sources)), dtype=int)
    for index in chosen:
        picture = sources.load(index)
        row = [picture, translate(picture)]
        if targets is not None:
            row.append(targets.load(index))
            for name, found in values.items():
                found.append(tuple(float(METRICS[name](each[None], row[2][None])[0]) for each in row[:2]))
        if len(examples) < _EXAMPLES:
            examples.append(np.concatenate(row, axis=1))
    means = {name: tuple(np.mean(found, axis=0).tolist()) for name, found in values.items()}
    return Measured(str(source), len(chosen) if targets is not None else 0, means, examples)
