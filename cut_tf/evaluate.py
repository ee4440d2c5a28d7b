"""Metrics of a folder of predictions: `python -m cut_tf.evaluate --pred=DIR --target=DIR` or `--input=DIR`, or both.

Against targets: PSNR, SSIM, CIEDE2000, MSE. Against the inputs: dark channel, contrast gain, colourfulness.
"""

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
_INPUT = flags.DEFINE_string("input", "", "folder of the pictures that the predictions were made from, with the same "
                             "stems: adds measures that need no target")
_TARGET_BORDER_PX = flags.DEFINE_integer("target_border_px", 0, "pixels to cut off each side of the targets; 10 for "
                                         "SOTS indoor, whose clear pictures are 640x480 and hazy ones 620x460")
_CSV = flags.DEFINE_string("csv", "", "file for the values of each image; if empty, PRED.metrics.csv beside --pred")
_JSON = flags.DEFINE_string("json", "", "file for the whole report; if empty, PRED.metrics.json beside --pred")


def _evaluate(arguments: list[str]) -> None:
    if arguments:
        raise InputError(f"everything must be given as a flag, found {' '.join(arguments)}")
    if not _PRED.value:
        raise InputError(f"--pred must be a folder, found {_PRED.value!r}")
    prefix = os.path.abspath(_PRED.value)
    csv_path, json_path = Path(_CSV.value or f"{prefix}.metrics.csv"), Path(_JSON.value or f"{prefix}.metrics.json")
    target_dir, input_dir = (Path(flag.value) if flag.value else None for flag in (_TARGET, _INPUT))
    report = evaluate_folders(Path(_PRED.value), target_dir, csv_path, json_path, input_dir=input_dir,
                              target_border_px=_TARGET_BORDER_PX.value)
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
