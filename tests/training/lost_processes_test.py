"""Which process of a cluster is gone, what the others say, and that a run goes on from there with the same bits.

The messages of TensorFlow are those that a killed and a stopped process caused on both stacks.
"""

from __future__ import annotations

import signal
import socket

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import LostProcessError
from cut_tf.training import lost_processes, rendezvous
from cut_tf.training.cluster import Cluster
from tests.ports import free_ports
from tests.training.processes import QUICK_FLAGS, Held, cluster_environments

# A process that is left has ended after this time, as docs/scale.md says.
PROMISED_SEC = 60
# That of the module, which the tests here set to 0.
PATIENCE_SEC = lost_processes._PATIENCE_SEC
RESET = ("Graph execution error:\n\nCollective ops is aborted by: recvmsg:Connection reset by peer\nAdditional GRPC "
         "error information from remote target /job:worker/replica:0/task:1 while calling /tensorflow."
         "WorkerService/RecvBuf:\n"
         "The error could be from a previous operation. Restart your program to reset.")
NO_HEARTBEATS = ("Collective ops is aborted by: Error reported from /job:worker/task:1: The following tasks are "
                 "unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1\nThe tasks have crashed.")
OLD_NO_HEARTBEATS = ("Collective ops is aborted by: Error reported from /job:worker/task:1: Task /job:worker/"
                     "replica:0/task:1 heartbeat timeout. This indicates that the remote task has failed")
NO_ANSWER = ("Graph execution error:\n\nCollective ops is aborted by: Deadline Exceeded\n"
             "RPC: /tensorflow.CoordinationService/Heartbeat")


@pytest.fixture
def servers():
    """Four open ports of this machine: (addresses, sockets)."""
    sockets = [socket.create_server(("127.0.0.1", port)) for port in free_ports(4)]
    yield [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets], sockets
    for one in sockets:
        one.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(lost_processes, "_PAUSE_SEC", 0)
    monkeypatch.setattr(lost_processes, "_PATIENCE_SEC", 0)


def _cluster(addresses, index, chief=False):
    workers = tuple(f"worker {number}" for number in range(len(addresses) - chief))
    return Cluster(tuple(addresses), index, ("chief", *workers) if chief else workers)


def _raise(error, message, cluster, steps=()):
    with lost_processes.named(cluster, lambda: list(steps)):
        raise error(None, None, message)


def test_the_waits_take_no_more_than_half_of_the_time_promised():
    """The heartbeats that do not come, the search, its last look; TensorFlow needs some seconds to shut down."""
    assert lost_processes.HEARTBEAT_SEC + PATIENCE_SEC + rendezvous._PROBE_SEC <= PROMISED_SEC / 2


def test_closed_ports_are_lost_processes(servers):
    addresses, sockets = servers
    assert lost_processes.lost_processes(_cluster(addresses, 0), RESET, 0) == [1]  # named by TensorFlow
    sockets[2].close()
    sockets[3].close()
    assert lost_processes.lost_processes(_cluster(addresses, 0), RESET, 0) == [2, 3]
    assert lost_processes.lost_processes(_cluster(addresses, 3), "", 0) == [2]  # its own port does not count
    assert lost_processes.lost_processes(_cluster(addresses[:2], 0), "nothing known", 0) == []


def test_a_process_that_takes_its_time_to_end_is_waited_for(servers, monkeypatch):
    addresses, sockets = servers
    answers, asked = lost_processes.answers_at, []

    def close_at_the_third_question(address):
        asked.append(address)
        if len(asked) == 3:
            sockets[1].close()
        return answers(address)

    monkeypatch.setattr(lost_processes, "answers_at", close_at_the_third_question)
    assert lost_processes.lost_processes(_cluster(addresses[:2], 0), "nothing known", 200) == [1]
    assert len(asked) == 3


