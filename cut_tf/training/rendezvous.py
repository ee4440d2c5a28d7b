"""Waits until all processes of a cluster have started, before TensorFlow waits for them.

While TensorFlow waits, no Python thread runs: a signal cannot end the process, and nobody is told which process is
missing. So each process first opens its port, and looks for the ports of the others until it has seen them all. Then it
leaves the port to TensorFlow's server, which the others may see in its place.
"""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from cut_tf.common.errors import InputError
from cut_tf.training.cluster import Cluster

_LOG = logging.getLogger(__name__)
_PAUSE_SEC = 0.2
_PROBE_SEC = 5
# How often to say who is missing.
_NEWS_SEC = 30


def wait_for_all(cluster: Cluster) -> None:
    """Returns when every process of the cluster has been seen. Logs who is missing, at once and every 30 seconds.

    Raises:
      InputError: if another program listens on the port of this process, where TensorFlow's server will.
    """
    missing = [place for place in range(len(cluster.addresses)) if place != cluster.index]
    with _own_port(cluster), ThreadPoolExecutor(len(missing)) as threads:
        told = -float("inf")
        while True:
            answers = list(threads.map(lambda place: answers_at(cluster.addresses[place]), missing))
            missing = [place for place, answer in zip(missing, answers) if not answer]
            if not missing:
                return
            if time.monotonic() - told > _NEWS_SEC:
                told = time.monotonic()
                _LOG.info("waiting for %s", ", ".join(f"{cluster.names[place]} at {cluster.addresses[place]}"
                                                      for place in missing))
            time.sleep(_PAUSE_SEC)


def answers_at(address: str) -> bool:
    """Whether the port of a process, host:port, is open."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_SEC).close()
    except OSError:  # a name that is not known yet, too
        return False
    return True


def _own_port(cluster: Cluster) -> socket.socket:
    """The open port of this process. The system takes connections up to the backlog, so nobody needs to accept them."""
    port, backlog = int(cluster.addresses[cluster.index].rpartition(":")[2]), max(128, 2 * len(cluster.addresses))
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=backlog)
    except OSError as error:
        raise InputError(f"TF_CONFIG must give this process a free port, found {port}: {error.strerror}. Another "
                         "program uses it, such as a process of an earlier start") from error
