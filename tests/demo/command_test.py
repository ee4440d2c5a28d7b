"""The demo's command where it refuses to start: one sentence and exit code 2, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import warm_process

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("given, message", [
    (["--weights=ema"], "--weights must not be given without --run, found 'ema'"),
    (["--weights=last", "--tflite=a.tflite"], "--weights must not be given without --run, found 'last'"),
    (["photos", "more"], "arguments must be flags, found ['photos', 'more']"),
])
def test_what_makes_no_sense_is_refused(given, message):
    done = warm_process.run(["-m", "cut_tf.demo", *given], ROOT)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"error: {message}")


def test_what_cannot_be_loaded_is_refused(tmp_path):
    pytest.importorskip("gradio", reason="the extra demo (gradio) is not installed")
    done = warm_process.run(["-m", "cut_tf.demo", f"--run={tmp_path}", "--weights=ema"], ROOT)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: --run must be the folder of a run, found no settings.json")
