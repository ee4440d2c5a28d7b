"""Translates pictures with a run's generator: python -m cut_tf.translate --run=DIR --input=FILE_OR_DIR --output=DIR.

Or, instead of --run=DIR, with an exported generator, --saved_model=DIR or --tflite=FILE, with a model that comes with
cut_tf, --model=dehaze_mobile, or with a baseline that needs no training, --method=dark_channel_prior. With --runner, on
many machines with Apache Beam.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags

from cut_tf import batch, command_line
from cut_tf.baselines import BASELINES
from cut_tf.batch.translation import RUN_METHOD, TranslatorChoice, failure, result_path
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import check_results
from cut_tf.common.images import Translate
from cut_tf.common.strength import FLAG_HELP, FULL
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import decode_image, pictures_at, read_bytes, read_size, write_image
from cut_tf.metrics.temporal import TemporalChange
from cut_tf.settings.training import TF32_HELP
from cut_tf.translators import SIZES, WEIGHTS
from cut_tf.translators.exported import can_run_tflite
from cut_tf.translators.shipped import MOST_TWIN_PIXELS, fast_twin, shipped_model, shipped_models

# Input, output and comparison of a picture.
Job = tuple[Path, Path, Path]
# Pictures that are read, and written, while another is translated.
_AHEAD = 2

_METHOD = flags.DEFINE_enum("method", RUN_METHOD, [RUN_METHOD, *BASELINES], command_line.choices_help(
    "what translates", {RUN_METHOD: "the generator of --run", **{name: row.title for name, row in BASELINES.items()}}))
_RUN = flags.DEFINE_string("run", "", "folder of the run")
_SAVED_MODEL = flags.DEFINE_string("saved_model", "", "folder of an exported SavedModel, instead of --run")
_MODEL = flags.DEFINE_string("model", "", "name of a model that comes with cut_tf, instead of --run: "
                             f"{', '.join(shipped_models()) or 'none is installed'}. One picture of up to "
                             f"{MOST_TWIN_PIXELS} pixels is translated by its .tflite file, which starts faster, if it "
                             "gives the same within one level and can run (extra mobile); all else by its SavedModel")
_TFLITE = flags.DEFINE_string("tflite", "", "exported .tflite file, instead of --run")
_INPUT = flags.DEFINE_string("input", None, "a picture, or a folder of pictures; with --runner also a glob, a manifest "
                             "of one place a line (*.txt), or shards (*.tfrecord, *.tar), all of which may be URLs",
                             required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the results; made if it is not there", required=True)
_WEIGHTS = flags.DEFINE_enum("weights", "", ["", *WEIGHTS], command_line.choices_help(
    "weights of the run; ema if it has them, else last", WEIGHTS))
_SIZE = flags.DEFINE_enum("size", "native", tuple(SIZES), "native: translate at the picture's own size; train: resize "
                          "as in training, or to the size of the .tflite file, and back")
_STRENGTH = flags.DEFINE_float("strength", FULL, FLAG_HELP)
_COMPARE = flags.DEFINE_bool("compare", False, "also write input | output side by side to OUTPUT/compare")
_TEMPORAL = flags.DEFINE_bool("temporal", False, "for frames of a video: print how much outputs and inputs change from "
                              "picture to picture, in the order of names")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace results that are there already")
_TF32 = flags.DEFINE_bool("tf32", False, TF32_HELP)
_RUNNER = flags.DEFINE_string("runner", "", "translate as a pipeline of Apache Beam (extra beam) on this runner of it: "
                              "DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, PortableRunner; flags that "
                              "cut_tf does not know go to Beam. Started again, it goes on with what is not done")
_OUTPUT_FORMAT = flags.DEFINE_enum("output_format", "", ["", *batch.FORMATS], command_line.choices_help(
    "with --runner: how results are written; as the input is if empty", batch.FORMATS))
_PICTURES_PER_SHARD = flags.DEFINE_integer("pictures_per_shard", 64, "with --runner: most pictures of a unit of work, "
                                           "which is done as a whole or not at all, and is a shard of the output",
                                           lower_bound=1)
_PIXELS_IN_FLIGHT = flags.DEFINE_integer("pixels_in_flight", 2**24, "with --runner: most pixels that the threads of a "
                                         "process have decoded at once; a larger picture waits until it is alone",
                                         lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "with --runner and --saved_model: most pictures of one size that "
                                   "are translated together; above 1, a few values may be rounded to the next level",
                                   lower_bound=1)
_RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "with --runner: try pictures again that failed at an earlier "
                                  "start")
_WITH_RUNNER = (_OUTPUT_FORMAT, _PICTURES_PER_SHARD, _PIXELS_IN_FLIGHT, _BATCH_SIZE, _RETRY_FAILED)
_WITHOUT_RUNNER = (_COMPARE, _TEMPORAL)


def _plan() -> list[Job]:
    """All jobs. Raises InputError if a result would replace a file that must not be replaced."""
    source, folder = Path(_INPUT.value), Path(_OUTPUT.value)
    plan = [(path, result_path(path, folder), folder / "compare" / f"{path.stem}.png") for path in pictures_at(source)]
    written = [(path, [result, comparison] if _COMPARE.value else [result]) for path, result, comparison in plan]
    check_results(written, folder, _OVERWRITE.value)
    return plan


def _choice() -> TranslatorChoice:
    saved_model = _SAVED_MODEL.value
    if _MODEL.value:
        others = [flag for flag in (_RUN, _SAVED_MODEL, _TFLITE, _METHOD) if flag.value != flag.default]
        if others:
            raise InputError("one of --run, --model, --saved_model, --tflite and --method must say what translates, "
                             f"found --model={_MODEL.value}, --{others[0].name}={others[0].value}")
        saved_model = str(shipped_model(_MODEL.value))
    return TranslatorChoice(_METHOD.value, _RUN.value, saved_model, _TFLITE.value, _WEIGHTS.value, _SIZE.value,
                            _TF32.value, _STRENGTH.value)


def _fastest(choice: TranslatorChoice) -> TranslatorChoice:
    """The choice, or for one picture the file that stands in for the SavedModel of --model. Says which it is."""
    if not _MODEL.value:
        return choice
    picture, twin = Path(_INPUT.value), None
    if picture.is_file() and not choice.tf32 and _pixels(picture) <= MOST_TWIN_PIXELS:
        twin = fast_twin(_MODEL.value)
    if twin is not None and can_run_tflite():
        choice = dataclasses.replace(choice, saved_model="", tflite=str(twin))
    print(f"--model={_MODEL.value}: {choice.tflite or choice.saved_model}", flush=True)
    return choice


def _pixels(picture: Path) -> int:
    """0 for what is no picture, which is said when it is read."""
    try:
        width, height = read_size(picture)
    except InputError:
        return 0
    return width * height


def _translation(choice: TranslatorChoice) -> Translate:
    if choice.uses_tensorflow:
        command_line.start_tensorflow()
        from cut_tf import devices

        devices.set_up(choice.tf32)
        print(*devices.report(), sep="\n")
    return choice.open()


def translate_all() -> list[str]:
    """Translates every picture it can. Returns the messages of those that it could not."""
    choice = _choice()
    choice.check()
    plan = _plan()
    translate = _translation(_fastest(choice))
    Path(_OUTPUT.value, "compare" if _COMPARE.value else "").mkdir(parents=True, exist_ok=True)
    progress = command_line.progress_bar(len(plan), "picture")
    failures: dict[Path, str] = {}
    change = TemporalChange()
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[Path, Future]] = deque()
        for (path, result, comparison), reading in _read_ahead(plan):
            try:
                picture, profile = reading.result()
                output = translate(picture, str(path))
                writing.append((path, writer.submit(_write, result, comparison, picture, output, profile)))
                if _TEMPORAL.value:
                    change.add(picture, output)
            except Exception as error:  # for example too large for the memory; the next picture may be fine
                failures[path] = failure(str(path), error).message
            _finish_writing(writing, _AHEAD, failures)
            progress.add(1)
        _finish_writing(writing, 0, failures)
    if _TEMPORAL.value:
        print(_temporal_line(change.result()))
    return [failures[path] for path, _, _ in plan if path in failures]


def _read_ahead(plan: Sequence[Job]) -> Iterator[tuple[Job, Future]]:
    """Every job with its picture and colour profile, read while the ones before are translated."""
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[tuple[Job, Future]] = deque()
        for job in plan:
            waiting.append((job, reader.submit(_read, job[0])))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting


def _read(path: Path) -> tuple[np.ndarray, bytes]:
    data = read_bytes(path)
    return decode_image(data, str(path)), color_profile(data, str(path))


def _write(result: Path, comparison: Path, picture: np.ndarray, output: np.ndarray, profile: bytes) -> None:
    write_image(result, output, profile)
    if _COMPARE.value:
        write_image(comparison, np.concatenate([picture, output], axis=1), profile)


def _finish_writing(writing: deque[tuple[Path, Future]], most: int, failures: dict[Path, str]) -> None:
    """Waits until at most `most` pictures are being written. Adds those that could not be written to `failures`."""
    while len(writing) > most:
        path, done = writing.popleft()
        try:
            done.result()
        except Exception as error:  # as in translate_all: the next picture may be fine
            failures[path] = failure(str(path), error).message


def _translate_with_beam(arguments: list[str]) -> int:
    """Translates with a pipeline, whose own flags are `arguments`. Returns the exit code."""
    choice = _choice()
    choice.check()
    from cut_tf.batch import inputs, plan, units
    from cut_tf.batch.worker import Target

    command_line.log_to_stdout()
    options = batch.beam_options(_RUNNER.value, arguments)
    from cut_tf.batch import beam

    folder = places.absolute(_OUTPUT.value)
    # What beginning anew would remove stays in the input, and is refused.
    found = inputs.find_inputs(_INPUT.value, None if _OVERWRITE.value else units.results_in(folder))
    settled = plan.settle(found, Target(folder, _OUTPUT_FORMAT.value or found.kind), choice, _PICTURES_PER_SHARD.value,
                          _OVERWRITE.value, _RETRY_FAILED.value)
    pending, _ = settled.pending()
    print(f"{len(settled.units)} units of work, {len(settled.units) - len(pending)} done before", flush=True)
    try:
        counters = beam.translate(settled, options, _PIXELS_IN_FLIGHT.value, _BATCH_SIZE.value)
    except Exception as error:  # of a runner; what is done by then stays done
        plan.conclude(settled)
        first_line = next(iter(str(error).splitlines()), "")
        print(f"error: the pipeline ended early ({type(error).__name__}: {first_line}); the same command goes on",
              file=sys.stderr)
        return 1
    print("this start: " + (", ".join(f"{name} {count}" for name, count in sorted(counters.items())) or "nothing"))
    totals = plan.conclude(settled)
    print(*totals.lines(), sep="\n")
    return command_line.report_results(_OUTPUT.value, [failure["message"] for failure in totals.failures],
                                       len(totals.failures))


def _check_runner() -> None:
    """Raises InputError for a flag that needs --runner, or that a pipeline does not know."""
    for flag in _WITHOUT_RUNNER if _RUNNER.value else _WITH_RUNNER:
        if flag.value != flag.default:
            needed = "must not be given with" if _RUNNER.value else "must not be given without"
            raise InputError(f"--{flag.name} {needed} --runner, found {flag.value!r}")


def _temporal_line(changes: tuple[float, float] | None) -> str:
    if changes is None:
        return "change from picture to picture: no two pictures of one size followed each other"
    source, output = changes
    ratio = f", {output / source:.2f} times" if source else ""
    return f"mean absolute change from picture to picture: input {source:.2f}, output {output:.2f} levels{ratio}"


def main(argv: list[str]) -> int:
    """Exit code 0; 1 if some pictures could not be translated; 2 for bad flags."""
    try:
        command_line.require_values("input", "output")
        _check_runner()
        if _RUNNER.value:
            return _translate_with_beam(argv[1:])
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        failures = translate_all()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command_line.report_results(_OUTPUT.value, failures, len(failures))


def run() -> None:
    """Console-script entry."""
    command_line.run(main, unknown_flags=("runner",))


if __name__ == "__main__":
    run()
