"""The REST client on answers that no TF Serving gives: other servers, proxies, lines that break."""

from __future__ import annotations

import json
import threading
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cut_tf.client import rest_client
from cut_tf.client.calls import Endpoint
from cut_tf.client.rest_client import RestClient
from cut_tf.common.errors import InputError
from tests.waiting import LONGEST_SEC

pytest.importorskip("requests", reason="requests is not installed: pip install 'cut_tf[serving]'")


@pytest.fixture
def answering() -> Iterator[Callable[..., RestClient]]:
    """answering(reply, **options): a client of a server that hands each request to `reply(handler)`."""
    servers = []

    def make(reply: Callable[[BaseHTTPRequestHandler], None], **options: object) -> RestClient:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                reply(self)

            def do_GET(self) -> None:
                reply(self)

            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return RestClient(Endpoint(f"127.0.0.1:{server.server_address[1]}", "m", **options))

    yield make
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def _reply(code: int, body: bytes, num_declared: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body) if num_declared is None else num_declared))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


@pytest.mark.parametrize("answer", [
    b"<html>hello</html>", b"[]", b"{}", b'{"predictions": []}', b'{"predictions": ["text"]}',
    b'{"predictions": [{"b64": "not base64!"}]}', b'{"predictions": [{"b64": "AA=="}, {"b64": "AA=="}]}', b"7",
])
def test_answers_of_other_servers(answering, answer):
    with pytest.raises(InputError, match=r"a.png \(1 bytes\): model m on .* must answer as TF Serving does, found "):
        answering(_reply(200, answer)).translate(b"x", "a.png")
    with pytest.raises(InputError, match="asking for model m on .* must answer as TF Serving does, found "):
        answering(_reply(200, answer)).check()


@pytest.mark.parametrize("code, body, message", [
    (413, b"<html>too large</html>", "RESOURCE_EXHAUSTED: <html>too large</html>; give a larger --max_message_mb, or "
                                     "smaller pictures; a proxy may have a limit"),
    (401, b"", "UNAUTHENTICATED: ; the server must admit this client"),
    (302, b"", "HTTP 302: ; the server's log may tell more"),
    (418, b'{"error": "teapot"}', "HTTP 418: teapot; "),
    (500, b'["no", "object"]', "INTERNAL: "),
])
def test_codes_of_proxies(answering, code, body, message):
    with pytest.raises(InputError, match=message):
        answering(_reply(code, body)).translate(b"x", "a.png")


def test_an_answer_that_breaks_off_is_asked_for_again(answering):
    whole = json.dumps({"predictions": [{"b64": "aGVsbG8="}]}).encode()
    count = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        count.append(1)
        _reply(200, whole[:10] if len(count) == 1 else whole, len(whole))(handler)

    assert answering(reply).translate(b"x", "a.png") == b"hello" and len(count) == 2


def test_a_slow_answer_does_not_outlive_the_deadline(answering, monkeypatch):
    """By a clock that is past the deadline at the second piece; the rest of the answer never comes."""
    clock, given_up = iter([0.0, 1.0, 1000.0]), threading.Event()
    monkeypatch.setattr(rest_client, "time", types.SimpleNamespace(monotonic=lambda: next(clock, 1000.0)))

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "12000000")
        handler.end_headers()
        handler.wfile.write(b" " * 40_000)
        given_up.wait(LONGEST_SEC)

    with pytest.raises(InputError, match="DEADLINE_EXCEEDED: [1-3][0-9]{4} bytes of the answer had come; give"):
        answering(reply, deadline_sec=900.0, retries=0).translate(b"x", "a.png")
    given_up.set()
