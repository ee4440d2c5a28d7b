"""Training processes under test: their output line by line, waits for what they print, and clusters of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.ports import free_ports
from tests.waiting import wait_until

_ROOT = Path(__file__).parents[2]
TINY_FLAGS = (
    "--dataset=scenes", "--scenes_images=6", "--scenes_size_px=32", "--preprocess=crop", "--crop_size_px=32",
    "--test_images=2", "--batch_size=2", "--ngf=4", "--generator_blocks=1", "--steps_per_epoch=5",
    "--constant_epochs=1", "--decay_epochs=2",
    "--checkpoint_steps=3", "--log_steps=2", "--image_steps=6", "--eval_steps=5", "--deterministic",
)
_TINY_CUT_FLAGS = ("--ndf=4", "--nce_layers=0,4,8,12", "--num_patches=16", "--projector_width=16")
# What is quick to build, for tests that are about something else than the method.
QUICK_FLAGS = ("--method=paired", "--generator=mobile", "--generator_norm=none")


def tiny_flags(*flags: str) -> list[str]:
    """Flags of a run that takes seconds, with others behind them; those of CUT unless they choose another method."""
    return [*TINY_FLAGS, *(() if any(flag.startswith("--method=") for flag in flags) else _TINY_CUT_FLAGS), *flags]


# A start takes about 12 s alone; the machine may be busy with other things.
TIMEOUT_SEC = 240


class Held(NamedTuple):
    """Where a process is to wait: see `tests.training.held_training`."""

    step: int
    gate: Path

    @classmethod
    def behind(cls, step: int, folder: Path) -> Held:
        """With a new gate in the folder."""
        gate = folder / f"gate_{step}"
        os.mkfifo(gate)
        return cls(step, gate)

    @property
    def line(self) -> str:
        return f"held behind step {self.step}\n"

    def let_go(self) -> None:
        wait_until(self.let_go_if_held, f"somebody is {self.line}")

    def let_go_if_held(self) -> bool:
        """Whether somebody was there to be let go."""
        try:
            os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it
            return False
        return True


class Training:
    """A running `cut_tf.train`.

    Args:
      run: folder of the run.
      flags: besides the tiny ones.
      environment: variables besides those of this process.
      held: where to wait, if anywhere.
      preexec_fn: see subprocess.Popen.
    """

    def __init__(self, run: Path, *flags: str, environment: dict[str, str] | None = None, held: Held | None = None,
                 preexec_fn: Callable[[], None] | None = None) -> None:
        program = ["tests.training.held_training", str(held.step), str(held.gate)] if held else ["cut_tf.train"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *program, *tiny_flags(*flags), f"--run={run}"], cwd=_ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=preexec_fn)
        self._output = ""
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._news:
                self._output += line
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, text: str) -> None:
        """Waits until it has printed that. Fails if it ends before, or prints nothing like it for TIMEOUT_SEC."""
        with self._news:
            self._news.wait_for(lambda: text in self._output or self._ended, TIMEOUT_SEC)
            assert text in self._output, f"{text!r} was not printed:\n{self._output}"

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Waits for its end. Returns exit code and everything printed."""
        self._reader.join(TIMEOUT_SEC)
        assert self._ended, f"still running after {TIMEOUT_SEC} s:\n{self._output}"
        return self._process.wait(TIMEOUT_SEC), self._output

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def free_addresses(count: int) -> list[str]:
    """host:port of ports of this machine that nobody uses."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def cluster_environments(jobs: Sequence[str] = ("worker", "worker")) -> list[dict[str, str]]:
    """TF_CONFIG of every process of a cluster on this machine.

    Args:
      jobs: of the processes, in TensorFlow's order.
    """
    cluster: dict[str, list[str]] = {}
    tasks = []
    for job, address in zip(jobs, free_addresses(len(jobs))):
        cluster.setdefault(job, []).append(address)
        tasks.append({"type": job, "index": len(cluster[job]) - 1})
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]
