"""SIGTERM and SIGINT between the start of the program and the first step, when there is nothing to save yet.

A process that is alone says so and ends with exit code 0. When all processes of a cluster are joined, none may leave
alone: the signal is kept, and all stop after the first steps.

A thread acts, since the main thread may be in a long call. In a cluster TensorFlow puts a handler of its own in the
place of Python's, which only takes note; the thread puts Python's back. While TensorFlow joins the processes no Python
thread runs; that is short, since `rendezvous` has waited for them before. Imports no TensorFlow, since importing it is
a part of the time meant.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SEC = 0.1
# More than any system's struct sigaction.
_ACTION_BYTES = 512


class Released(NamedTuple):
    """Numbers of the signals that were kept, and the handlers that were set before, by signal."""

    kept: list[int]
    handlers: dict[int, object]


class _Watch:
    """Handlers that wake a thread."""

    def __init__(self) -> None:
        self.holds = False
        self.kept: list[int] = []
        self._ended = threading.Event()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._descriptor = signal.set_wakeup_fd(self._write)
        self.handlers = {number: signal.signal(number, _noted) for number in _SIGNALS}
        self._actions = {number: _action(number) for number in _SIGNALS}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.is_set():
            if select.select([self._read], [], [], _POLL_SEC)[0]:
                for number in os.read(self._read, 64):
                    self._act(number)
            self.put_back()

    def put_back(self) -> None:
        """Python's handlers in the place of any others."""
        for number, action in self._actions.items():
            _LIBC.sigaction(number, action, None)

    def _act(self, number: int) -> None:
        if number not in _SIGNALS:
            return
        name = signal.Signals(number).name
        if not self.holds:
            print(f"{name}: stopped before the first step; the same command begins or continues the run", flush=True)
            sys.stderr.flush()
            os._exit(0)  # the main thread may be inside of TensorFlow; all files are whole at any moment
        print(f"{name}: stopping with all processes, after the first steps", flush=True)
        self.kept.append(number)

    def end(self) -> Released:
        """Ends the thread, and sets the handlers of before where no others were set since."""
        self._ended.set()
        self._thread.join()
        signal.set_wakeup_fd(self._descriptor)
        for number, handler in self.handlers.items():
            if signal.getsignal(number) is _noted:
                signal.signal(number, handler)
        if select.select([self._read], [], [], 0)[0]:  # what came while the thread ended
            for number in os.read(self._read, 64):
                self._act(number)
        os.close(self._read)
        os.close(self._write)
        return Released(self.kept, self.handlers)


def _noted(number: int, frame: object) -> None:
    """Python has written the signal's number for the thread."""


_LIBC = ctypes.CDLL(None) if os.name == "posix" else None


def _action(number: int) -> ctypes.Array:
    """What the system does at a signal: an opaque struct sigaction."""
    action = ctypes.create_string_buffer(_ACTION_BYTES)
    _LIBC.sigaction(number, None, action)
    return action


# The one of this process, if any.
_watches: list[_Watch] = []


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """A context whose beginning, up to `release`, is the time before the first step. For the main thread alone."""
    if threading.current_thread() is threading.main_thread() and _LIBC and not _watches:
        _watches.append(_Watch())
    try:
        yield
    finally:
        release()


def hold() -> None:
    """From here on, signals are kept for `release`: the processes of the cluster are joined."""
    for watch in _watches:
        watch.holds = True
        watch.put_back()  # at once: who is told that they are joined may send a signal before the thread looks again


def release() -> Released:
    """Ends the time before the first step. Call it when the handlers of training are set, so that no signal is lost."""
    return _watches.pop().end() if _watches else Released([], {})
