"""Measures dehazing models: python -m tools.evaluate_dehazing --photographs=DIR --model=NAME=PATH ...

On clear photographs under the haze of each preset and under one that no training here uses, on rendered scenes and
rooms, and on other pairs that --pairs names: PSNR, SSIM and CIEDE2000 of the hazy pictures, of the dark channel prior
and of each model. Then what they do to pictures without haze, when used twice, to noise, and, with --real, to skies.
Prints the tables in Markdown; with --output also writes them, all numbers as JSON, and a sheet of the real pictures.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file

_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "folder of clear photographs that no model was trained on",
                                   required=True)
_MODELS = flags.DEFINE_multi_string("model", [], "NAME=PATH of a SavedModel, a .tflite file for any size, or a run; "
                                    "may be given several times")
_PAIRS = flags.DEFINE_multi_string("pairs", [], "NAME=DATASET of more test pairs, such as "
                                   "sots=haze:RESIDE/ITS,RESIDE/SOTS/indoor")
_BORDER = flags.DEFINE_integer("crop_border_px", 0, "cut off each side of the clear pictures of --pairs; SOTS indoor "
                               "has a white border of 10 px", lower_bound=0)
_REAL = flags.DEFINE_string("real", "", "folder of pictures with real haze, which have no truth")
_COUNT = flags.DEFINE_integer("count", 0, "pairs of each set, spread over it; 0 takes all", lower_bound=0)
_CHECKED = flags.DEFINE_integer("checked", 12, "pictures of the checks: without haze, twice, noise", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "folder for tables.md, scores.json and real.jpg; made if it is not there. "
                              "Files of these names are not replaced")
_TABLES, _SCORES, _SHEET = "tables.md", "scores.json", "real.jpg"
_SHEET_QUALITY = 88
# A sheet shows so many pictures, spread over all: JPEG ends at 65,535 rows.
_SHEET_PICTURES = 100


def _models() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is compared, by name. Raises InputError if a flag names nothing that translates."""
    from cut_tf.baselines import BASELINES
    from cut_tf.checkpoints import run_and_step
    from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
    from cut_tf.translators.run import Translator

    found = {"hazy": lambda picture: picture, "dark channel prior": BASELINES["dark_channel_prior"].load()}
    for text in _MODELS.value:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in found:
            raise InputError(f"--model must be NAME=PATH with a name of its own, found {text!r}")
        run, step = run_and_step(path)
        try:
            if path.endswith(".tflite"):
                found[name] = TFLiteTranslator(path)
            elif step is not None or (run / "settings.json").is_file():
                found[name] = Translator(path)
            else:
                found[name] = SavedModelTranslator(path)
        except InputError as error:
            raise InputError(f"--model={text}: {error}") from error
    return found


def _check_output(folder: Path) -> None:
    """Raises InputError, before any work, if results of an earlier evaluation would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder, found the file {folder}")
    there = [name for name in (_TABLES, _SCORES, _SHEET) if (folder / name).exists()]
    if there:
        raise InputError(f"--output must be a folder without results, found {folder / there[0]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output={folder} cannot be made: {error}") from error


def evaluate() -> tuple[str, dict[str, object], object]:
    """The text of all tables, all numbers, and the sheet of real pictures or None."""
    from cut_tf.data.image_files import list_images, read_image
    from tools.evaluate_dehazing import measuring, report, sets

    models, tests = _models(), sets.test_sets(_PHOTOGRAPHS.value, _PAIRS.value, _COUNT.value,
                                               _BORDER.value)
    # Read before any work, since a damaged one would end it.
    real = {path: read_image(path) for path in list_images(Path(_REAL.value))} if _REAL.value else {}
    counts = {name: len(pairs) for name, pairs in tests.items()}
    scores: dict[str, object] = {"pairs": {name: measuring.of_pairs(pairs, models, counts[name]) for name, pairs in
                                           tests.items()}}
    checked = sets.spread(list_images(Path(_PHOTOGRAPHS.value)), _CHECKED.value)
    hazy = list(itertools.islice(next(iter(tests.values())), _CHECKED.value))
    rendered = {kind: list(itertools.islice(tests[f"rendered {kind}"], _CHECKED.value)) for kind in sets.RENDERED}
    scores["checks"] = {name: measuring.of_clear(checked, hazy, rendered, dehaze) for name, dehaze in models.items()}
    tables, page = [report.pair_table(scores["pairs"], counts), report.check_table(scores["checks"])], None
    if real:
        outputs = {name: [dehaze(picture) for picture in real.values()] for name, dehaze in models.items()}
        scores["real"] = {name: measuring.without_truth(list(real.values()), found)
                          for name, found in outputs.items()}
        tables.append(report.check_table(scores["real"]))
        shown = sets.spread([(path.name, dict(zip(outputs, row))) for path, row in zip(real, zip(*outputs.values()))],
                            _SHEET_PICTURES)
        page = report.sheet(*zip(*shown))
    return "\n\n".join(tables), scores, page


def _write(folder: Path, text: str, scores: dict[str, object], page: object) -> None:
    from tools.evaluate_dehazing import report

    replace_file(folder / _TABLES, (text + "\n").encode())
    replace_file(folder / _SCORES, report.as_json(scores).encode())
    if page is not None:
        data = io.BytesIO()
        page.save(data, "JPEG", quality=_SHEET_QUALITY)
        replace_file(folder / _SHEET, data.getvalue())


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for bad flags, models or pictures."""
    command_line.start_tensorflow()
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        if _OUTPUT.value:
            _check_output(Path(_OUTPUT.value))
        text, scores, page = evaluate()
        print(text, flush=True)
        if _OUTPUT.value:
            _write(Path(_OUTPUT.value), text, scores, page)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
