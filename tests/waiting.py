"""Waits that have an end: for a condition, and for threads."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

# The machine may be busy with other things.
LONGEST_SEC = 300
_PAUSE_SEC = 0.01
Given = TypeVar("Given")
Found = TypeVar("Found")


def wait_until(condition: Callable[[], object], what: str, process: subprocess.Popen | None = None,
               timeout_sec: float = LONGEST_SEC) -> None:
    """Waits for a condition. Fails, naming it, after that time, or if the process that is to bring it about ends."""
    end = time.monotonic() + timeout_sec
    while True:
        ended = process is not None and process.poll() is not None
        if condition():
            return
        assert not ended, f"{what}: the process ended before, with exit code {process.returncode}"
        assert time.monotonic() < end, f"{what}: not after {timeout_sec} s"
        time.sleep(_PAUSE_SEC)


def at_once(call: Callable[[Given], Found], given: Iterable[Given]) -> list[Found]:
    """Calls with each value in a thread of its own, all at once. As soon as one raises an error, so does this."""
    given = list(given)
    start, found, errors = threading.Barrier(len(given), timeout=LONGEST_SEC), {}, []

    def answer(place: int) -> None:
        try:
            start.wait()
            found[place] = call(given[place])
        except BaseException as error:  # told where the threads were started
            errors.append(error)

    for place in range(len(given)):
        threading.Thread(target=answer, args=(place,), daemon=True).start()
    wait_until(lambda: errors or len(found) == len(given), "all threads have ended")
    if errors:
        raise errors[0]
    return [found[place] for place in range(len(given))]
