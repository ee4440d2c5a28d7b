"""Exports a run's generator: python -m cut_tf.export --run=DIR --format=FORMAT --output=DIR."""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write
from cut_tf.export import FORMATS
from cut_tf.export.options import DEFAULTS, HALF, PRECISIONS, QUANTIZATIONS, SERVE_ON, ExportOptions, parse_sizes
from cut_tf.settings.training import TF32_HELP
from cut_tf.translators import WEIGHTS

_RUN = flags.DEFINE_string("run", None, "folder of the run", required=True)
_FORMAT = flags.DEFINE_enum("format", "saved_model", tuple(FORMATS), command_line.choices_help(
    "form of the export", {name: row.title for name, row in FORMATS.items()}))
_OUTPUT = flags.DEFINE_string("output", None, "folder of the model; saved_model: each export becomes its next "
                              "numbered version; tflite, hub, space: folder of the files",
                              required=True)
_WEIGHTS = flags.DEFINE_enum("weights", "", ["", *WEIGHTS], command_line.choices_help(
    "weights of the run; ema if it has them, else last", WEIGHTS))
_SIZE = flags.DEFINE_string("size", "", "HxW[,HxW...] in pixels. saved_model, hub: sizes of the warm-up pictures, none "
                            "if empty. tflite, hub: sizes of the input, a file each; one file for any size if empty")
_PIXEL_LIMIT = flags.DEFINE_integer("pixel_limit", DEFAULTS.pixel_limit, "refuse encoded pictures of more pixels "
                                    "(height times width), unseen", lower_bound=images.MIN_SIDE_PX**2)
_QUANTIZE = flags.DEFINE_enum("quantize", "none", tuple(QUANTIZATIONS), command_line.choices_help(
    "tflite, hub: numbers in the .tflite file", QUANTIZATIONS))
_REPRESENTATIVE = flags.DEFINE_string(
    "representative", "", "tflite, hub, saved_model in bfloat16: typical inputs: scenes, rooms, scenes+rooms, a "
    "folder, or a dataset such as hazed:CLEAR_DIR; if empty what the run was trained on, if that is rendered, else "
    "scenes. They decide on the quality and on the ranges of int8, and are the examples of a hub folder")
_ALLOW_LOSS = flags.DEFINE_bool("allow_quality_loss", False, "tflite, hub, saved_model in bfloat16: write files that "
                              "lose too much quality, too")
_UNIT_RANGE = flags.DEFINE_bool("unit_range", False, "tflite, hub: float input and output of the .tflite files in "
                                "[0, 1] instead of [-1, 1]")
_PRECISION = flags.DEFINE_enum("precision", "", ["", *PRECISIONS], command_line.choices_help(
    "saved_model: that of the training if empty", PRECISIONS))
_SERVE_ON = flags.DEFINE_enum("serve_on", "", ["", *SERVE_ON], command_line.choices_help(
    "saved_model: what the server has; what this machine has if empty", SERVE_ON))
_TF32 = flags.DEFINE_bool("tf32", False, TF32_HELP)
_LICENSE = flags.DEFINE_string("license", "not stated", "tflite, hub, space: licence of the weights, such as "
                              "apache-2.0, for metadata and card")


def _options() -> ExportOptions:
    """Raises InputError if flags are given that the format does not use, or sizes are not sizes."""
    for name in dict.fromkeys(option for row in FORMATS.values() for option in row.options):
        flag = flags.FLAGS[name]
        if name not in FORMATS[_FORMAT.value].options and flag.value != flag.default:
            raise InputError(f"--{name} must not be given with --format={_FORMAT.value}, which does not use it, found "
                             f"{flag.value!r}")
    if _FORMAT.value == "saved_model" and _PRECISION.value != HALF:
        for name in ("representative", "allow_quality_loss"):
            if flags.FLAGS[name].value != flags.FLAGS[name].default:
                raise InputError(f"--{name} must be given with --precision={HALF} if --format=saved_model, which does "
                                 f"not use it else, found {flags.FLAGS[name].value!r}")
    return ExportOptions(parse_sizes(_SIZE.value), _PIXEL_LIMIT.value, _QUANTIZE.value, _REPRESENTATIVE.value,
                         _ALLOW_LOSS.value, _LICENSE.value, _UNIT_RANGE.value, _PRECISION.value, _SERVE_ON.value)


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if flags, run or disk are not as they must be (the reason is printed on stderr)."""
    command_line.log_to_stdout()
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        options = _options()
        check_can_write(Path(_OUTPUT.value), f"--output={_OUTPUT.value}")
        command_line.start_tensorflow()
        from cut_tf import devices
        from cut_tf.export.representative import inputs_of
        from cut_tf.translators.run import Translator

        devices.set_up(_TF32.value)
        translator = Translator(_RUN.value, _WEIGHTS.value, precision=options.precision)
        if not options.representative:
            options = options._replace(representative=inputs_of(translator.settings))
        path = FORMATS[_FORMAT.value](translator, Path(_OUTPUT.value), options)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {path}")
    return 0


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
