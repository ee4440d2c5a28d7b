"""A run that was killed ends with the very weights of a run that was not."""

import json
import signal
import subprocess
import time

import numpy as np


def _wait_for_checkpoint(process: subprocess.Popen, run, after: int) -> int:
    """Waits until a checkpoint of more than `after` steps is there; returns its step."""
    deadline = time.time() + 200
    while time.time() < deadline:
        assert process.poll() is None, process.stdout.read()
        steps = [int(path.name[5:]) for path in (run / "checkpoints").glob("step_*")]
        if steps and max(steps) > after:
            return max(steps)
        time.sleep(0.005)
    raise AssertionError("no checkpoint in 200 s")


def test_killed_run_equals_uninterrupted_run(tmp_path, start_training, train, checkpoint_values):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, output = train(whole, "--keep_checkpoints=9")
    assert code == 0, output

    process = start_training(killed)
    first = _wait_for_checkpoint(process, killed, 0)
    process.send_signal(signal.SIGKILL)
    process.wait()

    # Signals come late in a busy machine; a run that ends before this one arrives ends with exit code 0 as well.
    process = start_training(killed)
    _wait_for_checkpoint(process, killed, first)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert f"from step {first} of 15" in output or "continuing" in output

    code, output = train(killed)
    assert code == 0, output
    assert "step 15 of 15" in output
    expected, found = checkpoint_values(whole, 15), checkpoint_values(killed, 15)
    assert expected.keys() == found.keys()
    assert len(expected) > 100
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


def test_sigterm_saves_the_step_it_stops_at(tmp_path, start_training):
    run = tmp_path / "run"
    process = start_training(run, "--decay_epochs=2000")
    _wait_for_checkpoint(process, run, 0)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    steps = sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step_*"))
    assert f"step {steps[-1]} of 10005, stopped" in output
    saved = json.loads((run / "checkpoints" / f"step_{steps[-1]:010d}" / "checkpoint.json").read_text())
    assert saved["step"] == steps[-1]
    assert not list((run / "checkpoints").glob(".*"))
