"""If a process of a cluster dies, the others say which one, and end.

TensorFlow detects it. Its processes send heartbeats to the first one. If a connection breaks, or no heartbeat comes for
HEARTBEAT_SEC, the exchange of gradients ends with an OpError in all processes that are left. They end within a minute:
HEARTBEAT_SEC, the search for the lost process below, and some seconds in which TensorFlow shuts down.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from cut_tf.common.errors import LostProcessError
from cut_tf.training.cluster import Cluster
from cut_tf.training.rendezvous import answers_at

# TensorFlow's default on both stacks.
HEARTBEAT_SEC = 10
# A process that ends with an error breaks the exchange first, and closes its port some seconds later.
_PATIENCE_SEC = 15
_PAUSE_SEC = 0.5
_TASK = re.compile(r"/job:(chief|worker)/(?:replica:\d+/)?task:(\d+)")
# Words in TensorFlow's messages about a failed exchange between processes, whatever the reason.
_BROKEN_EXCHANGE = re.compile(r"Collective ops is aborted|coordination service|CoordinationService", re.IGNORECASE)
_UNREACHABLE = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError)
# Words in the message of a process whose heartbeats are not answered. All heartbeats go to the first process.
_NO_HEARTBEAT = "CoordinationService/Heartbeat"


@contextlib.contextmanager
def named(cluster: Cluster | None, steps: Callable[[], list[int]]) -> Iterator[None]:
    """A context in which LostProcessError is raised instead of TensorFlow's error if another process is gone.

    Args:
      cluster: the processes; None if there is only one, where nothing changes.
      steps: gives the steps of the run's checkpoints.
    """
    try:
        yield
    except tf.errors.OpError as error:
        broken = _BROKEN_EXCHANGE.search(error.message)
        if cluster is None or len(cluster.addresses) == 1 or not (broken or isinstance(error, _UNREACHABLE)):
            raise
        lost = lost_processes(cluster, error.message, _PATIENCE_SEC)
        if not lost and not broken:
            raise
        raise LostProcessError(message(cluster, lost, steps(), error.message)) from error


def lost_processes(cluster: Cluster, error: str, patience_sec: float) -> list[int]:
    """Places in the cluster of the processes that are gone.

    Args:
      cluster: the processes. This one is not checked.
      error: TensorFlow's message. It names a process that has stopped while its port is still open.
      patience_sec: how long to wait for the first port to close.

    Returns:
      In ascending order; empty if all have open ports and TensorFlow names none.
    """
    others = [place for place in range(len(cluster.addresses)) if place != cluster.index]
    until = time.monotonic() + patience_sec
    with ThreadPoolExecutor(len(others)) as threads:
        while True:
            answers = threads.map(lambda place: answers_at(cluster.addresses[place]), others)
            lost = [place for place, answer in zip(others, answers) if not answer]
            if lost or time.monotonic() > until:
                break
            time.sleep(_PAUSE_SEC)
    return lost or [place for place in others if cluster.names[place] in _tasks_in(error)
                    or place == 0 and _NO_HEARTBEAT in error]


def _tasks_in(error: str) -> set[str]:
    """Processes that TensorFlow's message is about, by their names in a Cluster."""
    return {job if job == "chief" else f"{job} {number}" for job, number in _TASK.findall(error)}


def message(cluster: Cluster, lost: list[int], steps: list[int], reason: str) -> str:
    """The message: which processes are gone, and what to do.

    Args:
      cluster: the processes.
      lost: places of those that are gone; empty if that is not known.
      steps: of the run's checkpoints.
      reason: TensorFlow's message, which is shown if no process is known to be gone.
    """
    names = " and ".join(f"{cluster.names[place]} at {cluster.addresses[place]}" for place in lost)
    if lost:
        fault = (f"{names} {'is' if len(lost) == 1 else 'are'} gone: killed, stopped by an error of its own that its "
                 "output tells, or out of reach")
    else:
        fault = ("the exchange with the other processes broke, though all of them answer "
                 f"({reason.strip().splitlines()[-1].strip()})")
    goal = f"they go on from step {max(steps)}" if steps else "they begin at step 0, since there is no checkpoint yet"
    return f"{fault}. Start all processes again with the same commands: {goal}"
