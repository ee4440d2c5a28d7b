"""Measures speed and memory, always against something else in the same process: python -m tools.benchmark COMMAND

    train_step --method=cut,fastcut --precision=float32,bfloat16     a training step: time, memory, share of the ceiling
    scaling --method=cut --sizes_px=128,192,256,384,512 --batches=1,2,4,8   exponents in pixels, overhead of replicas
    losses --size_px=64 --ngf=32 --steps=200                         losses in bfloat16 against those in float32
    input --images=DIR                                               the input pipeline, and how long a step waits
    layers --size_px=256 --ngf=64                                    layers and losses against their naive forms
    stiefel --size_px=256 --ngf=64                                   the orthonormal constraint as a share of a step
    translate --sizes_px=256,512,1024                                Keras model, SavedModel and TFLite at growing sizes
    tflite --run=DIR --sizes_px=256,512                              SavedModel and TFLite: time, size, memory, quality
    serving --server=HOST:PORT --model=NAME --parallel=1,4,16        a server under load: latencies, pictures a second
    start --repeats=5                                                help, a first translation, a first training step
    report --method=cut,fastcut --precision=float32,bfloat16         train_step, layers and translate, as Markdown

Rows of train_step, scaling, losses, translate, tflite and start come from processes of their own, the others of a
command from one process, taken in turns. Medians over --repeats after a warm-up (start: without), with the smallest
and the largest value. --json prints one object per row. Memory is the GPU's where there is one, else the process'.
Forms for CPUs alone are not measured on a GPU.
"""

from __future__ import annotations

import json
import sys

from cut_tf import command_line
from cut_tf.common.errors import InputError
from tools.benchmark import flags as asked


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for an unknown command (the reason is printed on stderr)."""
    command_line.start_tensorflow()
    from tools.benchmark.commands import COMMANDS

    try:
        if len(argv) != 2 or argv[1] not in COMMANDS:
            raise InputError(f"the command must be one of {', '.join(COMMANDS)}, found {' '.join(argv[1:]) or 'none'}")
        command = COMMANDS[argv[1]]
        for row in command.rows():
            print(json.dumps(row) if asked.JSON.value else command.line(row), flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
