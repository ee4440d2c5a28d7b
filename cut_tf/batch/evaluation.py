"""What one process of many does when a pipeline evaluates: measure parts of the pictures, and say which it could not.

Reading, measuring and the messages are those of the local command. A part's rows are written to a file, since they may
be too many for a runner to hand back; what is merged over all parts, moments and statistics, is small.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from cut_tf.batch.translation import failure
from cut_tf.batch.units import json_bytes
from cut_tf.batch.worker import PixelBudget
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.places import AnyPath
from cut_tf.data.image_files import read_image, read_size
from cut_tf.metrics.features import FeatureExtractor, feature_extractor
from cut_tf.metrics.moments import ExactMoments
from cut_tf.metrics.reports.folder import Comparison, ImageScore, Measuring

# Files of the folder that holds what workers found, until the report is made.
_ROWS, _MOMENTS, STATISTICS = "rows-", "moments.json", "statistics.npz"
# Pictures of a part. A multiple of the extractors' batches, which then are those of the local command.
PART_PICTURES = 64


class EvaluationPart(NamedTuple):
    """Pictures that follow each other, and the place of the first among all."""

    first: int
    comparisons: tuple[Comparison, ...]


@dataclasses.dataclass
class Outcome:
    """What became of a part.

    Attributes:
      first: place of its first picture.
      scores: of its pictures, where pairs are measured.
      features: float64 [b, D] each, with the place of the first picture, where sets are compared.
      failures: {"picture", "kind", "message"}.
      pictures: that were measured.
      pixels: of the pictures that were read.
      seconds: of the work.
    """

    first: int
    scores: list[ImageScore] = dataclasses.field(default_factory=list)
    features: list[tuple[int, np.ndarray]] = dataclasses.field(default_factory=list)
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list)
    pictures: int = 0
    pixels: int = 0
    seconds: float = 0.0

    def add_failure(self, picture: str, error: Exception) -> None:
        """Notes why a picture was not measured."""
        found = failure(picture, error, "measured")
        self.failures.append({"picture": picture, "kind": found.kind, "message": found.message})


def parts_of(comparisons: Sequence[Comparison]) -> list[EvaluationPart]:
    """All parts, in order."""
    return [EvaluationPart(first, tuple(comparisons[first:first + PART_PICTURES]))
            for first in range(0, len(comparisons), PART_PICTURES)]


class PairWorker:
    """Measures pairs. Thread-safe.

    Args:
      measuring: what is measured.
      most_pixels: of the pictures that the threads of a process hold; larger ones wait until they are alone.

    Raises:
      InputError: if a package is missing that is needed.
    """

    def __init__(self, measuring: Measuring, most_pixels: int) -> None:
        self._measuring, self._score, self._budget = measuring, measuring.scorer(), PixelBudget(most_pixels)

    def do(self, part: EvaluationPart) -> Outcome:
        """Measures a part."""
        started, outcome = time.perf_counter(), Outcome(part.first)
        for comparison in part.comparisons:
            try:
                self._measuring.check_sizes([comparison])
                width, height = read_size(comparison.prediction)
                files = sum(file is not None for file in comparison)
                with self._budget.reserved(files * width * height):
                    outcome.scores.append(self._score(comparison))
                outcome.pixels += width * height
            except Exception as error:  # the next picture may be fine; any failure fails the evaluation in the end
                outcome.add_failure(str(comparison.prediction), error)
        outcome.pictures, outcome.seconds = len(outcome.scores), time.perf_counter() - started
        return outcome


class FeatureWorker:
    """Computes features of pictures. Thread-safe if the extractor is.

    Args:
      extractor: of the features.
      most_pixels: as for PairWorker.
    """

    def __init__(self, extractor: FeatureExtractor, most_pixels: int) -> None:
        self._extractor, self._budget = extractor, PixelBudget(most_pixels)

    def do(self, part: EvaluationPart) -> Outcome:
        """Features of a part. None if one of its pictures cannot be read, since the others would take its place."""
        started, outcome, at = time.perf_counter(), Outcome(part.first), part.first
        files = [comparison.prediction for comparison in part.comparisons]
        try:
            for features in self._extractor.batches(self._pictures(files, outcome)):
                outcome.features.append((at, features))
                at += len(features)
        except Exception as error:  # of the extractor
            outcome.add_failure(str(files[0]), error)
        if outcome.failures:
            outcome.features = []
        outcome.seconds = time.perf_counter() - started
        return outcome

    def _pictures(self, files: Sequence[AnyPath], outcome: Outcome) -> Iterator[np.ndarray]:
        for file in files:
            try:
                width, height = read_size(file)
                with self._budget.reserved(width * height):
                    picture = read_image(file)
            except Exception as error:  # as in PairWorker
                outcome.add_failure(str(file), error)
                continue
            outcome.pictures += 1
            outcome.pixels += width * height
            yield picture


@dataclasses.dataclass(frozen=True)
class EvaluatorChoice:
    """What measures: pairs, or features if there is an extractor. Travels to the workers.

    Attributes:
      most_pixels: see PairWorker.
      measuring: of pairs.
      extractor: as --feature_extractor names it, or empty.
      inception_weights: as the flag of that name.
      description: that the extractor must have.
      tf32: see `devices.set_up`.
    """

    most_pixels: int
    measuring: Measuring = Measuring()
    extractor: str = ""
    inception_weights: str = ""
    description: tuple[tuple[str, str], ...] = ()
    tf32: bool = False

    def open(self) -> PairWorker | FeatureWorker:
        """Loads it. Raises InputError if it cannot be loaded, or if this machine's extractor is another."""
        from cut_tf import devices

        devices.set_up(self.tf32)
        if not self.extractor:
            return PairWorker(self.measuring, self.most_pixels)
        extractor = feature_extractor(self.extractor, self.inception_weights)
        if extractor.description != dict(self.description):
            raise InputError(f"--feature_extractor={self.extractor} must be the same for all workers, found "
                             f"{extractor.description} and {dict(self.description)}")
        return FeatureWorker(extractor, self.most_pixels)


def save_rows(folder: str, outcome: Outcome) -> None:
    """Writes scores and failures of a part, atomically; again, the same."""
    rows = {"scores": [dataclasses.asdict(score) for score in outcome.scores], "failures": outcome.failures}
    places.write_bytes(places.join(folder, f"{_ROWS}{outcome.first:012d}.json"), json_bytes(rows))


def load_rows(folder: str) -> tuple[list[ImageScore], list[dict[str, str]]]:
    """All scores and failures that `save_rows` wrote, in order."""
    scores, failures = [], []
    for name in places.names_in(folder):
        if name.startswith(_ROWS):
            rows = json.loads(places.read_bytes(places.join(folder, name)))
            scores += [ImageScore(**score) for score in rows["scores"]]
            failures += rows["failures"]
    return scores, failures


def save_moments(folder: str, moments: dict[str, ExactMoments]) -> None:
    """Writes the moments of all parts, exactly."""
    values = {name: [found.count, str(found.total), str(found.squares)] for name, found in moments.items()}
    places.write_bytes(places.join(folder, _MOMENTS), json_bytes(values))


def load_moments(folder: str) -> dict[str, ExactMoments]:
    """Reads what `save_moments` wrote."""
    values = json.loads(places.read_bytes(places.join(folder, _MOMENTS)))
    return {name: ExactMoments(count, Fraction(total), Fraction(squares))
            for name, (count, total, squares) in values.items()}
