"""The client command as users run it, and what it does with a real tensorflow_model_server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

pytest.importorskip("tensorflow_serving.apis",
                    reason="tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'")
from stand_in_servers import StatusError

from tests.ports import closed_port, free_ports
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


def _client(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "cut_tf.client", *flags], cwd=ROOT, text=True, timeout=900,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True)


def _errors(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def _picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Seven pictures in seven formats and sizes, one of them turned, one above the model's pixel limit, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (name, options) in enumerate({
            "a.png": {}, "b.jpg": {}, "c.bmp": {}, "d.webp": {"lossless": True}, "e.tif": {},
            "f.jpeg": {"exif": exif}}.items()):
        _picture(20 + number, 40 - number).save(folder / name, **options)
    _picture(80, 80).save(folder / "large.png")
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("ignored")
    return folder


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_folder_of_all_formats(servers, exported, photos, tmp_path, protocol):
    out = tmp_path / "out"
    done = _client(f"--server={servers.addresses[protocol]}", f"--protocol={protocol}", "--model=tiny",
                   f"--input={photos}", f"--output={out}", "--parallel=3")
    assert done.returncode == 1, done.stderr
    large, text = _errors(done)
    assert f"{photos / 'large.png'} (" in large and "INVALID_ARGUMENT" in large and "at most 4096 pixels" in large
    assert f"{photos / 'text.jpg'}: must be a complete" in text
    assert done.stdout.splitlines()[-1] == f"results in {out}; 2 pictures could not be translated"
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    for name in ("a.png", "c.bmp", "d.webp", "e.tif"):
        expected = exported.translators[0](np.asarray(Image.open(photos / name)))
        found = np.asarray(Image.open(out / f"{name[0]}.png")).astype(int)
        assert np.abs(found - expected).max() <= 1, name
    jpeg = tf.io.decode_jpeg((photos / "b.jpg").read_bytes()).numpy()
    assert np.abs(np.asarray(Image.open(out / "b.png")).astype(int) - exported.translators[0](jpeg)).max() <= 1
    assert Image.open(out / "f.png").size == (25, 35)  # turned by its EXIF orientation


def test_a_model_that_takes_no_strength_is_blended_with_here(servers, tmp_path):
    picture = np.asarray(_picture(20, 31))
    Image.fromarray(picture).save(tmp_path / "a.png")
    done = _client(f"--server={servers.addresses['rest']}", "--protocol=rest", "--model=inverter", "--strength=0.25",
                   f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), np.rint(0.5 * picture + 63.75))


def test_what_cannot_be_done_at_all_leaves_the_disk_alone(servers, photos, tmp_path):
    server, out = f"--server={servers.addresses['grpc']}", f"--output={tmp_path / 'out'}"
    with closed_port() as port:
        nobody = f"127.0.0.1:{port}"
        for flags, message in (
                (["--server=somewhere", "--model=tiny"], "--server must be HOST:PORT, such as localhost:8500, found"),
                ([server, "--model=tiny", "--strength=nan"], "--strength must be from 0, the input, to 1, the output, "
                                                             "found nan"),
                ([server, "--model=nothing"], "NOT_FOUND: Servable not found for request: Latest(nothing)"),
                ([f"--server={nobody}", "--model=tiny", "--retries=0"], "must be reachable and not overloaded")):
            done = _client(*flags, f"--input={photos}", out)
            assert done.returncode == 2 and len(_errors(done)) == 1 and message in _errors(done)[0], done.stderr
    assert not (tmp_path / "out").exists() and servers.models.num_predicts == 0


def test_a_server_that_goes_away_ends_the_run(servers, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for number in range(30):
        _picture(16 + number, 20).save(folder / f"{number:02}.png")

    def away_after_ten(number: int) -> None:
        if number > 10:
            raise StatusError("UNAVAILABLE", "shutting down")

    servers.models.before_predict = away_after_ten
    done = _client(f"--server={servers.addresses['rest']}", "--protocol=rest", "--model=tiny", f"--input={folder}",
                   f"--output={out}", "--parallel=2", "--retries=1")
    assert done.returncode == 1, done.stderr
    # A worker may take a picture or two more before the rest is given up.
    assert len(list(out.iterdir())) == 10 and len(_errors(done)) < 8
    assert "must be reachable and not overloaded, found after 2 attempts: UNAVAILABLE: shutting down" in done.stderr
    assert re.fullmatch(r"error: 1[3-9] pictures were not sent any more", _errors(done)[-1])
    assert done.stdout.splitlines()[-1] == f"results in {out}; 20 pictures could not be translated"


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_real_tensorflow_model_server(exported, photos, tmp_path):
    binary = shutil.which("tensorflow_model_server")
    if binary is None:
        pytest.skip("no tensorflow_model_server on the PATH; the README that an export writes beside its model says "
                    "how to start one with Docker")
    models = tmp_path / "models"
    shutil.copytree(exported.models / "tiny", models / "tiny")
    for name in ("batching.config", "monitoring.config", "models.config"):
        text = (exported.models / name).read_text().replace('"/models/', f'"{models}/')
        (models / name).write_text(text)
    ports = dict(zip(("grpc", "rest"), free_ports(2)))
    server = subprocess.Popen([binary, f"--port={ports['grpc']}", f"--rest_api_port={ports['rest']}",
                               f"--model_config_file={models / 'models.config'}", "--enable_batching=true",
                               f"--batching_parameters_file={models / 'batching.config'}",
                               f"--monitoring_config_file={models / 'monitoring.config'}"])
    try:
        for protocol, port in ports.items():
            wait_until(lambda port=port: _is_open(port), f"tensorflow_model_server listens on port {port}", server)
            out = tmp_path / protocol
            done = _client(f"--server=127.0.0.1:{port}", f"--protocol={protocol}", "--model=tiny", f"--input={photos}",
                           f"--output={out}")
            assert done.returncode == 1 and len(_errors(done)) == 2, done.stderr
            found = np.asarray(Image.open(out / "a.png")).astype(int)
            assert np.abs(found - exported.translators[0](np.asarray(Image.open(photos / "a.png")))).max() <= 1
    finally:
        server.terminate()
        server.wait(30)
