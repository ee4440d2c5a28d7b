"""The plan of `cut_tf.batch.plan` as an Apache Beam pipeline, on any of its runners. Needs the extra `beam`.

    units -> Reshuffle -> parts -> RunInference(TranslationHandler) -> counters

RunInference loads the model once a process and shares it among its threads. It keeps the results of a batch until the
batch is done, so the handler takes one part at a time, writes the part's results itself, and returns its report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from cut_tf.batch.plan import Plan
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.batch.units import Unit
from cut_tf.batch.worker import Part, Target, Worker
from cut_tf.common.errors import InputError

# Namespace of the counters pictures, pixels, milliseconds, failed, and failed_KIND.
NAMESPACE = "cut_tf"
_LOG_LEVEL = "default_sdk_harness_log_level"


class PartHandler(ModelHandler[Any, Any, Any]):
    """Does parts of the work with a worker that is loaded once a process. One bad picture does not fail its part.

    Args:
      load: makes the worker, whose `do` takes a part and returns its report.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        super().__init__()
        self._load = load

    def load_model(self) -> Any:
        """Makes the worker, once a process."""
        return self._load()

    def run_inference(self, batch: Sequence[Any], model: Any, inference_args: Mapping[str, Any] | None = None
                      ) -> Iterable[Any]:
        """Reports of parts that are done."""
        del inference_args
        return [model.do(part) for part in batch]

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """One part at a time."""
        return {"min_batch_size": 1, "max_batch_size": 1}

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Encoded bytes; counted, where Beam would pickle all of them to know. Names of files count as none."""
        return sum(getattr(part, "num_bytes", 0) for part in batch)

    def get_metrics_namespace(self) -> str:
        """Beam's own metrics of inference are in it too."""
        return NAMESPACE


class TranslationHandler(PartHandler):
    """Translates parts, whose results are written when their reports come back.

    Args:
      choice: the model; its places must be within reach of the workers.
      target: where results go; likewise.
      most_pixels: in memory at once, in each process.
      batch_size: most pictures of one size that are translated together.
    """

    def __init__(self, choice: TranslatorChoice, target: Target, most_pixels: int, batch_size: int) -> None:
        super().__init__(lambda: Worker(choice.open(), target, most_pixels, batch_size))


class _Parts(beam.DoFn):
    """Unit to those of its parts that are not done."""

    def __init__(self, done: frozenset[str]) -> None:
        super().__init__()
        self._done = done

    def process(self, element: Unit) -> Iterator[Part]:
        """See Unit.parts."""
        yield from element.parts(self._done)


class CountParts(beam.DoFn):
    """Adds reports to Beam's counters: pictures, pixels, seconds and failures of each."""

    def process(self, element: Any) -> None:
        """Yields nothing."""
        counts = {"pictures": element.pictures, "pixels": element.pixels, "failed": len(element.failures),
                  "milliseconds": round(1000 * element.seconds)}
        for failure in element.failures:
            counts[f"failed_{failure['kind']}"] = counts.get(f"failed_{failure['kind']}", 0) + 1
        for name, count in counts.items():
            Metrics.counter(NAMESPACE, name).inc(count)


def pipeline_options(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options.

    Args:
      runner: name of a runner.
      arguments: flags of Beam and its runners, "--name=value".

    Raises:
      InputError: if Beam does not know one of them; it would only warn.
    """
    given = [f"--runner={runner}", *arguments]
    if not any(argument.startswith(f"--{_LOG_LEVEL}") for argument in arguments):
        given.append(f"--{_LOG_LEVEL}=WARNING")
    try:
        known = PipelineOptions(given).get_all_options(drop_default=True)
        all_given = PipelineOptions(given).get_all_options(drop_default=True, retain_unknown_options=True)
    except SystemExit as error:  # argparse has said why on stderr
        raise InputError("flags of Apache Beam must have values that it takes, found "
                         f"{' '.join(arguments)}") from error
    unknown = sorted(set(all_given) - set(known))
    positional = [argument for argument in arguments if not argument.startswith("-")]
    if unknown or positional:
        names = [f"--{name}" for name in unknown] + positional
        raise InputError(f"flags must be of cut_tf or of Apache Beam, found {', '.join(names)}")
    return PipelineOptions(given)


def translate(plan: Plan, options: PipelineOptions, most_pixels: int, batch_size: int) -> dict[str, int]:
    """Does all that is pending.

    Args:
      plan: what to do.
      options: of the pipeline.
      most_pixels: see TranslationHandler.
      batch_size: likewise.

    Returns:
      The counters by name.

    Raises:
      Exception: whatever a runner raises if the pipeline fails. What is reported by then stays done.
    """
    units, done = plan.pending()
    if not units:
        return {}
    pipeline = beam.Pipeline(options=options)
    _ = (pipeline
         | "Units" >> beam.Create(units)
         | "Spread" >> beam.Reshuffle()
         | "Parts" >> beam.ParDo(_Parts(done))
         | "Translate" >> RunInference(TranslationHandler(plan.choice, plan.target, most_pixels, batch_size))
         | "Count" >> beam.ParDo(CountParts()))
    result = pipeline.run()
    result.wait_until_finish()
    return counters(result)


def counters(result: beam.runners.runner.PipelineResult) -> dict[str, int]:
    """Counters of NAMESPACE by name; none if the runner keeps none."""
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except NotImplementedError:
        return {}
    return {counter.key.metric.name: counter.committed if counter.committed is not None else counter.attempted
            for counter in found}
