"""`cut_tf.evaluate` as an Apache Beam pipeline, on any of its runners. Needs the extra `beam`.

    parts -> Reshuffle -> RunInference(worker) -> counters
                                               -> rows of each picture, in files
                                               -> CombineGlobally(moments, or statistics of features), in a file

Accumulators merge in any order. Moments of metrics do so exactly, statistics of features up to the rounding of float64.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from cut_tf.batch import evaluation
from cut_tf.batch.beam import CountParts, PartHandler, counters
from cut_tf.batch.evaluation import EvaluationPart, EvaluatorChoice, Outcome
from cut_tf.common import places
from cut_tf.common.errors import InputError, PipelineError
from cut_tf.common.places import AnyPath, path_of
from cut_tf.metrics.distances import MIN_IMAGES, FeatureCollector, FeatureStatistics, check_count, load_statistics
from cut_tf.metrics.features import FeatureExtractor
from cut_tf.metrics.moments import ExactMoments
from cut_tf.metrics.reports.folder import Comparison, ImageScore, Measuring, Scored, add_score


class MomentsFn(beam.CombineFn):
    """Scores to the moments of each measure."""

    def create_accumulator(self) -> dict[str, ExactMoments]:
        """Of no score."""
        return {}

    def add_input(self, accumulator: dict[str, ExactMoments], score: ImageScore) -> dict[str, ExactMoments]:
        """Adds a score."""
        add_score(accumulator, score)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, ExactMoments]]) -> dict[str, ExactMoments]:
        """Moments of all scores together."""
        merged: dict[str, ExactMoments] = {}
        for accumulator in accumulators:
            for name, moments in accumulator.items():
                merged.setdefault(name, ExactMoments()).merge(moments)
        return merged

    def extract_output(self, accumulator: dict[str, ExactMoments]) -> dict[str, ExactMoments]:
        """The moments."""
        return accumulator


class FeaturesFn(beam.CombineFn):
    """(place of the first picture, features [b, D]) to a FeatureCollector."""

    def create_accumulator(self) -> FeatureCollector:
        """Of no picture."""
        return FeatureCollector()

    def add_input(self, accumulator: FeatureCollector, element: tuple) -> FeatureCollector:
        """Adds a batch."""
        first, features = element
        accumulator.add(features, first)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[FeatureCollector]) -> FeatureCollector:
        """Of all pictures together."""
        merged = FeatureCollector()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: FeatureCollector) -> FeatureCollector:
        """The collector."""
        return accumulator


class Evaluation(NamedTuple):
    """An evaluation by pipelines, for `evaluate_folders` and `evaluate_distribution`.

    Attributes:
      options: of the pipelines.
      json_path: of the report. Beside it lie, for a while, what workers found, and the list of failures, if any.
      most_pixels: that the threads of a process hold.
      tf32: see `devices.set_up`.
    """

    options: PipelineOptions
    json_path: AnyPath
    most_pixels: int
    tf32: bool = False

    def score(self, comparisons: list[Comparison], measuring: Measuring) -> Scored:
        """Scores of all. Raises InputError if one cannot be scored, and PipelineError."""
        def result() -> Scored:
            scores, _ = evaluation.load_rows(self._folder)
            _check_complete(len(scores), len(comparisons))
            return Scored(scores, evaluation.load_moments(self._folder))

        return self._run(EvaluatorChoice(self.most_pixels, measuring, tf32=self.tf32), comparisons, result)

    def statistics(self, files: list[AnyPath], extractor: FeatureExtractor, spec: str, inception_weights: str
                   ) -> FeatureStatistics:
        """Statistics of the features of files.

        Args:
          files: the pictures of one folder.
          extractor: what `spec` and `inception_weights` name.
          spec: as --feature_extractor.
          inception_weights: as the flag of that name.

        Raises:
          InputError: if there are too few pictures, or one cannot be read.
          PipelineError: if the pipeline ends early.
        """
        check_count(len(files), str(files[0].parent))

        def result() -> FeatureStatistics:
            found = load_statistics(path_of(places.join(self._folder, evaluation.STATISTICS)), extractor)
            _check_complete(found.count, len(files))
            return found

        choice = EvaluatorChoice(self.most_pixels, extractor=spec, inception_weights=inception_weights,
                                 description=tuple(extractor.description.items()), tf32=self.tf32)
        return self._run(choice, [Comparison(file) for file in files], result)

    @property
    def _folder(self) -> str:
        return f"{self.json_path}.parts"

    def _run(self, choice: EvaluatorChoice, comparisons: list[Comparison], result: Callable[[], object]) -> object:
        places.remove_folder(self._folder)  # of a start that was killed
        try:
            counts = _run_pipeline(choice, evaluation.parts_of(comparisons), self._folder, self.options)
            print("pipeline: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())), flush=True)
            self._report_failures(evaluation.load_rows(self._folder)[1], comparisons)
            return result()
        finally:
            places.remove_folder(self._folder)

    def _report_failures(self, failures: list[dict[str, str]], comparisons: list[Comparison]) -> None:
        """Writes the list of failures. Raises InputError if there are any: a mean over fewer would not be the mean."""
        place = f"{str(self.json_path)[:-len('.json')]}.failures.jsonl"
        if not failures:
            places.remove(place)
            return
        places.write_bytes(place, b"".join(
            json.dumps(failure, ensure_ascii=False).encode("utf-8", errors="surrogatepass") + b"\n"
            for failure in failures))
        kinds = Counter(failure["kind"] for failure in failures)
        raise InputError(f"{comparisons[0].prediction.parent}: every picture must be one that can be measured, found "
                         f"{len(failures)} of {len(comparisons)} that cannot "
                         f"({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))}), listed in "
                         f"{place}: {failures[0]['message']}")


def _check_complete(found: int, expected: int) -> None:
    if found != expected:
        raise PipelineError(f"every picture must be measured once, found {found} results for {expected}")


def _run_pipeline(choice: EvaluatorChoice, parts: list[EvaluationPart], folder: str, options: PipelineOptions
                  ) -> dict[str, int]:
    """Leaves all that was found in the folder. Returns the counters by name."""
    pipeline = beam.Pipeline(options=options)
    outcomes = (pipeline
                | "Parts" >> beam.Create(parts)
                | "Spread" >> beam.Reshuffle()
                | "Measure" >> RunInference(PartHandler(choice.open)))
    _ = outcomes | "Count" >> beam.ParDo(CountParts())
    _ = outcomes | "Rows" >> beam.Map(lambda outcome: evaluation.save_rows(folder, outcome))
    if choice.extractor:
        place, description = path_of(places.join(folder, evaluation.STATISTICS)), dict(choice.description)
        _ = (outcomes
             | "Features" >> beam.FlatMap(_features)
             | "Statistics" >> beam.CombineGlobally(FeaturesFn())
             | "Write statistics" >> beam.Map(lambda collected: _save_statistics(collected, place, description)))
    else:
        _ = (outcomes
             | "Scores" >> beam.FlatMap(_scores)
             | "Moments" >> beam.CombineGlobally(MomentsFn())
             | "Write moments" >> beam.Map(lambda moments: evaluation.save_moments(folder, moments)))
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:  # of a runner, of any type
        first_line = next(iter(str(error).splitlines()), "")
        raise PipelineError(f"the pipeline ended early ({type(error).__name__}: {first_line})") from error
    return counters(result)


def _scores(outcome: Outcome) -> list[ImageScore]:
    return outcome.scores


def _features(outcome: Outcome) -> list[tuple]:
    return outcome.features


def _save_statistics(collected: FeatureCollector, place: AnyPath, description: dict[str, str]) -> None:
    """Writes the statistics; nothing where too few pictures could be read, which is reported as failures."""
    if collected.count >= MIN_IMAGES:
        collected.statistics(description, str(place)).save(place)
