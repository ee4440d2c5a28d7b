"""Repeated test runs: a test that fails now and then is found, and a stopped series goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cut_tf.common.errors import InputError
from tools import repeat_tests

ROOT = Path(__file__).parents[2]
# Passes in the first and in the third run.
SOMETIMES = """
from pathlib import Path

def test_sometimes():
    runs = Path(__file__).with_name("runs")
    runs.write_text(runs.read_text() + "|" if runs.exists() else "|")
    assert len(runs.read_text()) != 2

def test_always():
    pass
"""


@pytest.fixture(name="arguments")
def _arguments(tmp_path):
    (tmp_path / "sometimes_test.py").write_text(SOMETIMES)
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = *_test.py\n")
    return ["-q", "-p", "no:xdist", "-c", str(tmp_path / "pytest.ini"), str(tmp_path / "sometimes_test.py")]


def test_a_test_that_fails_sometimes_is_named_and_a_series_goes_on(arguments, tmp_path, capfd):
    out = tmp_path / "out"
    assert [result["exit_code"] for result in repeat_tests.repeat(out, 1, 0, arguments)] == [0]
    results = repeat_tests.repeat(out, 3, 0, arguments)
    assert [result["exit_code"] for result in results] == [0, 1, 0]
    assert [result["summary"] for result in results] == ["2 passed", "1 failed, 1 passed", "2 passed"]
    assert [len(result["failed"]) for result in results] == [0, 1, 0]
    assert results[1]["failed"][0].endswith("sometimes_test.py::test_sometimes")
    assert [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()] == results
    assert (tmp_path / "runs").read_text() == "|||"
    assert "test_sometimes" in (out / "run_02.log").read_text()
    assert "run 3 of 3: 2 passed" in capfd.readouterr().out


def test_busy_programs_end_with_the_context():
    with repeat_tests._busy(2) as programs:
        assert [program.poll() for program in programs] == [None, None]
    assert [program.poll() for program in programs] == [-signal.SIGKILL] * 2


def test_busy_programs_end_when_the_program_that_began_them_was_killed():
    program = ("import time; from tools import repeat_tests\n"
               "with repeat_tests._busy(1) as [one]: print(one.pid, flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as begun:
        status = Path("/proc", begun.stdout.readline().strip(), "status")
        assert _runs(status)
        begun.kill()
    deadline = time.monotonic() + 120
    while _runs(status):
        assert time.monotonic() < deadline, "it still computes"
        time.sleep(0.1)


def _runs(status):
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def test_names_of_failed_tests_keep_their_parameters():
    found = repeat_tests._FAILED.findall("FAILED a_test.py::test_x[a b c] - assert [1] == []\nERROR b_test.py - Err\n"
                                         "FAILED a_test.py::test_y\nFAILED a_test.py::test_z - no\n")
    assert found == ["a_test.py::test_x[a b c]", "b_test.py", "a_test.py::test_y", "a_test.py::test_z"]


def test_results_of_other_arguments_are_refused(arguments, tmp_path):
    out = tmp_path / "out"
    repeat_tests.repeat(out, 1, 0, arguments)
    with pytest.raises(InputError, match="--output must be a new folder for other arguments"):
        repeat_tests.repeat(out, 1, 0, [*arguments, "-x"])
    for line in ("{}", "[]", json.dumps({"arguments": arguments, "busy": 0})):
        (out / "results.jsonl").write_text(f"{line}\n")
        with pytest.raises(InputError, match="results.jsonl: not the results of this program"):
            repeat_tests.repeat(out, 1, 0, arguments)
