"""Training runs in processes of their own, as a user starts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import warm_process
from tests.training.processes import Training, tiny_flags

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def start_training() -> Callable[..., Training]:
    """start_training(run, *flags, environment={}, held=None) -> the process of a tiny deterministic run of 15 steps."""
    processes = []

    def start(run: Path, *flags: str, **kwargs: object) -> Training:
        processes.append(Training(run, *flags, **kwargs))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


@pytest.fixture(scope="session")
def train() -> Callable[..., tuple[int, str]]:
    """train(run, *flags, environment={}, file_bytes=-1) -> (exit code, everything printed).

    The same tiny run, in a warm process. No file of it may have more than `file_bytes`.
    """

    def run_to_its_end(run: Path, *flags: str, environment: dict[str, str] | None = None, file_bytes: int = -1
                       ) -> tuple[int, str]:
        code = (f"import os, resource\nos.environ.update({environment or {}!r})\n"
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, resource.RLIM_INFINITY))\n"
                "from cut_tf import train\ntrain.run()")
        ended = warm_process.run(["-c", code, *tiny_flags(*flags), f"--run={run}"], _ROOT)
        return ended.returncode, ended.stdout + ended.stderr

    return run_to_its_end


@pytest.fixture
def checkpoint_values() -> Callable[[Path, int], dict[str, np.ndarray]]:
    """checkpoint_values(run, step) -> every variable by its key in the checkpoint file."""

    def read(run: Path, step: int) -> dict[str, np.ndarray]:
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step_{step:010d}" / "variables"))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
                if not name.startswith("_CHECKPOINTABLE")}

    return read
