"""The benchmark's commands at a size that takes seconds, and its arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["--size_px=32", "--ngf=4", "--generator_blocks=1", "--repeats=3", "--json"]


def _benchmark(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "tools.benchmark", *words], cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=300)


def _rows(*words: str) -> list[dict]:
    done = _benchmark(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("method", ["cut", "odcr"])
def test_train_step(method):
    row, = _rows("train_step", f"--method={method}", *SMALL)
    assert row["name"] == f"{method} step" and row["size_px"] == 32
    assert 0 < row["least_sec"] <= row["median_sec"] <= row["most_sec"]


def test_stiefel_gives_the_share_of_the_step():
    step, constraint = _rows("stiefel", *SMALL)
    assert constraint["share_of_step"] == pytest.approx(constraint["median_sec"] / step["median_sec"])
    assert 0 < constraint["median_sec"] < step["median_sec"]


def test_unknown_commands_are_refused_with_the_known_ones():
    done = _benchmark("speed")
    assert done.returncode == 2
    assert "error: the command must be one of train_step, stiefel, found speed" in done.stderr
