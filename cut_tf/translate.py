"""Translates pictures with a run's generator: python -m cut_tf.translate --run=DIR --input=FILE_OR_DIR --output=DIR.

Or, instead of --run=DIR, with an exported generator, --saved_model=DIR or --tflite=FILE, or with a baseline that needs
no training, --method=dark_channel_prior.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags

from cut_tf import command_line
from cut_tf.baselines import BASELINES
from cut_tf.common.errors import InputError
from cut_tf.common.files import check_results
from cut_tf.data.image_files import WRITABLE_SUFFIXES, list_images, read_image, write_image
from cut_tf.metrics.temporal import TemporalChange
from cut_tf.settings.training import TF32_HELP
from cut_tf.translators import SIZES, WEIGHTS

# Input, output and comparison of a picture.
Job = tuple[Path, Path, Path]
# Pictures that are read, and written, while another is translated.
_AHEAD = 2
_RUN_METHOD = "run"

_METHOD = flags.DEFINE_enum("method", _RUN_METHOD, [_RUN_METHOD, *BASELINES], command_line.choices_help(
    "what translates", {_RUN_METHOD: "the generator of --run", **{name: row.title for name, row in BASELINES.items()}}))
_RUN = flags.DEFINE_string("run", "", "folder of the run")
_SAVED_MODEL = flags.DEFINE_string("saved_model", "", "folder of an exported SavedModel, instead of --run")
_TFLITE = flags.DEFINE_string("tflite", "", "exported .tflite file, instead of --run")
_INPUT = flags.DEFINE_string("input", None, "a picture, or a folder of pictures", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the results; made if it is not there", required=True)
_WEIGHTS = flags.DEFINE_enum("weights", "", ["", *WEIGHTS], command_line.choices_help(
    "weights of the run; ema if it has them, else last", WEIGHTS))
_SIZE = flags.DEFINE_enum("size", "native", tuple(SIZES), "native: translate at the picture's own size; train: resize "
                          "as in training, or to the size of the .tflite file, and back")
_COMPARE = flags.DEFINE_bool("compare", False, "also write input | output side by side to OUTPUT/compare")
_TEMPORAL = flags.DEFINE_bool("temporal", False, "for frames of a video: print how much outputs and inputs change from "
                              "picture to picture, in the order of names")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace results that are there already")
_TF32 = flags.DEFINE_bool("tf32", False, TF32_HELP)


def _plan() -> list[Job]:
    """All jobs. Raises InputError if a result would replace a file that must not be replaced."""
    source, folder = Path(_INPUT.value), Path(_OUTPUT.value)
    paths = [source] if source.is_file() else list_images(source)
    plan = [(path, _result(path, folder), folder / "compare" / f"{path.stem}.png") for path in paths]
    written = [(path, [result, comparison] if _COMPARE.value else [result]) for path, result, comparison in plan]
    check_results(written, folder, _OVERWRITE.value)
    return plan


def _result(path: Path, folder: Path) -> Path:
    """Same name and format as the input; PNG for GIF, whose palette would spoil the result."""
    return folder / path.name if path.suffix.lower() in WRITABLE_SUFFIXES else folder / f"{path.stem}.png"


def _check_source() -> None:
    """Raises InputError unless the flags name one source of translations, and no flag that it does not use."""
    sources = [flag for flag in (_RUN, _SAVED_MODEL, _TFLITE) if flag.value]
    if _METHOD.value != _RUN_METHOD:
        if sources:
            raise InputError(f"--{sources[0].name} must not be given with --method={_METHOD.value}, which uses no "
                             f"generator, found {sources[0].value!r}")
    elif len(sources) != 1:
        raise InputError("one of --run, --saved_model, --tflite and --method must say what translates, found "
                         f"{', '.join(f'--{flag.name}={flag.value}' for flag in sources) or 'none'}")
    for flag, unused, users in ((_WEIGHTS, "", [_RUN]), (_SIZE, "native", [_RUN, _TFLITE]),
                                (_TF32, False, [_RUN, _SAVED_MODEL])):
        if flag.value != unused and not any(user.value for user in users):
            needed = " or ".join(f"--{user.name}" for user in users)
            raise InputError(f"--{flag.name} must not be given without {needed}, found {flag.value!r}")


def _translation() -> Callable[[np.ndarray, str], np.ndarray]:
    """The function that translates: (uint8 [H, W, 3], the picture's name for messages) to uint8 [H, W, 3]."""
    if _METHOD.value != _RUN_METHOD:
        baseline = BASELINES[_METHOD.value]
        return lambda picture, _: baseline(picture)
    command_line.start_tensorflow()
    from cut_tf import devices
    from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
    from cut_tf.translators.run import Translator

    if _RUN.value or _SAVED_MODEL.value:
        devices.set_up(_TF32.value)
        print(*devices.report(), sep="\n")
    if _RUN.value:
        return Translator(Path(_RUN.value), _WEIGHTS.value, _SIZE.value)
    if _SAVED_MODEL.value:
        return SavedModelTranslator(_SAVED_MODEL.value)
    return TFLiteTranslator(_TFLITE.value, threads=os.cpu_count() or 1, resize=_SIZE.value == "train")


def translate_all() -> list[str]:
    """Translates every picture it can. Returns the messages of those that it could not."""
    _check_source()
    plan = _plan()
    translate = _translation()
    Path(_OUTPUT.value, "compare" if _COMPARE.value else "").mkdir(parents=True, exist_ok=True)
    progress = command_line.progress_bar(len(plan), "picture")
    failures: dict[Path, str] = {}
    change = TemporalChange()
    with ThreadPoolExecutor(1) as writer:
        writing: deque[tuple[Path, Future]] = deque()
        for (path, result, comparison), reading in _read_ahead(plan):
            try:
                picture = reading.result()
                output = translate(picture, str(path))
                writing.append((path, writer.submit(_write, result, comparison, picture, output)))
                if _TEMPORAL.value:
                    change.add(picture, output)
            except Exception as error:  # for example too large for the memory; the next picture may be fine
                failures[path] = _failure(path, error)
            _finish_writing(writing, _AHEAD, failures)
            progress.add(1)
        _finish_writing(writing, 0, failures)
    if _TEMPORAL.value:
        print(_temporal_line(change.result()))
    return [failures[path] for path, _, _ in plan if path in failures]


def _read_ahead(plan: Sequence[Job]) -> Iterator[tuple[Job, Future]]:
    """Every job with its picture, read while the ones before are translated."""
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[tuple[Job, Future]] = deque()
        for job in plan:
            waiting.append((job, reader.submit(read_image, job[0])))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting


def _write(result: Path, comparison: Path, picture: np.ndarray, output: np.ndarray) -> None:
    write_image(result, output)
    if _COMPARE.value:
        write_image(comparison, np.concatenate([picture, output], axis=1))


def _finish_writing(writing: deque[tuple[Path, Future]], most: int, failures: dict[Path, str]) -> None:
    """Waits until at most `most` pictures are being written. Adds those that could not be written to `failures`."""
    while len(writing) > most:
        path, done = writing.popleft()
        try:
            done.result()
        except Exception as error:  # as in translate_all: the next picture may be fine
            failures[path] = _failure(path, error)


def _failure(path: Path, error: Exception) -> str:
    """Why a picture was not translated, in one line that names it."""
    if isinstance(error, InputError):
        return str(error)
    first_line = next(iter(str(error).splitlines()), "")
    hint = "; it is too large for the memory of this machine" if _is_out_of_memory(error) else ""
    return f"{path}: cannot be translated{hint} ({type(error).__name__}: {first_line})"


def _is_out_of_memory(error: Exception) -> bool:
    # By name, since TensorFlow need not be imported for a baseline.
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _temporal_line(changes: tuple[float, float] | None) -> str:
    if changes is None:
        return "change from picture to picture: no two pictures of one size followed each other"
    source, output = changes
    ratio = f", {output / source:.2f} times" if source else ""
    return f"mean absolute change from picture to picture: input {source:.2f}, output {output:.2f} levels{ratio}"


def main(argv: list[str]) -> int:
    """Exit code 0; 1 if some pictures could not be translated; 2 for bad flags."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        failures = translate_all()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command_line.report_results(_OUTPUT.value, failures, len(failures))


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
