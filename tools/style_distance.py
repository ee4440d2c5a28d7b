"""Measures how close a translation's colours and texture are to a target picture, and how much of its input is kept.

    python -m tools.style_distance --input=painting.jpg --output=translated.png --target=photo.jpg

Prints distances to the target in levels, of the input and of the output (lower is closer), and the similarity of the
output's structure to the input's (1 is the same). `cut_tf/metrics/style_distance.py` has the definitions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError

_INPUT = flags.DEFINE_string("input", None, "picture that was translated", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "its translation, of the same size", required=True)
_TARGET = flags.DEFINE_string("target", None, "picture whose look the translation should have", required=True)


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for bad flags or pictures."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        command_line.start_tensorflow()
        from cut_tf.metrics.reports.style import report

        print(report(*(Path(flag.value) for flag in (_INPUT, _OUTPUT, _TARGET))))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
