"""Shows in the browser what a generator makes of pictures: python -m cut_tf.demo

Without flags these are the models that come along. --saved_model, --run and --tflite, each as often as you like, add
others.
The page is served to this machine alone (127.0.0.1) and needs no network.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.demo import models
from cut_tf.demo.page import build_page, import_gradio, launch
from cut_tf.demo.pictures import Limits
from cut_tf.translators import WEIGHTS

_SAVED_MODEL = flags.DEFINE_multi_string("saved_model", [], "folder of an exported SavedModel")
_RUN = flags.DEFINE_multi_string("run", [], "folder of a run")
_TFLITE = flags.DEFINE_multi_string("tflite", [], "exported .tflite file; one of a fixed size resizes pictures to it, "
                                    "and the result back")
_WEIGHTS = flags.DEFINE_enum("weights", "", ["", *WEIGHTS], command_line.choices_help(
    "weights of the runs; ema if they have them, else last", WEIGHTS))
_PORT = flags.DEFINE_integer("port", 0, "port of the page; 0 for the first free one from 7860 on", lower_bound=0,
                             upper_bound=65535)
_PIXEL_LIMIT = flags.DEFINE_integer("pixel_limit", Limits().pixels, "refuse pictures of more pixels (height times "
                                    "width), unseen, unless they are to be made smaller",
                                    lower_bound=images.MIN_SIDE_PX**2)


def _serve() -> None:
    if _WEIGHTS.value and not _RUN.value:
        raise InputError(f"--weights must not be given without --run, found {_WEIGHTS.value!r}")
    import_gradio()
    command_line.start_tensorflow()
    limits = Limits(pixels=_PIXEL_LIMIT.value)
    offered = models.offered(models.given(_SAVED_MODEL.value, _RUN.value, _TFLITE.value, _WEIGHTS.value),
                             models.in_the_box())
    with tempfile.TemporaryDirectory(prefix="cut_tf_demo_") as folder:
        page = build_page(offered, limits, Path(folder))
        address = launch(page, limits, _PORT.value or None)
        print(f"open {address} in a browser on this machine; Ctrl-C ends the demo", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that users' files are removed then, too
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if flags or what they name are not as they must be (the reason is printed on stderr)."""
    command_line.log_to_stdout()
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {argv[1:]}")
        _serve()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
