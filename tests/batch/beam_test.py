"""The pipeline on Beam's own runners: in one process, in several, and over the portability API of Flink and Spark.

Run by .ci/run in an environment with the extra `beam`.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.baselines import BASELINES
from cut_tf.common.errors import InputError
from cut_tf.common.strength import at_strength
from cut_tf.translators.exported import SavedModelTranslator
from tests.batch import jobs

pytest.importorskip("apache_beam", reason="needs the extra beam")

from cut_tf.batch import beam as pipelines

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "saved_models" / "dehaze_mobile"
RUNNERS = {
    "direct": ["--runner=DirectRunner"],
    "processes": ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"],
    "portable": ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"],
}


# Python imports it at the start of each process: from the third report on, workers wait to read what nobody writes.
HOLD = """
import os

from cut_tf.batch import worker

do = worker.Worker.do


def held(self, part):
    if len(worker.reported_parts(os.environ["HELD_OUTPUT"])) >= 3:
        open(os.environ["HELD_AT"]).read()
    return do(self, part)


worker.Worker.do = held
"""


def _command(*flags):
    return [sys.executable, "-m", "cut_tf.translate", *flags]


def _run(*flags):
    return subprocess.run(_command(*flags), cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("runner, kind, strength", [("direct", "files", 1.0), ("processes", "tar", 0.25),
                                                    ("portable", "tfrecord", 1.0)])
def test_a_pipeline_gives_the_pixels_of_the_local_command(tmp_path, runner, kind, strength):
    pictures = jobs.save(tmp_path / "in", 5)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    done = _run(f"--saved_model={MODEL}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}",
                f"--output_format={kind}", "--pictures_per_shard=2", f"--strength={strength}", *RUNNERS[runner])
    assert done.returncode == 1, done.stderr
    translate = at_strength(SavedModelTranslator(MODEL), strength)
    jobs.assert_results(tmp_path / "out", {name: translate(pixels) for name, pixels in pictures.items()})
    pixels = sum(picture[..., 0].size for picture in pictures.values())
    for count in ("pictures 5", f"pixels {pixels}", "failed 1", "failed_refused 1", "milliseconds "):
        assert count in done.stdout, done.stdout
    assert f"error: {tmp_path / 'in' / 'bad.png'}: must be a complete JPEG" in done.stderr
    again = _run(f"--saved_model={MODEL}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}",
                 f"--output_format={kind}", "--pictures_per_shard=2", f"--strength={strength}", *RUNNERS[runner])
    assert again.returncode == 1 and "this start: nothing" in again.stdout and "5 pictures" in again.stdout


def _reports(output):
    return sorted((output / ".batch" / "reports").glob("[!.]*.json"))


def _writer_of_held_workers(fifo, process):
    """The other end, which can be opened when a worker is held; None if the process ends or takes too long."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
            time.sleep(0.01)
    return None


@pytest.mark.parametrize("kind", ["files", "tar"])
def test_a_killed_pipeline_goes_on_where_it_was(tmp_path, kind):
    """Killed with all its processes when parts are done, and those that work on others are held."""
    pictures = {f"{number:03d}.png": jobs.picture(number, 90, 120) for number in range(24)}
    (tmp_path / "in").mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    flags = ["--method=dark_channel_prior", f"--input={tmp_path / 'in' / '*.png'}", f"--output={tmp_path / 'out'}",
             f"--output_format={kind}", "--pictures_per_shard=1", *RUNNERS["processes"]]
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold" / "sitecustomize.py").write_text(HOLD)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'hold'}:{ROOT}", "HELD_AT": str(tmp_path / "fifo"),
                   "HELD_OUTPUT": str(tmp_path / "out")}
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(_command(*flags), cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
                                   env=environment)
        try:
            writer = _writer_of_held_workers(tmp_path / "fifo", process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert writer is not None, (tmp_path / "log").read_text()
    os.close(writer)
    done_before = len(_reports(tmp_path / "out"))
    assert 3 <= done_before < 24
    done = _run(*flags)
    assert done.returncode == 0, done.stderr
    assert f"24 units of work, {done_before} done before" in done.stdout
    expected = {name: BASELINES["dark_channel_prior"](pixels) for name, pixels in pictures.items()}
    jobs.assert_results(tmp_path / "out", expected)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pictures"] == 24


def test_flags_that_nobody_knows_are_refused_before_any_work(tmp_path):
    jobs.save(tmp_path / "in", 1)
    flags = ["--method=dark_channel_prior", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    for more, message in ((["--direct_num_werkers=2"], "flags must be of cut_tf or of Apache Beam, found "
                                                       "--direct_num_werkers"),
                          (["left"], "flags must be of cut_tf or of Apache Beam, found left"),
                          (["--compare"], "--compare must not be given with --runner, found True")):
        done = _run(*flags, "--runner=DirectRunner", *more)
        assert done.returncode == 2 and f"error: {message}" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_beams_options():
    options = pipelines.pipeline_options("DirectRunner", ["--direct_num_workers=3"]).get_all_options()
    assert options["direct_num_workers"] == 3 and options["runner"] == "DirectRunner"
    with pytest.raises(InputError, match="--flag_that_is_none"):
        pipelines.pipeline_options("DirectRunner", ["--flag_that_is_none=3"])


def test_the_handler_counts_bytes_and_takes_one_part_at_a_time(tmp_path):
    jobs.save(tmp_path / "in", 3)
    handler = pipelines.TranslationHandler(jobs.PRIOR, pipelines.Target(str(tmp_path / "out"), "files"), 2**20, 1)
    assert handler.batch_elements_kwargs()["max_batch_size"] == 1
    (unit, _), done = jobs.settled(tmp_path / "in", tmp_path / "out").pending()
    (part,) = unit.parts(done)
    assert handler.get_num_bytes([part]) == 0
    (report,) = handler.run_inference([part], handler.load_model())
    assert report.pictures == 2
    expected = BASELINES["dark_channel_prior"](jobs.picture(0))
    np.testing.assert_array_equal(dict(jobs.results(tmp_path / "out"))["000.png"], expected)
