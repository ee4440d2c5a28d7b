"""Training runs in processes of their own, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_ROOT = Path(__file__).parents[2]
_TINY_FLAGS = (
    "--dataset=scenes", "--scenes_images=6", "--scenes_size_px=32", "--preprocess=crop", "--crop_size_px=32",
    "--test_images=2", "--batch_size=2", "--ngf=4", "--ndf=4", "--generator_blocks=1", "--nce_layers=0,4,8,12",
    "--num_patches=16", "--projector_width=16", "--steps_per_epoch=5", "--constant_epochs=1", "--decay_epochs=2",
    "--checkpoint_steps=3", "--log_steps=2", "--image_steps=6", "--eval_steps=5", "--deterministic",
)
# A start takes about 12 s alone; the machine may be busy with other things.
TIMEOUT_SEC = 240


@pytest.fixture
def start_training() -> Callable[..., subprocess.Popen]:
    """start_training(run, *flags, environment={}) -> the process of a tiny deterministic run of 15 steps."""
    processes = []

    def start(run: Path, *flags: str, environment: dict[str, str] | None = None,
              preexec_fn: Callable[[], None] | None = None) -> subprocess.Popen:
        command = [sys.executable, "-m", "cut_tf.train", *_TINY_FLAGS, f"--run={run}", *flags]
        processes.append(subprocess.Popen(
            command, cwd=_ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=preexec_fn))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def train(start_training: Callable[..., subprocess.Popen]) -> Callable[..., tuple[int, str]]:
    """train(run, *flags) -> (exit code, everything printed)."""

    def run_to_end(run: Path, *flags: str, **kwargs: object) -> tuple[int, str]:
        process = start_training(run, *flags, **kwargs)
        output, _ = process.communicate(timeout=TIMEOUT_SEC)
        return process.returncode, output

    return run_to_end


@pytest.fixture
def checkpoint_values() -> Callable[[Path, int], dict[str, np.ndarray]]:
    """checkpoint_values(run, step) -> every variable by its key in the checkpoint file."""

    def read(run: Path, step: int) -> dict[str, np.ndarray]:
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step_{step:010d}" / "variables"))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
                if not name.startswith("_CHECKPOINTABLE")}

    return read
