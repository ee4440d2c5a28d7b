"""Retries, deadlines and the meaning of errors, without a server."""

from __future__ import annotations

import pytest

from cut_tf.client import calls
from cut_tf.client.calls import Endpoint, NoServiceError, UnavailableError
from cut_tf.common.errors import InputError


class _Clock:
    """A time that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.waits = 100.0, []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def _called(endpoint: Endpoint, failures: int, clock: _Clock) -> tuple[str, list[float]]:
    """Calls an attempt that is unavailable `failures` times; its answer, and the seconds left each time."""
    left = []

    def attempt(seconds: float) -> str:
        left.append(seconds)
        if len(left) <= failures:
            raise UnavailableError("UNAVAILABLE: nobody there")
        return "answer"

    return calls.call_with_retries(attempt, endpoint, "a.png", clock.sleep, lambda: clock.now), left


def test_waits_double_up_to_a_limit_and_are_random():
    clock = _Clock()
    answer, left = _called(Endpoint("h:1", "m", deadline_sec=1000, retries=9), 9, clock)
    assert answer == "answer" and len(left) == 10
    for number, wait in enumerate(clock.waits):
        longest = min(0.25 * 2**number, 10.0)
        assert longest / 2 <= wait <= longest
    others = _Clock()
    _called(Endpoint("h:1", "m", deadline_sec=1000, retries=9), 9, others)
    assert others.waits != clock.waits


def test_every_attempt_has_what_is_left_of_the_deadline():
    clock = _Clock()
    _, left = _called(Endpoint("h:1", "m", deadline_sec=30, retries=3), 3, clock)
    assert left == pytest.approx([30 - sum(clock.waits[:number]) for number in range(4)])


@pytest.mark.parametrize("retries, attempts", [(0, 1), (2, 3)])
def test_retries_are_counted(retries, attempts):
    clock = _Clock()
    with pytest.raises(NoServiceError, match=f"a.png: --server=h:1 must be reachable .* found after {attempts} attempts"
                                             ": UNAVAILABLE: nobody there; .*--retries"):
        _called(Endpoint("h:1", "m", retries=retries), 100, clock)
    assert len(clock.waits) == retries


def test_no_wait_goes_beyond_the_deadline():
    clock = _Clock()
    with pytest.raises(NoServiceError, match="must be reachable"):
        _called(Endpoint("h:1", "m", deadline_sec=2.0, retries=1000), 1000, clock)
    assert clock.waits and sum(clock.waits) < 2.0


@pytest.mark.parametrize("status, kind, advice", [
    ("UNAVAILABLE", UnavailableError, ""),
    ("DEADLINE_EXCEEDED", InputError, "--deadline_sec"),
    ("INVALID_ARGUMENT", InputError, "the file must be what the server asks for"),
    ("RESOURCE_EXHAUSTED", InputError, "--max_message_mb"),
    ("NOT_FOUND", NoServiceError, "--model and --model_version"),
    ("UNAUTHENTICATED", NoServiceError, "admit"),
    ("INTERNAL", InputError, "log"),
])
def test_what_a_status_means(status, kind, advice):
    error = calls.failure(status, "server's\n words", "a.png (7 bytes)", Endpoint("h:1", "m", 4))
    assert type(error) is kind and advice in str(error) and f"{status}: server's words" in str(error)
    if kind is not UnavailableError:
        assert str(error).startswith("a.png (7 bytes): model m version 4 on h:1 must answer, found ")


@pytest.mark.parametrize("server", ["localhost:8500", "10.0.0.1:1", "[::1]:8500", "a-b.example:65535"])
def test_servers(server):
    Endpoint(server, "m").check()


@pytest.mark.parametrize("server", ["", "localhost", "localhost:", ":8500", "localhost:0", "localhost:65536",
                                    "http://localhost:8501", "user@localhost:1", "a b:1", "::1:8500"])
def test_what_is_no_server(server):
    with pytest.raises(InputError, match="--server must be HOST:PORT, such as localhost:8500, found "):
        Endpoint(server, "m").check()


@pytest.mark.parametrize("model", ["", "a/b", "a:predict", "a b"])
def test_what_is_no_model(model):
    with pytest.raises(InputError, match="--model must be a model's name"):
        Endpoint("localhost:8500", model).check()


@pytest.mark.parametrize("signatures", [
    {}, {"serving_default": ({"text"}, {"output_bytes"})}, {"serving_default": ({"image_bytes"}, {"label"})},
    {"serving_default": ({"image_bytes", "strength"}, {"output_bytes"})},
    {"other": ({"image_bytes"}, {"output_bytes"})},
])
def test_signatures_of_other_models_are_refused(signatures):
    with pytest.raises(NoServiceError, match="--model must name a model that python -m cut_tf.export wrote"):
        calls.check_signature(signatures, Endpoint("h:1", "m"))


def test_the_signature_of_an_export_is_taken():
    calls.check_signature({"image": ({"image"}, {"image"}), "serving_default": ({"image_bytes"}, {"output_bytes"})},
                          Endpoint("h:1", "m"))
