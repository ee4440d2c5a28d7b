"""Builds a static page that runs a .tflite file in the browser: python -m tools.live_page --output=DIR

Any server of files can serve it, such as `python -m http.server --directory=DIR --bind=127.0.0.1`; cameras need that
address or https. The runtime, LiteRT.js, comes from npm by the lock file beside this module.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from tools.live_page.building import build_page

_TFLITE = flags.DEFINE_string("tflite", "saved_models/dehaze_mobile/dehaze_mobile_256x256_int8.tflite",
                              "exported .tflite file of a fixed size")
_OUTPUT = flags.DEFINE_string("output", None, "folder for the page; it must be new or empty", required=True)


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if flags, npm or disk are not as they must be (the reason is printed on stderr)."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {argv[1:]}")
        command_line.start_tensorflow()
        build_page(Path(_TFLITE.value), Path(_OUTPUT.value))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {_OUTPUT.value}")
    print(f"python -m http.server --directory={_OUTPUT.value} --bind=127.0.0.1  # then open http://127.0.0.1:8000/")
    return 0


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
