"""Pictures and numbers of a training run on its fixed test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cut_tf.metrics import DISTANCES, METRICS
from cut_tf.metrics.distances import statistics_of
from cut_tf.metrics.features import FeatureExtractor

# A compiled generator: uint8 [1, H, W, 3] to uint8 of the same shape.
Translation = Callable[[np.ndarray], tf.Tensor]
# Outputs, uint8 [h, w, 3] each in the order of the test set's sources, to numbers by name.
Measure = Callable[[Sequence[np.ndarray]], dict[str, float]]

# A mean difference between output and input of less than one level means that the generator copies its input: rounding
# to 8 bits alone gives up to half a level.
COPY_LEVELS = 1.0
# If outputs differ from each other by less than a tenth of what their inputs do, the generator ignores its input.
COLLAPSE_RATIO = 0.1


class TestSet(NamedTuple):
    """Fixed pictures: uint8 [h, w, 3] each. `targets` belong to `sources` if `paired`."""

    sources: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    paired: bool


def translate_all(translate: Translation, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Translates pictures of any sizes one by one: uint8 [h, w, 3] each."""
    return [translate(picture[None]).numpy()[0] for picture in pictures]


def mean_metrics(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean of every metric that training measures, over pairs of pictures with a finite value.

    The PSNR of a pair that is equal is infinite; if all are, so is the mean.
    """
    means = {}
    for name, metric in METRICS.items():
        if metric.in_training:
            values = np.array([metric(prediction[None], target[None])[0]
                               for prediction, target in zip(predictions, targets)])
            finite = values[np.isfinite(values)]
            means[name] = float(np.mean(finite if finite.size else values))
    return means


class DistributionMeasure:
    """A distance between outputs and targets. The features of the targets are computed once.

    Args:
      metric: fid or kid.
      extractor: of the features.
      targets: uint8 [h, w, 3] each, two at least.
    """

    def __init__(self, metric: str, extractor: FeatureExtractor, targets: Sequence[np.ndarray]) -> None:
        self._metric, self._extractor = metric, extractor
        self._targets = statistics_of(extractor, targets, "test targets")

    def __call__(self, outputs: Sequence[np.ndarray]) -> dict[str, float]:
        statistics = statistics_of(self._extractor, outputs, "outputs of the test sources")
        return {self._metric: DISTANCES[self._metric](statistics, self._targets).value}


def output_statistics(sources: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> dict[str, float]:
    """Colour statistics and the two alarms, by name.

    Returns:
      `colour/<source|output>_<mean|std>_<r|g|b>` in levels of 0 to 255; `alarm/copy`, 1 if outputs equal inputs;
      `alarm/collapse`, 1 if outputs of different inputs hardly differ; and the numbers that the alarms are based on.
    """
    statistics = {}
    for side, pictures in (("source", sources), ("output", outputs)):
        pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]).astype(np.float64)
        for channel, letter in enumerate("rgb"):
            statistics[f"colour/{side}_mean_{letter}"] = float(pixels[:, channel].mean())
            statistics[f"colour/{side}_std_{letter}"] = float(pixels[:, channel].std())
    change = float(np.mean([np.mean(np.abs(output.astype(np.float64) - source))
                            for source, output in zip(sources, outputs)]))
    statistics["alarm/change_levels"] = change
    statistics["alarm/copy"] = float(change < COPY_LEVELS)
    variety = _variety(outputs) / max(_variety(sources), 1e-6) if len(sources) > 1 else 1.0
    statistics["alarm/variety_ratio"] = variety
    statistics["alarm/collapse"] = float(variety < COLLAPSE_RATIO)
    return statistics


def _variety(pictures: Sequence[np.ndarray]) -> float:
    """Mean difference in levels between neighbours in the list, over their common top left part."""
    differences = []
    for one, other in zip(pictures, pictures[1:]):
        height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
        differences.append(np.mean(np.abs(one[:height, :width].astype(np.float64) - other[:height, :width])))
    return float(np.mean(differences))


def grid(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Arranges pictures in one picture: a column per list from the left, a row per picture, aligned at the top left.

    Args:
      columns: lists of equal length of uint8 [h, w, 3]; sizes may differ.

    Returns:
      uint8 [H, W, 3].
    """
    rows = list(zip(*columns))
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(picture.shape[1] for picture in column) for column in columns]
    canvas = np.full((sum(heights), sum(widths), 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights):
        left = 0
        for picture, width in zip(row, widths):
            canvas[top:top + picture.shape[0], left:left + picture.shape[1]] = picture
            left += width
        top += height
    return canvas
