"""A suite of real, tiny runs: stopped in its last run, continued, and what its results are."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.data import open_dataset
from cut_tf.data.image_files import read_image
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator
from tests.tools.reproduced import TINY, tree_of
from tests.training.processes import Held
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
_REAL = ["--rows=input,dark_channel_prior,cut,odcr", "--seeds=3", "--steps=16", *TINY]


# The first argument is the gate behind which the runs of ODCR wait after their first step.
_HELD = """
import subprocess, sys, types
from tools.reproduce import __main__ as reproduce, runs

gate = sys.argv.pop(1)

def start(command, **options):
    if "--method=odcr" in command:
        command = [sys.executable, "-m", "tests.training.held_training", "1", gate, *command[3:]]
    return subprocess.Popen(command, **options)

runs.subprocess = types.SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT)
reproduce.define()
reproduce.command_line.run(reproduce.main)
"""


# The README's test does real runs each time; how they are evaluated has a test in reproduce_suites_test.py.
@pytest.fixture(name="stopped", scope="module")
def _stopped(tmp_path_factory):
    """The output of a suite of real runs that was stopped in its last run and continued, and that of in between."""
    folder = tmp_path_factory.mktemp("suite")
    held, log = Held.behind(1, folder), folder / "out" / "logs" / "odcr_seed3.log"
    command = [sys.executable, "-m", "tools.reproduce", "--output=out", *_REAL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

    def has_told(text: str) -> bool:
        return log.exists() and text in log.read_text(encoding="utf-8")

    with subprocess.Popen([sys.executable, "-c", _HELD, str(held.gate), *command[3:]], cwd=folder, env=environment,
                          text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: has_told(held.line), "the last run is held", process, timeout_sec=900)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: has_told("SIGTERM: stopping after this step"), "the last run is stopped", process)
            held.let_go()
            error = process.communicate(timeout=900)[1]
            assert process.returncode == 130, error
        finally:
            held.let_go_if_held()
            process.kill()
    between = tree_of(folder / "out")
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=900,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run 4 of 4: odcr_seed3" in done.stdout and "run 3 of 4" not in done.stdout
    return folder / "out", between


@pytest.mark.slow
def test_real_runs_are_continued_and_not_repeated(stopped):
    out, between = stopped
    assert sorted(name for name in between if name.startswith("results/")) == [
        "results/cut_seed3.json", "results/dark_channel_prior.json", "results/input.json"]
    assert "**3 of 4 runs are finished**" in between["README.md"][1].decode()
    after = tree_of(out)
    for name in between:
        if name.startswith(("results/", "runs/cut_seed3/")):
            assert after[name] == between[name]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "All 4 runs are finished." in text and "python -m tools.reproduce --suite=dehazing" in text
    assert [re.split(r" \||\(", line[2:])[0].strip() for line in text.splitlines() if line.startswith("| ")][:5] == [
        "method", "hazy input", "DCP", "CUT", "ODCR"]


@pytest.mark.slow
def test_real_results_are_those_of_all_test_pairs(stopped):
    out, _ = stopped
    data = open_dataset(Settings.of(scenes_images=4, scenes_size_px=32, preprocess="crop", crop_size_px=24))
    pairs = [(data.test_source.load(index), data.test_target.load(index)) for index in range(48)]
    result = {path.stem: json.loads(path.read_text()) for path in (out / "results").iterdir()}
    assert result["input"]["test_pictures"] == 48
    assert result["input"]["metrics"]["psnr"] == pytest.approx(
        np.mean([peak_signal_noise_ratio(clear, hazy, data_range=255) for hazy, clear in pairs]), abs=1e-4)
    for name in ("cut_seed3", "odcr_seed3"):
        translate, found = Translator(out / "runs" / name, "ema"), result[name]
        assert translate.step == found["steps"] == 16 and found["settings"]["train"]["seed"] == 3
        outputs = [translate(hazy) for hazy, _ in pairs]
        assert found["metrics"]["psnr"] == pytest.approx(
            np.mean([peak_signal_noise_ratio(pair[1], output, data_range=255) for pair, output in zip(pairs, outputs)]),
            abs=1e-3)
        np.testing.assert_array_equal(read_image(out / "pictures" / name / "2.png"), outputs[2])
        # TensorFlow alone takes some 300 MiB.
        assert 200 < found["peak_memory_mib"] < 8000 and 0 < found["step_sec"] < found["train_sec"]
    assert result["odcr_seed3"]["settings"]["train"]["method"] == "odcr"
    assert [result[name]["continued_from_step"] for name in ("cut_seed3", "odcr_seed3")] == [0, 2]
    assert read_image(out / "pictures.png").shape[1] >= 5 * 32
