"""Rows of `python -m tools.benchmark start`: from the start of a process to its first result."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cut_tf import command_line, flags
from cut_tf.common.errors import InputError
from cut_tf.translators.exported import can_run_tflite
from cut_tf.translators.shipped import fast_twin, shipped_model

_ROOT = Path(__file__).parents[2]
_WIDTH_PX, _HEIGHT_PX = 1200, 966
_MODEL = "dehaze_mobile"
_FIRST_STEP = ["-c", "import sys; from tools.benchmark import start; start.train_one_step(sys.argv[1:])"]
# A step that is measured again, with the graph that the process before has kept.
_AGAIN = ", again"
# Steps that are measured: the quickstart's, on the scenes that it had when it was first measured, and CUT's with its
# own networks at 256 px.
_STEPS = {"first step, quickstart": ["--flagfile=quickstart", "--dataset=scenes"],
          "first step, CUT at 256 px": ["--method=cut", "--dataset=scenes", "--scenes_images=8"]}


def rows(repeats: int) -> Iterator[dict]:
    """A row per command, each of which runs `repeats` times in processes of its own, in turns with the others."""
    with tempfile.TemporaryDirectory(prefix="cut_tf_benchmark_") as folder:
        yield from measured(_commands(Path(folder)), Path(folder), repeats)


def _commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by name: the arguments of Python."""
    pixels = np.random.default_rng(0).integers(0, 256, [24, 30, 3], np.uint8)
    picture = folder / "picture.png"
    Image.fromarray(pixels).resize((_WIDTH_PX, _HEIGHT_PX), Image.Resampling.BICUBIC).save(picture)
    translate = ["-m", "cut_tf.translate", f"--input={picture}", f"--output={folder / 'output'}", "--overwrite"]
    models = {"translate --saved_model": f"--saved_model={shipped_model(_MODEL)}",
              "translate --model": f"--model={_MODEL}"}
    if can_run_tflite():
        models["translate --tflite"] = f"--tflite={fast_twin(_MODEL)}"
    return {"translate --help": ["-m", "cut_tf.translate", "--help"],
            **{name: [*translate, flag] for name, flag in models.items()},
            **{f"{name}{again}": [*_FIRST_STEP, *arguments] for name, arguments in _STEPS.items()
               for again in ("", _AGAIN)}}


def measured(commands: Mapping[str, Sequence[str]], folder: Path, repeats: int) -> Iterator[dict]:
    """Runs commands in turns, so that other programs on the machine slow all of them alike.

    Args:
      commands: arguments of Python by name.
      folder: where training writes its runs.
      repeats: times that each command runs.

    Raises:
      InputError: if a command fails, with the end of what it printed.
    """
    found = {name: [] for name in commands}
    for number in range(repeats):
        for place, (name, arguments) in enumerate(commands.items()):
            step = name.removesuffix(_AGAIN)
            own = [f"--run={folder / f'run_{place}_{number}'}",
                   f"--step_cache={folder / f'graphs_{list(commands).index(step)}_{number}'}"] if step in _STEPS else []
            found[name].append(_seconds(name, [sys.executable, *arguments, *own]))
    for name, times in found.items():
        cpu, wall = zip(*times)
        yield {"name": name, "cpu_sec": statistics.median(cpu), "least_cpu_sec": min(cpu), "most_cpu_sec": max(cpu),
               "wall_sec": statistics.median(wall)}


def _seconds(name: str, command: Sequence[str]) -> tuple[float, float]:
    """Seconds of CPU, user and system, and of the clock, that a command takes."""
    with tempfile.TemporaryFile() as printed:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=_ROOT, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # wait4 was faster than Popen
        if process.returncode:
            printed.seek(0)
            raise InputError(f"{name} failed: {printed.read().decode(errors='replace')[-2000:]}")
    return used.ru_utime + used.ru_stime, wall


def train_one_step(arguments: Sequence[str]) -> None:
    """Trains as the command with these flags does, and ends the process when the result of the first step is there."""
    from absl import flags as absl_flags

    flags.define()
    absl_flags.FLAGS(command_line.with_flagfile_paths(["train", *arguments]))
    settings = flags.settings_from()
    command_line.start_tensorflow()
    import keras

    from cut_tf.training import trainer

    def end(batch: int, logs: object) -> None:
        os._exit(0)  # the first step's terms have been read by now

    trainer.Run(settings).train(verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=end)])


def line(row: dict) -> str:
    """A row as readable text."""
    return (f"{row['name']:33s} {row['cpu_sec']:6.2f} s of CPU ({row['least_cpu_sec']:.2f} to "
            f"{row['most_cpu_sec']:.2f})  {row['wall_sec']:6.2f} s of the clock")
