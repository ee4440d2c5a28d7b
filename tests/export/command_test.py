"""Commands that write models look at their output before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import warm_process

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [
    ["cut_tf.export", "--run=no_run"], ["cut_tf.import_weights", "--input=no_file.pth"]], ids=["export", "import"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    for output, found in ((tmp_path / "file" / "model", f"found the file {tmp_path / 'file'}"),
                          ("gs://bucket/model", "found a URL")):
        done = warm_process.run(["-m", *command, f"--output={output}"], ROOT)
        assert done.returncode == 2 and f"error: --output={output} must be a folder" in done.stderr, done.stderr
        assert found in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
