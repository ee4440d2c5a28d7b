"""Ports of this machine for tests: some that stay free until a server opens them, and one where nobody listens."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
from collections.abc import Iterator

# Below those that systems give to whoever asks for any port. Each worker of pytest-xdist has its own.
_FIRST, _PER_WORKER, _WORKERS = 20_000, 1_000, 12
# Sessions that run at the same time begin at different ones.
_places = itertools.count(17 * os.getpid())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, other ones at each call."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % _WORKERS
    found = []
    for place in itertools.islice(_places, _PER_WORKER):
        port = _FIRST + worker * _PER_WORKER + place % _PER_WORKER
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"{count} ports must be free from {_FIRST} on, found {len(found)}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("", port)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that is taken and not listened on, so that connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
