"""PSNR and SSIM of predictions against targets: `python -m cut_tf.evaluate --pred=DIR --target=DIR`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.errors import InputError
from cut_tf.metrics.folder_report import evaluate_folders

_PRED = flags.DEFINE_string("pred", "", "folder of predictions")
_TARGET = flags.DEFINE_string("target", "", "folder of targets with the same stems (0012_0.8_0.2 also fits 0012)")
_CSV = flags.DEFINE_string("csv", "", "file for the values of each image; if empty, PRED.metrics.csv beside --pred")
_JSON = flags.DEFINE_string("json", "", "file for the whole report; if empty, PRED.metrics.json beside --pred")


def _evaluate(arguments: list[str]) -> None:
    if arguments:
        raise InputError(f"everything must be given as a flag, found {' '.join(arguments)}")
    for flag in (_PRED, _TARGET):
        if not flag.value:
            raise InputError(f"--{flag.name} must be a folder, found ''")
    prefix = os.path.abspath(_PRED.value)
    csv_path, json_path = Path(_CSV.value or f"{prefix}.metrics.csv"), Path(_JSON.value or f"{prefix}.metrics.json")
    report = evaluate_folders(Path(_PRED.value), Path(_TARGET.value), csv_path, json_path)
    print(report.table())
    print(f"written: {csv_path} and {json_path}")


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 if flags or files are not as they must be (told on stderr)."""
    try:
        _evaluate(argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run() -> None:
    """Entry point of the console script."""
    command_line.run(main)


if __name__ == "__main__":
    run()
