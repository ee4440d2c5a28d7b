"""Records what one TensorFlow stack writes and computes, for the other to load: --output=DIR

    DIR/run            a run after two steps, with a spectrally normalised discriminator
    DIR/saved_model/1  its generator, exported
    DIR/picture.png, translated.png   a picture, and what the generator makes of it
    DIR/numbers.npz    a batch and the terms of the step that follows; instance norm with its gradient; a kernel
                       under spectral norm after five training calls

`tests/stacks_test.py` compares the running stack with the records of both in `tests/testdata/stacks`, made by

    python -m tools.record_stack --output=tests/testdata/stacks/current
    python -m tools.record_stack --output=tests/testdata/stacks/addons
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError

_OUTPUT = flags.DEFINE_string("output", "", "new folder for the record")


def main(_: list[str]) -> int:
    """Exit code 0, or 2 if the folder cannot be written (the reason is printed on stderr)."""
    try:
        if not _OUTPUT.value:
            raise InputError("--output must be a new folder, found ''")
        command_line.start_tensorflow()
        from tools.record_stack import recording

        recording.record(Path(_OUTPUT.value))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {_OUTPUT.value}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
