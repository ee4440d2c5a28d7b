"""Common parts of calls by gRPC and REST: the endpoint, retries, the meaning of errors."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from cut_tf.common.errors import InputError

SIGNATURE = "serving_default"
# Has a second input, see `common.strength`. Models of earlier versions of cut_tf lack it.
WITH_STRENGTH = "with_strength"
STRENGTH = "strength"
INPUT = "image_bytes"
OUTPUT = "output_bytes"
BYTES_PER_MB = 1_000_000
UNAVAILABLE = "UNAVAILABLE"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
_FIRST_WAIT_SEC = 0.25
_LONGEST_WAIT_SEC = 10.0
_ADVICE = {
    DEADLINE_EXCEEDED: "give a larger --deadline_sec, a smaller --parallel, or smaller pictures",
    "FAILED_PRECONDITION": "the model must be one that python -m cut_tf.export wrote",
    "INVALID_ARGUMENT": "the file must be what the server asks for",
    "NOT_FOUND": "--model and --model_version must name a model that the server has loaded",
    "PERMISSION_DENIED": "the server must admit this client",
    RESOURCE_EXHAUSTED: "give a larger --max_message_mb, or smaller pictures; a proxy may have a limit of its own",
    "UNAUTHENTICATED": "the server must admit this client",
}
# After these, no other picture would be answered either.
_HOPELESS = ("NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED")
_Answer = TypeVar("_Answer")


class NoServiceError(InputError):
    """The server cannot be reached, or has no such model. It concerns all pictures, not a single one."""


class UnavailableError(Exception):
    """The server cannot be reached or is too busy; the same request may be answered later."""


class Endpoint(NamedTuple):
    """A model on a server, and how it is called.

    Attributes:
      server: HOST:PORT.
      model: its name there.
      version: of the model; None for the one that the server chooses.
      deadline_sec: for one answer, all attempts and the waits between them included.
      retries: attempts after the first one.
      max_message_mb: of a request and of an answer, in 10^6 bytes.
      tls: encrypt, and check the server's certificate: by gRPC's own list of authorities or the file that
        GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names, with REST by that of requests or the file that REQUESTS_CA_BUNDLE names.
    """

    server: str
    model: str
    version: int | None = None
    deadline_sec: float = 120.0
    retries: int = 8
    max_message_mb: int = 64
    tls: bool = False

    def check(self) -> None:
        """Raises InputError unless server and model are well-formed."""
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", self.server)
        if not found or not 0 < int(found[2]) < 65536:
            raise InputError(f"--server must be HOST:PORT, such as localhost:8500, found {self.server!r}")
        if not re.fullmatch(r"[^\s/:]+", self.model):
            raise InputError(f"--model must be a model's name without spaces, slashes and colons, found {self.model!r}")

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"model {self.model}{version} on {self.server}"


def call_with_retries(attempt: Callable[[float], _Answer], endpoint: Endpoint, what: str,
                      sleep: Callable[[float], None] = time.sleep,
                      clock: Callable[[], float] = time.monotonic) -> _Answer:
    """Calls until there is an answer, with waits that double, and are random so that clients do not retry all at once.

    Args:
      attempt: called with the seconds that are left. Only UnavailableError makes another attempt.
      endpoint: gives deadline and number of retries.
      what: the request, for messages.
      sleep: waits for some seconds.
      clock: monotonic time in seconds.

    Returns:
      What `attempt` returned.

    Raises:
      NoServiceError: if the attempts or the time are used up.
    """
    end = clock() + endpoint.deadline_sec
    attempts, longest_wait_sec = 0, _FIRST_WAIT_SEC
    while True:
        attempts += 1
        try:
            return attempt(end - clock())
        except UnavailableError as error:
            wait_sec = longest_wait_sec * random.uniform(0.5, 1.0)
            if attempts > endpoint.retries or clock() + wait_sec >= end:
                raise NoServiceError(
                    f"{what}: --server={endpoint.server} must be reachable and not overloaded, found after {attempts} "
                    f"attempts: {error}; start the server, or give more --retries and a larger --deadline_sec"
                ) from error
        sleep(wait_sec)
        longest_wait_sec = min(2 * longest_wait_sec, _LONGEST_WAIT_SEC)


def failure(status: str, details: str, what: str, endpoint: Endpoint) -> Exception:
    """The error to raise for a status other than OK.

    Args:
      status: name of a gRPC status.
      details: the server's words.
      what: the request, for messages.
      endpoint: where it went.

    Returns:
      UnavailableError for UNAVAILABLE, NoServiceError for an error that concerns all pictures, else InputError.
    """
    details = " ".join(details.split())
    if status == UNAVAILABLE:
        return UnavailableError(f"{UNAVAILABLE}: {details}")
    kind = NoServiceError if status in _HOPELESS else InputError
    advice = _ADVICE.get(status, "the server's log may tell more")
    return kind(f"{what}: {endpoint} must answer, found {status}: {details}; {advice}")


def too_large(num_bytes: int, what: str, endpoint: Endpoint) -> InputError:
    """The error to raise for a message above the limit, before it is sent or while it arrives."""
    return InputError(f"{what}: messages must have at most --max_message_mb={endpoint.max_message_mb} MB, found "
                      f"{num_bytes / BYTES_PER_MB:.1f} MB or more; {_ADVICE[RESOURCE_EXHAUSTED]}")


def check_signature(signatures: Mapping[str, tuple[set[str], set[str]]], endpoint: Endpoint) -> bool:
    """Looks whether the model is one that can be called.

    Args:
      signatures: name to (names of inputs, names of outputs).
      endpoint: for messages.

    Returns:
      Whether the model also takes a strength.

    Raises:
      NoServiceError: unless the model's input and output are encoded pictures.
    """
    inputs, outputs = signatures.get(SIGNATURE, (set(), set()))
    if inputs != {INPUT} or OUTPUT not in outputs:
        raise NoServiceError(f"--model must name a model that python -m cut_tf.export wrote, with {INPUT} to {OUTPUT} "
                             f"as {SIGNATURE}; found {endpoint} with {sorted(inputs)} to {sorted(outputs)}, signatures "
                             f"{sorted(signatures)}")
    inputs, outputs = signatures.get(WITH_STRENGTH, (set(), set()))
    return inputs == {INPUT, STRENGTH} and OUTPUT in outputs
