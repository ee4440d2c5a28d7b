"""Signals before the first step: of a process that is alone, and of one of a cluster whose processes are joined."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cut_tf.training import early_signals
from tests.training.processes import QUICK_FLAGS, Held, cluster_environments

ROOT = Path(__file__).parents[2]
# Another handler in place of Python's, as TensorFlow sets one in a cluster, and a main thread that never comes back.
_BLOCKED = """
import ctypes, os, signal, threading
from cut_tf.training import early_signals
with early_signals.watched():
    libc, other = ctypes.CDLL(None), ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: None)
    own = early_signals._action(signal.{name}).raw[:8]
    libc.signal(signal.{name}, other)
    while early_signals._action(signal.{name}).raw[:8] != own:
        pass
    os.kill(os.getpid(), signal.{name})
    libc.pause() if {in_c} else threading.Event().wait()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("in_c", [True, False])
def test_a_process_ends_wherever_its_main_thread_is(name, in_c):
    done = subprocess.run([sys.executable, "-c", _BLOCKED.format(name=name, in_c=in_c)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name}: stopped before the first step; the same command begins or continues the run\n"


_HELD = """
import os, signal, sys, time
from cut_tf.training import early_signals
signal.signal(signal.SIGTERM, lambda number, _: print("handler", number))
with early_signals.watched():
    early_signals.hold()
    os.kill(os.getpid(), signal.SIGTERM)
    while not early_signals._watches[0].kept:
        time.sleep(0.01)
    print("kept", early_signals.release().kept)
    os.kill(os.getpid(), signal.SIGTERM)
    print("kept", early_signals.release().kept)
"""


def test_of_a_joined_cluster_a_signal_is_kept_and_later_ones_reach_the_handlers():
    done = subprocess.run([sys.executable, "-u", "-c", _HELD], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["SIGTERM: stopping with all processes, after the first steps", "kept [15]",
                                        "handler 15", "kept []"]


_OTHERS_HANDLER = """
import ctypes, os, signal, time
from cut_tf.training import early_signals
early_signals._POLL_SEC = 1e6  # the thread puts nothing back
with early_signals.watched():
    libc, other = ctypes.CDLL(None), ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: None)
    libc.signal(signal.SIGTERM, other)
    early_signals.hold()
    os.kill(os.getpid(), signal.SIGTERM)
    while not early_signals._watches[0].kept:
        time.sleep(0.01)
    os._exit(0)
"""


def test_a_signal_is_kept_from_the_moment_that_the_cluster_is_joined():
    done = subprocess.run([sys.executable, "-u", "-c", _OTHERS_HANDLER], cwd=ROOT, text=True, capture_output=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["SIGTERM: stopping with all processes, after the first steps"]


def test_handlers_are_those_of_before_afterwards():
    early_signals.hold()
    assert early_signals.release() == ([], {})
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with early_signals.watched():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    with early_signals.watched():
        mine = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert early_signals.release().handlers == dict(zip(numbers, before)) and mine not in before
        assert signal.signal(signal.SIGTERM, before[0]) == signal.SIG_IGN


@pytest.mark.slow
def test_a_run_that_was_stopped_before_its_first_step_begins_again(tmp_path, start_training):
    held = Held.behind(0, tmp_path)
    process = start_training(tmp_path / "run", *QUICK_FLAGS, held=held)
    process.wait_for(held.line)
    process.send_signal(signal.SIGTERM)
    code, output = process.end()
    assert code == 0 and "SIGTERM: stopped before the first step" in output, output
    code, output = start_training(tmp_path / "run", *QUICK_FLAGS).end()
    assert code == 0 and "step 15 of 15" in output, output


@pytest.mark.slow
def test_a_process_that_waits_for_others_is_stopped(tmp_path, start_training):
    process = start_training(tmp_path / "run", *QUICK_FLAGS, environment=cluster_environments()[0])
    process.wait_for("waiting for worker 1 at 127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    code, output = process.end()
    assert code == 0 and "SIGTERM: stopped before the first step" in output, output


@pytest.mark.slow
def test_all_processes_of_a_joined_cluster_stop_together_and_go_on(tmp_path, start_training):
    run, held = tmp_path / "run", Held.behind(0, tmp_path)
    processes = [start_training(run, *QUICK_FLAGS, environment=environment, held=(None, held)[place])
                 for place, environment in enumerate(cluster_environments())]
    processes[1].wait_for(held.line)
    processes[1].send_signal(signal.SIGTERM)
    processes[1].wait_for("SIGTERM: stopping with all processes, after the first steps")
    held.let_go()
    for code, output in [process.end() for process in processes]:
        assert code == 0 and "stopped at step 2 of 15; the same command continues" in output, output
    again = [start_training(run, *QUICK_FLAGS, environment=environment) for environment in cluster_environments()]
    for code, output in [process.end() for process in again]:
        assert code == 0 and "step 15 of 15" in output, output
