"""Both clients against stand-ins of TF Serving's interfaces that serve the exported model."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.client.calls import Endpoint, NoServiceError
from cut_tf.client.grpc_client import GrpcClient
from cut_tf.client.rest_client import RestClient
from cut_tf.common.errors import InputError

pytest.importorskip("tensorflow_serving.apis",
                    reason="tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'")
import stand_in_servers
from stand_in_servers import StatusError

from tests.ports import closed_port, free_ports
from tests.waiting import wait_until

CLIENTS = {"grpc": GrpcClient, "rest": RestClient}
SERVERS = {"grpc": stand_in_servers.grpc_server, "rest": stand_in_servers.rest_server}
pytestmark = pytest.mark.parametrize("protocol", CLIENTS)


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def _encoded(picture: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def _decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])).astype(int)


@pytest.fixture
def client(servers, protocol):
    """client(model, **options): a client of the shared servers."""
    made = []

    def make(model: str = "tiny", **options: object) -> object:
        made.append(CLIENTS[protocol](Endpoint(servers.addresses[protocol], model, **options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "GIF"])
def test_pixels_are_the_translators(client, exported, kind):
    translator = exported.translators[0]
    for height, width in ((16, 16), (33, 47), (64, 64)):
        data = _encoded(_picture(height, width), kind)
        # Decoded as the server decodes it: JPEG decoders differ by a few levels.
        source = tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
        found = _decoded(client().translate(data, "a"))
        assert np.abs(found - translator(source)).max() <= 1 and found.std() > 5


def test_a_strength_is_the_servers_work_where_it_can(client, exported):
    picture = _picture(20, 33)
    data = _encoded(picture)
    output = exported.translators[0](picture).astype(int)
    assert client().check() is True
    np.testing.assert_array_equal(_decoded(client().translate(data, "a", 0.0)), picture)
    found = _decoded(client().translate(data, "a", 0.3))
    assert np.abs(found - (picture + 0.3 * (output - picture))).max() <= 1
    assert client().translate(data, "a", 1.0) == client().translate(data, "a")
    assert client("echo").check() is False


def test_the_model_is_checked_before_anything_is_sent(client, servers):
    client().check()
    client(version=1).check()
    for options, message in (
            ({"model": "nothing"}, r"model nothing on .* found NOT_FOUND: Servable not found for request: "
                                   r"Latest\(nothing\); --model and --model_version must"),
            ({"version": 2}, r"model tiny version 2 on .*Specific\(tiny, 2\)"),
            ({"model": "plain"}, "must name a model that python -m cut_tf.export wrote, .* found model plain on .* "
                                 r"with \['text'\]")):
        with pytest.raises(NoServiceError, match=message):
            client(**options).check()
    assert servers.models.num_predicts == 0


def test_a_damaged_picture_is_refused_and_the_server_goes_on(client):
    good = _encoded(_picture(20, 20))
    for bad, reason in ((good[:-20], "element 0: must be a whole picture"),
                        (b"text", "element 0: must be a JPEG, PNG, GIF or BMP"),
                        (_encoded(_picture(65, 65)), "must have at most 4096 pixels, found 65x65")):
        with pytest.raises(InputError, match=rf"bad.png \({len(bad)} bytes\): .* found INVALID_ARGUMENT: .*{reason}"):
            client().translate(bad, "bad.png")
        assert _decoded(client().translate(good, "good.png")).shape == (20, 20, 3)


def test_unavailable_is_tried_again(client, servers):
    def busy_twice(number: int) -> None:
        if number <= 2:
            raise StatusError("UNAVAILABLE", "The batch scheduling queue is full")

    servers.models.before_predict = busy_twice
    assert client().translate(_encoded(_picture(20, 20)), "a.png").startswith(b"\x89PNG")
    assert servers.models.num_predicts == 3


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "NOT_FOUND",
                                    "UNIMPLEMENTED"])
def test_other_errors_are_not_tried_again(client, servers, status):
    def refuse(_: int) -> None:
        raise StatusError(status, "as you like")

    servers.models.before_predict = refuse
    with pytest.raises(InputError, match=f"a.png .* found {status}: as you like; "):
        client().translate(b"x", "a.png")
    assert servers.models.num_predicts == 1


def test_a_server_that_starts_late_is_waited_for(protocol, servers):
    port, = free_ports(1)
    client = CLIENTS[protocol](Endpoint(f"127.0.0.1:{port}", "tiny", deadline_sec=600, retries=1000))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.translate(_encoded(_picture(20, 20)), "a.png")),
                              daemon=True)
    thread.start()
    time.sleep(0.6)
    assert not answers
    with SERVERS[protocol](servers.models, port):
        thread.join(600)
        client.close()
    assert len(answers) == 1 and answers[0].startswith(b"\x89PNG")


def test_a_server_that_is_not_there(protocol):
    with closed_port() as port:
        client = CLIENTS[protocol](Endpoint(f"127.0.0.1:{port}", "tiny", retries=1))
        with pytest.raises(NoServiceError, match="a.png .*must be reachable .* found after 2 attempts: .*refused"):
            client.translate(b"x", "a.png")


def test_the_deadline_holds(client, servers):
    """The server does not answer before the client has given up."""
    given_up, answered = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        given_up.wait(600)
        answered.set()

    servers.models.before_predict = wait
    with pytest.raises(InputError, match="a.png .* found DEADLINE_EXCEEDED: .*give a larger --deadline_sec"):
        client(deadline_sec=2.0).translate(_encoded(_picture(20, 20)), "a.png")
    assert not answered.is_set()
    given_up.set()


def test_messages_above_four_megabytes_pass(client):
    data = np.random.default_rng(0).bytes(9_000_000)
    assert client("echo").translate(data, "a.png") == data


def test_requests_above_the_limit_are_not_sent(client, servers):
    with pytest.raises(InputError, match="a.png: messages must have at most --max_message_mb=1 MB, found 1.[0-9] MB"):
        client("echo", max_message_mb=1).translate(b"x" * 1_060_000, "a.png")
    assert servers.models.num_predicts == 0


def test_answers_above_the_limit_are_refused(client, servers, protocol):
    class Larger(stand_in_servers.LoadedVersion):
        def run(self, name, inputs):
            return {"output_bytes": tf.constant([b"x" * 2_000_000])}

    echo = servers.models.find("echo", None)
    original, echo.__class__ = echo.__class__, Larger
    try:
        expected = {"grpc": "RESOURCE_EXHAUSTED: .*larger than max", "rest": "must have at most --max_message_mb=1 MB"}
        with pytest.raises(InputError, match=f"a.png.*{expected[protocol]}.*give a larger --max_message_mb"):
            client("echo", max_message_mb=1).translate(b"x", "a.png")
    finally:
        echo.__class__ = original


def test_a_new_version_takes_over_while_requests_run(protocol, exported, two_versions):
    folder, second = two_versions
    picture = _picture(24, 31)
    expected = [translator(picture).astype(int) for translator in exported.translators]
    assert np.abs(expected[0] - expected[1]).mean() > 2
    models = stand_in_servers.ModelFolders({"tiny": folder})
    try:
        with SERVERS[protocol](models) as address, ThreadPoolExecutor(4) as pool:
            client = CLIENTS[protocol](Endpoint(address, "tiny", retries=0, deadline_sec=60))
            data = _encoded(picture)

            def send(number: int) -> np.ndarray:
                if number == 30:
                    second.rename(folder / "2")
                if number == 90:
                    wait_until(lambda: models.find("tiny", None).number == 2, "version 2 is loaded")
                return _decoded(client.translate(data, f"{number}.png"))

            answers = list(pool.map(send, range(100)))
            # One of the last nine may still have run beside the wait.
            answers.append(send(100))
            client.close()
    finally:
        models.close()
    which = [[bool(np.abs(answer - each).max() <= 1) for each in expected] for answer in answers]
    assert all(sum(each) == 1 for each in which)
    assert which[0] == [True, False] and which[-1] == [False, True]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on the PATH to make a certificate")
def test_tls(protocol, servers, tmp_path, monkeypatch):
    certificate = stand_in_servers.Certificate(tmp_path / "key.pem", tmp_path / "chain.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", certificate.key, "-out", certificate.chain],
                   check=True, capture_output=True, timeout=900)
    with SERVERS[protocol](servers.models, certificate=certificate) as address:
        # gRPC reads its authorities once in a process, so that only REST can ask with and without this one.
        stranger = CLIENTS[protocol](Endpoint(address, "tiny", tls=protocol == "rest", retries=0))
        with pytest.raises(InputError, match=address):
            stranger.check()
        stranger.close()
        monkeypatch.setenv({"grpc": "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "rest": "REQUESTS_CA_BUNDLE"}[protocol],
                           str(certificate.chain))
        client = CLIENTS[protocol](Endpoint(address, "tiny", tls=True, retries=0))
        client.check()
        assert client.translate(_encoded(_picture(20, 20)), "a.png").startswith(b"\x89PNG")
        client.close()


def test_a_version_by_its_number(client, exported):
    picture = _picture(20, 20)
    found = _decoded(client(version=1).translate(_encoded(picture), "a.png"))
    assert np.abs(found - exported.translators[0](picture)).max() <= 1
    with pytest.raises(NoServiceError, match=r"Specific\(tiny, 7\)"):
        client(version=7).translate(_encoded(picture), "a.png")


def test_what_is_not_installed_is_named(protocol, monkeypatch):
    module, package = {"grpc": ("tensorflow_serving.apis", "tensorflow-serving-api"),
                       "rest": ("requests", "requests")}[protocol]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"--protocol={protocol} needs {package}, .*pip install "
                                         r"\"cut_tf\[serving\]\""):
        CLIENTS[protocol](Endpoint("127.0.0.1:1", "m"))
