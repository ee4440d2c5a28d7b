"""The live page in headless Chromium, with a camera that Chromium makes up: needs npm, Chromium, the extra browser."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.translators.exported import TFLiteTranslator
from tests import browser
from tests.network import skip_without_network
from tools.live_page import building

ROOT = Path(__file__).parents[2]
BOX = ROOT / "saved_models" / "dehaze_mobile"
MODEL = BOX / "dehaze_mobile_256x256_int8.tflite"
_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(autouse=True)
def _mobile() -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")


@pytest.fixture(scope="module", name="address")
def _address(tmp_path_factory):
    browser.need_browser()
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (Debian: apt-get install npm)")
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    folder = tmp_path_factory.mktemp("live") / "page"
    try:
        building.build_page(MODEL, folder)
    except InputError as error:
        skip_without_network(str(error))
        raise
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def _open(driver, address: str) -> None:
    browser.addresses(driver)
    driver.get(address)
    browser.wait(driver, lambda driver: _said(driver) == "Ready.", "the model")


def _said(driver) -> str:
    return driver.find_element("id", "said").text


def _canvas(driver, name: str) -> np.ndarray:
    """uint8 [H, W, 3]."""
    address = driver.execute_script("return document.getElementById(arguments[0]).toDataURL('image/png')", name)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def _picture(path: Path, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    levels = np.asarray(Image.fromarray(rng.integers(60, 220, (8, 8, 3), np.uint8)).resize(size, 2))
    Image.fromarray(levels).save(path)
    return path


@pytest.mark.slow
def test_a_picture_is_translated_as_the_interpreter_translates_it(address, tmp_path):
    path = _picture(tmp_path / "valley.png", (256, 256))
    with browser.chromium(tmp_path / "browser") as driver:
        _open(driver, address)
        driver.find_element("id", "file").send_keys(str(path))
        said = browser.wait(driver, lambda driver: _said(driver).startswith("valley.png: ") and _said(driver), "it")
        assert re.fullmatch(r"valley\.png: 256x256 px, translated at 256x256 px in \d+ ms", said)
        before, after = _canvas(driver, "before"), _canvas(driver, "after")
        places = browser.addresses(driver)
    picture = np.asarray(Image.open(path))
    np.testing.assert_array_equal(before, picture)
    expected = TFLiteTranslator(MODEL)(picture)
    # 8-bit kernels of two builds of XNNPACK; a wrong range or order of colours is off by tens of levels.
    assert np.abs(after.astype(int) - expected).max() <= 2
    assert np.abs(after.astype(int) - expected).mean() < 0.1 < np.abs(expected.astype(int) - picture).mean()
    assert {urlsplit(place).netloc for place in places} == {urlsplit(address).netloc}


@pytest.mark.slow
def test_the_camera_runs_until_it_is_stopped(address, tmp_path):
    with browser.chromium(tmp_path / "browser", *_CAMERA) as driver:
        _open(driver, address)
        driver.find_element("id", "camera").click()
        rates = set()

        def several_rates(driver) -> bool:
            rates.update(re.findall(r"^256x256 px: ([\d.]+) frames per second, \d+ ms in the model$", _said(driver)))
            return len(rates) >= 3

        browser.wait(driver, several_rates, "frames")
        assert min(map(float, rates)) > 0
        first = _canvas(driver, "before")
        browser.wait(driver, lambda driver: not np.array_equal(_canvas(driver, "before"), first), "another frame")
        driver.find_element("id", "stop").click()
        browser.wait(driver, lambda driver: not driver.find_element("id", "stop").is_enabled(), "the end")
        before, after = _canvas(driver, "before"), _canvas(driver, "after")
        np.testing.assert_array_equal(_canvas(driver, "before"), before)
    # What stands right is the translation of the very frame left.
    assert before.std() > 10
    assert np.abs(after.astype(int) - TFLiteTranslator(MODEL)(before)).max() <= 2


@pytest.mark.slow
def test_a_picture_ends_the_camera_and_a_wrong_file_is_a_sentence(address, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear diary")
    with browser.chromium(tmp_path / "browser", *_CAMERA) as driver:
        _open(driver, address)
        driver.find_element("id", "camera").click()
        browser.wait(driver, lambda driver: "frames per second" in _said(driver), "frames")
        driver.find_element("id", "file").send_keys(str(_picture(tmp_path / "wide.png", (300, 120))))
        browser.wait(driver, lambda driver: _said(driver).startswith("wide.png: 300x120 px, translated at"), "it")
        assert not driver.find_element("id", "stop").is_enabled()
        driver.find_element("id", "file").send_keys(str(tmp_path / "letter.txt"))
        browser.wait(driver, lambda driver: _said(driver) == "letter.txt: must be a picture that this browser can "
                     "show, found 10 bytes of text/plain", "the refusal")


@pytest.mark.slow
def test_without_a_camera_the_page_says_so(address, tmp_path):
    with browser.chromium(tmp_path / "browser") as driver:
        _open(driver, address)
        driver.find_element("id", "camera").click()
        browser.wait(driver, lambda driver: _said(driver).startswith("The camera cannot be used: "), "the refusal")


def test_a_file_for_any_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="--tflite must be made for a fixed size .* found any size"):
        building.build_page(BOX / "dehaze_mobile_any_float16.tflite", tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_range_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TFLiteTranslator, "unit_range", property(lambda self: True, lambda self, value: None),
                        raising=False)
    with pytest.raises(InputError, match=r"--tflite must be exported without --unit_range, found values in \[0, 1\]"):
        building.build_page(MODEL, tmp_path / "page")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="--output must be a new or empty folder"):
        building.build_page(MODEL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("script", "pattern"), [(None, "npm must be installed"),
                                                 ("echo no such host >&2; exit 1", "found: no such host")])
def test_what_is_wrong_with_npm_is_told_and_nothing_is_left(tmp_path, monkeypatch, script, pattern):
    programs = tmp_path / "bin"
    programs.mkdir()
    if script is not None:
        (programs / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(InputError, match=pattern):
        building.build_page(MODEL, tmp_path / "page")
    assert list(tmp_path.iterdir()) == [programs]


def test_the_lock_file_pins_what_the_page_needs_with_hashes():
    folder = ROOT / "tools" / "live_page"
    wanted = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert locked[""]["dependencies"] == wanted
    for name, release in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == release
    assert all(package["integrity"].startswith("sha512-") for path, package in locked.items() if path)


def test_an_empty_folder_behind_a_link_gets_the_page(tmp_path, monkeypatch):
    for source in building._RUNTIME:
        path = tmp_path / "packages" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(building, "_installed", lambda _: tmp_path / "packages")
    (tmp_path / "page").mkdir()
    (tmp_path / "link").symlink_to("page")
    building.build_page(MODEL, tmp_path / "link")
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"index.html", "live.js", building.MODEL, "runtime"}
    assert (tmp_path / "page" / building.MODEL).read_bytes() == MODEL.read_bytes()
    assert (tmp_path / "page" / "runtime" / "core" / "index.js").read_text() == "core/dist/index.js"
    assert {path.name for path in tmp_path.iterdir()} == {"packages", "page", "link"}
