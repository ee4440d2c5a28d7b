"""cut_tf.train, but it stops behind a step until it is let go on: a test can do something to it there without haste.

    python -m tests.training.held_training STEP GATE FLAGS...

Behind step STEP, when its checkpoint is written if one is due, it prints `held behind step STEP` and reads the FIFO
GATE, which ends when somebody has opened and closed that for writing. Signals are handled meanwhile. Step 0 is the time
before the first step, when the handlers of training are not set yet.
"""

from __future__ import annotations

import sys

from cut_tf import train
from cut_tf.training.callbacks import CheckpointSaver


def hold(held_step: int, gate: str) -> None:
    """Lets the callback that every process of a run has, the last one of each step, wait behind that step."""
    at_step, enter = CheckpointSaver.at_step, CheckpointSaver.__enter__

    def wait_behind(step: int) -> None:
        if step == held_step:
            print(f"held behind step {step}", flush=True)
            with open(gate, encoding="utf-8") as opened:
                opened.read()

    def at_step_and_wait(self: CheckpointSaver, step: int) -> None:
        at_step(self, step)
        wait_behind(step)

    def wait_and_enter(self: CheckpointSaver) -> CheckpointSaver:
        wait_behind(0)
        return enter(self)

    CheckpointSaver.at_step, CheckpointSaver.__enter__ = at_step_and_wait, wait_and_enter


if __name__ == "__main__":
    hold(int(sys.argv.pop(1)), sys.argv.pop(1))
    train.run()
