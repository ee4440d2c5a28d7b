"""Metrics of a folder of predictions: `python -m cut_tf.evaluate --pred=DIR --target=DIR` or `--input=DIR`, or both.

Against targets: PSNR, SSIM, CIEDE2000, MSE. Against the inputs: dark channel, contrast gain, colourfulness. With
`--distribution=fid,kid`: distances between the two sets of pictures, which need not be pairs. With `--labels`: scores
of label maps. With --runner, on many machines with Apache Beam.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cut_tf import batch, command_line
from cut_tf.common.errors import InputError, PipelineError
from cut_tf.common.places import AnyPath, is_remote, path_of
from cut_tf.settings.training import TF32_HELP

if TYPE_CHECKING:
    from cut_tf.batch.beam_evaluation import Evaluation

_PRED = flags.DEFINE_string("pred", "", "folder of predictions; but for --labels, this and all other folders and files "
                            "may be URLs that tf.io.gfile reads")
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
_RUNNER = flags.DEFINE_string("runner", "", "evaluate as a pipeline of Apache Beam (extra beam) on this runner of it: "
                              "DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, PortableRunner; flags that "
                              "cut_tf does not know go to Beam. Not with --labels")
_PIXELS_IN_FLIGHT = flags.DEFINE_integer("pixels_in_flight", 2**24, "with --runner: most pixels that the threads of a "
                                         "process have decoded at once; a larger picture waits until it is alone",
                                         lower_bound=1)


def _evaluate(arguments: list[str]) -> None:
    if arguments and not _RUNNER.value:
        raise InputError(f"arguments must be flags, found {' '.join(arguments)}")
    if not _PRED.value:
        raise InputError(f"--pred must be a folder, found {_PRED.value!r}")
    kind = "labels" if _LABELS.value else "distribution" if _DISTRIBUTION.value else "metrics"
    _check_flags(kind)
    name = _PRED.value.rstrip("/") if is_remote(_PRED.value) else os.path.abspath(_PRED.value)
    csv_path, json_path = path_of(_CSV.value or f"{name}.{kind}.csv"), path_of(_JSON.value or f"{name}.{kind}.json")
    command_line.start_tensorflow()
    from cut_tf import devices
    from cut_tf.metrics.features import feature_extractor
    from cut_tf.metrics.reports.distances import check_distribution, evaluate_distribution
    from cut_tf.metrics.reports.folder import evaluate_folders
    from cut_tf.metrics.segmentation import evaluate_labels

    devices.set_up(_TF32.value)
    beam = _beam(arguments, json_path) if _RUNNER.value else None
    pred_dir, (target_dir, input_dir) = _folder(_PRED), map(_folder, (_TARGET, _INPUT))
    if kind == "labels":
        if target_dir is None:
            raise InputError("--target must be the folder of the true label maps, found ''")
        report = evaluate_labels(pred_dir, target_dir, _folder(_LABEL_COLOURS), csv_path, json_path)
    elif kind == "distribution":
        reference = _folder(_REFERENCE_STATISTICS)
        check_distribution(pred_dir, target_dir, _DISTRIBUTION.value, reference, csv_path, json_path)
        print(*devices.report(), sep="\n")
        extractor = feature_extractor(_FEATURE_EXTRACTOR.value, _INCEPTION_WEIGHTS.value)
        statistics = functools.partial(beam.statistics, extractor=extractor, spec=_FEATURE_EXTRACTOR.value,
                                       inception_weights=_INCEPTION_WEIGHTS.value) if beam else None
        report = evaluate_distribution(pred_dir, target_dir, _DISTRIBUTION.value, extractor, reference, csv_path,
                                       json_path, statistics=statistics)
    else:
        report = evaluate_folders(pred_dir, target_dir, csv_path, json_path, input_dir=input_dir,
                                  target_border_px=_TARGET_BORDER_PX.value, brisque=_BRISQUE.value,
                                  score=beam.score if beam else None)
    print(report.table())
    print(f"written: {csv_path} and {json_path}")


def _folder(flag: flags.FlagHolder) -> AnyPath | None:
    """The place that a flag names. A pipeline's workers may have another working folder."""
    if not flag.value:
        return None
    return path_of(os.path.abspath(flag.value)) if _RUNNER.value and not is_remote(flag.value) else path_of(flag.value)


def _beam(arguments: Sequence[str], json_path: AnyPath) -> Evaluation:
    """What evaluates by pipelines, whose own flags are `arguments`."""
    command_line.log_to_stdout()
    options = batch.beam_options(_RUNNER.value, arguments)
    from cut_tf.batch import beam_evaluation

    place = json_path if is_remote(str(json_path)) else Path(os.path.abspath(json_path))
    return beam_evaluation.Evaluation(options, place, _PIXELS_IN_FLIGHT.value, _TF32.value)


def _check_flags(kind: str) -> None:
    """Raises InputError for a flag that the kind of evaluation does not use."""
    if _LABELS.value and _DISTRIBUTION.value:
        raise InputError("--labels must be given without --distribution, found both")
    remote = [flag.value for flag in (_PRED, _TARGET, _LABEL_COLOURS) if is_remote(flag.value)]
    if _LABELS.value and remote:
        raise InputError(f"--labels must be given with folders and files of this machine, found {remote[0]}")
    if _LABELS.value and _RUNNER.value:
        raise InputError(f"--labels must be given without --runner, found --runner={_RUNNER.value}")
    if not _RUNNER.value and _PIXELS_IN_FLIGHT.value != _PIXELS_IN_FLIGHT.default:
        raise InputError(f"--pixels_in_flight must not be given without --runner, found {_PIXELS_IN_FLIGHT.value}")
    users = {"input": "metrics", "target_border_px": "metrics", "brisque": "metrics", "label_colours": "labels",
             "feature_extractor": "distribution", "inception_weights": "distribution",
             "reference_statistics": "distribution"}
    for name, user in users.items():
        flag = flags.FLAGS[name]
        if kind != user and flag.value != flag.default:
            rule = f"with --{kind}" if user == "metrics" else f"without --{user}"
            raise InputError(f"--{name} must be left out {rule}, found {flag.value!r}")


def main(argv: list[str]) -> int:
    """Exit code 0; 1 if a pipeline ended early; 2 for bad flags or files. The reason is on stderr."""
    try:
        _evaluate(argv[1:])
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    command_line.run(main, unknown_flags=("runner",))


if __name__ == "__main__":
    run()
