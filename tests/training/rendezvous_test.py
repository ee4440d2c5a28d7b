"""A process of a cluster waits for the others in Python, is seen by them meanwhile, and leaves its port free."""

import contextlib
import logging.handlers
import queue
import socket
import threading

import pytest

from cut_tf.common.errors import InputError
from cut_tf.training import rendezvous
from cut_tf.training.cluster import Cluster
from tests.training.processes import TIMEOUT_SEC, free_addresses
from tests.waiting import at_once

NAMES = ("worker 0", "worker 1", "worker 2")


@contextlib.contextmanager
def _opened(address):
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        yield


def test_it_waits_for_the_last_one_and_is_seen_by_the_others():
    addresses = free_addresses(3)
    told, port = queue.Queue(), int(addresses[1].rpartition(":")[2])
    listener, logger = logging.handlers.QueueHandler(told), logging.getLogger(rendezvous.__name__)
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    waiting = threading.Thread(target=rendezvous.wait_for_all, args=[Cluster(tuple(addresses), 1, NAMES)],
                               daemon=True)
    try:
        with _opened(addresses[0]):
            waiting.start()
            assert told.get(timeout=TIMEOUT_SEC).getMessage() == f"waiting for worker 2 at {addresses[2]}"
            assert waiting.is_alive()
            for name in ("127.0.0.1", "localhost"):
                assert rendezvous.answers_at(f"{name}:{port}")
            if socket.has_dualstack_ipv6():
                assert rendezvous.answers_at(f"[::1]:{port}")
        # Worker 0 was seen, and need not be there any more.
        with _opened(addresses[2]):
            waiting.join(TIMEOUT_SEC)
            assert not waiting.is_alive()
    finally:
        logger.removeHandler(listener)
        logger.setLevel(logging.NOTSET)
        with _opened(addresses[0]), _opened(addresses[2]):  # so that it ends, whatever has failed
            waiting.join(TIMEOUT_SEC)
    assert not rendezvous.answers_at(addresses[1])
    with _opened(addresses[1]):
        assert rendezvous.answers_at(addresses[1])


def test_all_meet_whoever_leaves_first():
    addresses = free_addresses(3)
    servers, met = contextlib.ExitStack(), []

    def start(place):
        rendezvous.wait_for_all(Cluster(tuple(addresses), place, NAMES))
        met.append(place)
        servers.enter_context(_opened(addresses[place]))  # as TensorFlow's server

    with servers:
        try:
            at_once(start, range(3))
            assert sorted(met) == [0, 1, 2]
        finally:
            for address in addresses:  # so that those that still wait end, whatever has failed
                with contextlib.suppress(OSError):
                    servers.enter_context(_opened(address))


def test_unknown_names_do_not_answer(monkeypatch):
    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not rendezvous.answers_at("no-such-host.invalid:80") and asked == ["no-such-host.invalid"]


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"TF_CONFIG must give this process a free port, found {port}: "
                                             "Address already in use"):
            rendezvous.wait_for_all(Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0, NAMES[:2]))