@pytest.mark.parametrize("error, message, index, expected", [
    (tf.errors.UnavailableError, NO_HEARTBEATS, 0, "worker 1"),
    (tf.errors.UnavailableError, OLD_NO_HEARTBEATS, 2, "worker 1"),
    (tf.errors.DeadlineExceededError, NO_ANSWER, 1, "worker 0"),
])
def test_a_process_that_stands_still_is_named_by_tensorflow(error, message, index, expected, servers):
    cluster = _cluster(servers[0][:3], index)
    with pytest.raises(LostProcessError) as raised:
        _raise(error, message, cluster, [3, 6])
    address = cluster.addresses[cluster.names.index(expected)]
    assert str(raised.value) == (
        f"{expected} at {address} is gone: killed, stopped by an error of its own that its output tells, or out of "
        "reach. Start all processes again with the same commands: they go on from step 6")


def test_the_message_names_all_that_are_gone_and_the_step(servers):
    addresses, sockets = servers
    sockets[0].close()
    sockets[2].close()
    with pytest.raises(LostProcessError) as raised:
        _raise(tf.errors.UnavailableError, "Socket closed", _cluster(addresses, 1, chief=True))
    assert str(raised.value).startswith(f"chief at {addresses[0]} and worker 1 at {addresses[2]} are gone: ")
    assert str(raised.value).endswith("they begin at step 0, since there is no checkpoint yet")


def test_a_broken_exchange_with_processes_that_answer_is_told_as_such(servers):
    with pytest.raises(LostProcessError, match=r"broke, though all of them answer \(It did\.\)\. Start all processes"):
        _raise(tf.errors.InternalError, "Collective ops is aborted by: x\nIt did.", _cluster(servers[0], 0))


@pytest.mark.parametrize("error, message, processes", [
    (tf.errors.ResourceExhaustedError, "OOM", 2),  # an error of its own
    (tf.errors.UnavailableError, "Socket closed", 2),  # of a file system, say
    (tf.errors.UnavailableError, RESET, 1),
])
def test_other_errors_stay_what_they_are(error, message, processes, servers):
    with pytest.raises(error):
        _raise(error, message, _cluster(servers[0][:processes], 0))
    with pytest.raises(error):
        _raise(error, message, None)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_both_continue_with_the_same_bits(
        killed, tmp_path, start_training, checkpoint_values):
    def finish(run):
        processes = [start_training(run, environment=environment) for environment in cluster_environments()]
        for process in processes:
            code, output = process.end()
            assert code == 0 and "step 15 of 15" in output, output
        return output

    finish(tmp_path / "whole")
    run, held = tmp_path / "run", Held.behind(7, tmp_path)
    processes = [start_training(run, environment=environment, held=held if place == killed else None)
                 for place, environment in enumerate(cluster_environments())]
    processes[killed].wait_for(held.line)
    processes[killed].send_signal(signal.SIGKILL)
    code, output = processes[1 - killed].end()
    assert code == 4, output
    assert f"error: worker {killed} at 127.0.0.1:" in output and "they go on from step 6" in output
    assert "Traceback" not in output
    assert processes[killed].end()[0] == -signal.SIGKILL

    assert "from step 6 of 15" in finish(run)
    expected, found = (checkpoint_values(each, 15) for each in (tmp_path / "whole", run))
    assert expected.keys() == found.keys() and len(expected) > 100
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_to_one_process_saves_and_ends_all_and_the_same_commands_continue(asked, tmp_path, start_training):
    """As when a machine is taken away, the chief's or a worker's."""
    run, held = tmp_path / "run", Held.behind(7, tmp_path)
    processes = [start_training(run, *QUICK_FLAGS, environment=environment, held=held if place == asked else None)
                 for place, environment in enumerate(cluster_environments(("chief", "worker")))]
    processes[asked].wait_for(held.line)
    processes[asked].send_signal(signal.SIGTERM)
    processes[asked].wait_for("SIGTERM: stopping with all processes, in two steps")
    held.let_go()
    for process in processes:
        code, output = process.end()
        assert code == 0 and "stopped at step 9 of 15; the same command continues" in output, output
        assert "Traceback" not in output
    for process in [start_training(run, *QUICK_FLAGS, environment=environment)
                    for environment in cluster_environments(("chief", "worker"))]:
        code, output = process.end()
        assert code == 0 and "from step 9 of 15" in output and "step 15 of 15" in output, output
