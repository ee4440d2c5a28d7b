"""Training runs in processes of their own, as a user starts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.processes import Training


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


@pytest.fixture
def train(start_training: Callable[..., Training]) -> Callable[..., tuple[int, str]]:
    """train(run, *flags) -> (exit code, everything printed)."""
    return lambda run, *flags, **kwargs: start_training(run, *flags, **kwargs).end()


@pytest.fixture
def checkpoint_values() -> Callable[[Path, int], dict[str, np.ndarray]]:
    """checkpoint_values(run, step) -> every variable by its key in the checkpoint file."""

    def read(run: Path, step: int) -> dict[str, np.ndarray]:
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step_{step:010d}" / "variables"))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
                if not name.startswith("_CHECKPOINTABLE")}

    return read
