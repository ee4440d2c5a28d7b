"""Metrics of a folder of predictions: `python -m cut_tf.evaluate --pred=DIR --target=DIR` or `--input=DIR`, or both.

Against targets: PSNR, SSIM, CIEDE2000, MSE. Against the inputs: dark channel, contrast gain, colourfulness. With
`--distribution=fid,kid`: distances between the two sets of pictures, which need not be pairs. With `--labels`: scores
of label maps.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.settings.training import TF32_HELP

_PRED = flags.DEFINE_string("pred", "", "folder of predictions")
_TARGET = flags.DEFINE_string("target", "", "folder of targets with the same stems (0012_0.8_0.2 also fits 0012)")
_INPUT = flags.DEFINE_string("input", "", "folder of the pictures that the predictions were made from, with the same "
                             "stems: adds measures that need no target")
_TARGET_BORDER_PX = flags.DEFINE_integer("target_border_px", 0, "pixels to cut off each side of the targets; 10 for "
                                         "SOTS indoor, whose clear pictures are 640x480 and hazy ones 620x460")
_DISTRIBUTION = flags.DEFINE_list("distribution", [], "fid, kid or fid,kid: distances between the sets of pictures in "
                                  "--pred and --target, instead of metrics of pairs")
_FEATURE_EXTRACTOR = flags.DEFINE_string(
    "feature_extractor", "inception", "for --distribution: inception; random, fixed random weights that need no file; "
    "run:DIR, the encoder of a run; or the folder of a SavedModel, which is a program: name only one that you trust")
_INCEPTION_WEIGHTS = flags.DEFINE_string("inception_weights", "", ".h5 file of InceptionV3's weights without its top; "
                                         "if empty, that of Keras' cache, or downloaded")
_REFERENCE_STATISTICS = flags.DEFINE_string("reference_statistics", "", "for --distribution: .npz file of the targets' "
                                            "statistics; with --target it is written, without it is read")
_LABELS = flags.DEFINE_bool("labels", False, "compare label maps: pixel accuracy, class accuracy, mean IoU")
_LABEL_COLOURS = flags.DEFINE_string("label_colours", "", "for --labels: CSV file of label,red,green,blue[,name] lines "
                                     "if the maps are coloured pictures; else they are PNGs of grey or palette labels")
_CSV = flags.DEFINE_string("csv", "", "file .csv for the values of each image, distance or class; if empty, "
                           "PRED.metrics.csv, PRED.distribution.csv or PRED.labels.csv beside --pred")
_JSON = flags.DEFINE_string("json", "", "file .json for the whole report; if empty, PRED.metrics.json, "
                            "PRED.distribution.json or PRED.labels.json beside --pred")

_BRISQUE = flags.DEFINE_bool("brisque", False, "measure BRISQUE of the predictions, and with --input of the inputs, by "
                             "the package brisque (pip install '.[quality]')")
_TF32 = flags.DEFINE_bool("tf32", False, TF32_HELP)


def _evaluate(arguments: list[str]) -> None:
    if arguments:
        raise InputError(f"arguments must be flags, found {' '.join(arguments)}")
    if not _PRED.value:
        raise InputError(f"--pred must be a folder, found {_PRED.value!r}")
    kind = "labels" if _LABELS.value else "distribution" if _DISTRIBUTION.value else "metrics"
    _check_flags(kind)
    prefix = f"{os.path.abspath(_PRED.value)}.{kind}"
    csv_path, json_path = Path(_CSV.value or f"{prefix}.csv"), Path(_JSON.value or f"{prefix}.json")
    command_line.start_tensorflow()
    from cut_tf import devices
    from cut_tf.metrics.features import feature_extractor
    from cut_tf.metrics.reports.distances import check_distribution, evaluate_distribution
    from cut_tf.metrics.reports.folder import evaluate_folders
    from cut_tf.metrics.segmentation import evaluate_labels

    devices.set_up(_TF32.value)
    pred_dir, (target_dir, input_dir) = Path(_PRED.value), map(_path, (_TARGET, _INPUT))
    if kind == "labels":
        if target_dir is None:
            raise InputError("--target must be the folder of the true label maps, found ''")
        report = evaluate_labels(pred_dir, target_dir, _path(_LABEL_COLOURS), csv_path, json_path)
    elif kind == "distribution":
        reference = _path(_REFERENCE_STATISTICS)
        check_distribution(pred_dir, target_dir, _DISTRIBUTION.value, reference, csv_path, json_path)
        print(*devices.report(), sep="\n")
        extractor = feature_extractor(_FEATURE_EXTRACTOR.value, _INCEPTION_WEIGHTS.value)
        report = evaluate_distribution(pred_dir, target_dir, _DISTRIBUTION.value, extractor, reference, csv_path,
                                       json_path)
    else:
        report = evaluate_folders(pred_dir, target_dir, csv_path, json_path, input_dir=input_dir,
                                  target_border_px=_TARGET_BORDER_PX.value, brisque=_BRISQUE.value)
    print(report.table())
    print(f"written: {csv_path} and {json_path}")


def _path(flag: flags.FlagHolder) -> Path | None:
    return Path(flag.value) if flag.value else None


def _check_flags(kind: str) -> None:
    """Raises InputError for a flag that the kind of evaluation does not use."""
    if _LABELS.value and _DISTRIBUTION.value:
        raise InputError("--labels must be given without --distribution, found both")
    users = {"input": "metrics", "target_border_px": "metrics", "brisque": "metrics", "label_colours": "labels",
             "feature_extractor": "distribution", "inception_weights": "distribution",
             "reference_statistics": "distribution"}
    for name, user in users.items():
        flag = flags.FLAGS[name]
        if kind != user and flag.value != flag.default:
            rule = f"with --{kind}" if user == "metrics" else f"without --{user}"
            raise InputError(f"--{name} must be left out {rule}, found {flag.value!r}")


def main(argv: list[str]) -> int:
    """Returns the exit code: 0, or 2 for bad flags or files, with the reason on stderr."""
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
