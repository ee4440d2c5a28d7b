"""A run that was killed, and one that was asked to stop, end with the very weights of a run that was not."""

import json
import signal

import numpy as np
import pytest

from tests.training.processes import QUICK_FLAGS, Held


@pytest.mark.parametrize("flags", [pytest.param((), id="cut", marks=pytest.mark.slow),
                                   pytest.param(QUICK_FLAGS, id="paired")])
def test_killed_and_stopped_run_equals_uninterrupted_run(flags, tmp_path, start_training, train, checkpoint_values):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, output = train(whole, *flags, "--keep_checkpoints=9")
    assert code == 0, output

    # Behind a step that has no checkpoint: it is done again.
    held = Held.behind(4, tmp_path)
    process = start_training(killed, *flags, held=held)
    process.wait_for(held.line)
    process.send_signal(signal.SIGKILL)
    assert process.end()[0] == -signal.SIGKILL

    held = Held.behind(7, tmp_path)
    process = start_training(killed, *flags, held=held)
    process.wait_for("from step 3 of 15")
    process.wait_for(held.line)
    process.send_signal(signal.SIGTERM)
    process.wait_for("SIGTERM: stopping after this step")
    held.let_go()
    code, output = process.end()
    assert code == 0 and "step 8 of 15, stopped" in output, output
    # The best one, of step 5, among them; the oldest is removed, and nothing is left half written.
    assert sorted(path.name for path in (killed / "checkpoints").glob("*step_*")) == [
        f"step_{step:010d}" for step in (5, 6, 8)]
    saved = json.loads((killed / "checkpoints" / "step_0000000008" / "checkpoint.json").read_text())
    assert saved["step"] == 8

    code, output = train(killed, *flags)
    assert code == 0, output
    assert "from step 8 of 15" in output and "step 15 of 15" in output
    expected, found = checkpoint_values(whole, 15), checkpoint_values(killed, 15)
    assert expected.keys() == found.keys()
    assert len(expected) > 70
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
