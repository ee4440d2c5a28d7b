"""The picture of TensorBoard's page, with a stand-in for the browser and for what TensorBoard answers."""

from __future__ import annotations

from pathlib import Path

from tests import warm_process

ROOT = Path(__file__).parents[2]
# The first arguments are the PATH, and the runs that TensorBoard knows. Each look at the clock takes 50 seconds.
_COMMAND = """
import io, itertools, os, sys, types
from cut_tf import command_line
from tools import picture_tensorboard

os.environ["PATH"], runs = sys.argv.pop(1), sys.argv.pop(1)
clock = itertools.count(0, 50)
picture_tensorboard.time = types.SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)
picture_tensorboard.urllib.request.urlopen = lambda *_, **__: io.BytesIO(runs.encode())
command_line.run(picture_tensorboard.main)
"""
_DRAWS = 'for given; do case "$given" in --screenshot=*) echo picture > "${given#--screenshot=}";; esac; done'


def _take(folder: Path, browser: str | None, runs: str, *more: str) -> tuple[warm_process.Ended, Path]:
    (folder / "bin").mkdir()
    if browser is not None:
        (folder / "bin" / "chromium").write_text(f"#!/bin/sh\n{browser}\n")
        (folder / "bin" / "chromium").chmod(0o755)
    output = folder / "page.png"
    return warm_process.run(["-c", _COMMAND, str(folder / "bin"), runs, f"--logdir={folder}", f"--output={output}",
                             *more], ROOT), output


def test_the_browser_draws_the_page_of_the_runs(tmp_path):
    done, output = _take(tmp_path, _DRAWS, '["run/events"]')
    assert (done.returncode, done.stdout) == (0, f"written: {output}\n"), done.stderr
    assert output.read_text() == "picture\n"


def test_what_is_missing_is_told(tmp_path):
    for name, browser, runs, more, message in (
            ("browser", None, '["run"]', [], "one of chromium, chromium-browser, google-chrome must be installed, "
                                             "found none"),
            ("runs", _DRAWS, "[]\n", [], "--logdir={folder} must hold runs that TensorBoard can show, found none"),
            ("picture", ":", '["run"]', [], "--output={folder}/page.png must be writable by {folder}/bin/chromium, "
                                            "found no picture there"),
            ("flags", _DRAWS, '["run"]', ["more"], "arguments must be flags, found ['more']")):
        folder = tmp_path / name
        folder.mkdir()
        done, output = _take(folder, browser, runs, *more)
        told = done.stderr.splitlines()[-1]  # before it, TensorFlow may say that there is no GPU
        assert (done.returncode, told) == (2, f"error: {message.format(folder=folder)}"), name
        assert not output.exists()
