"""A run on a full disk stops, and goes on as if nothing had happened when there is room."""

import shutil

import numpy as np
import pytest

from tests.training.processes import QUICK_FLAGS

# Its checkpoints have 150 KB.
_FLAGS = (*QUICK_FLAGS, "--decay_epochs=0")


@pytest.mark.slow
def test_full_disk_stops_a_run_and_keeps_its_checkpoints(tmp_path, train, checkpoint_values):
    run = tmp_path / "run"
    code, output = train(run, *_FLAGS)
    assert code == 0, output
    before = checkpoint_values(run, 5)

    # A longer run of other settings cannot continue this one, so the same settings run in a copy without its end.
    other = tmp_path / "other"
    shutil.copytree(run, other)
    shutil.rmtree(other / "checkpoints" / "step_0000000005")
    code, output = train(other, *_FLAGS, "--image_steps=1000", file_bytes=100_000)
    assert code == 2, output
    assert "checkpoint cannot be written" in output
    assert [path.name for path in (other / "checkpoints").glob("*step_*")] == ["step_0000000003"]
    code, output = train(other, *_FLAGS)
    assert code == 0, output
    after = checkpoint_values(other, 5)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
