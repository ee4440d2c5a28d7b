"""The demo's page in headless Chromium, as its users meet it. Needs the extras demo and browser, and Chromium."""

from __future__ import annotations

import io
import socket
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from cut_tf.baselines import BASELINES
from cut_tf.translators.exported import SavedModelTranslator
from cut_tf.translators.shipped import shipped_model
from tests import browser
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
_BUSY = "#pair [data-testid=status-tracker]:not(.hide)"


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    pytest.importorskip("gradio", reason="the extra demo (gradio) is not installed")
    browser.need_browser()


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory):
    with browser.serving(["-m", "cut_tf.demo"], tmp_path_factory.mktemp("server"), "open ",
                         PYTHONPATH=str(ROOT)) as server:
        yield server


@pytest.fixture(scope="module", name="driver")
def _driver(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("browser") / "one") as driver:
        yield driver


@pytest.fixture(name="page")
def _page(driver, server):
    return _open(driver, server[0])


@pytest.fixture(scope="module", name="translate")
def _translate() -> SavedModelTranslator:
    return SavedModelTranslator(shipped_model("dehaze"))  # the first of the list, which the page begins with


def _open(driver, address: str):
    driver.get(address)
    browser.wait(driver, lambda driver: _all(driver, "#picture input[type=file]"), "the page")
    return driver


def _all(driver, selector: str) -> list:
    return driver.find_elements("css selector", selector)


def _one(driver, selector: str):
    return driver.find_element("css selector", selector)


def _picture(folder: Path, name: str, seed: int = 0, width: int = 120, height: int = 80) -> Path:
    """A hazy slope with something in it; not of noise, which no picture is."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    levels = 150 + 40 * rows[..., None] / height + 30 * np.sin(columns[..., None] / 9 + seed) + rng.normal(
        0, 4, (height, width, 3)) - np.array([seed % 3, 5, 10])
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(folder / name)
    return folder / name


def _result(driver, selector: str = "#result") -> str:
    return _one(driver, f"{selector} textarea, {selector} input").get_attribute("value")


def _wait_for(driver, text: str, selector: str = "#result") -> str:
    browser.wait(driver, lambda driver: text in _result(driver, selector) and not _all(driver, _BUSY), f"{text!r}")
    return _result(driver, selector)


def _fetch(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=browser.LONGEST_SEC) as answer:
        return answer.read()


def _shown(driver) -> list[np.ndarray]:
    """The pictures left and right of the slider."""
    places = [image.get_attribute("src") for image in _all(driver, "#pair img")]
    return [np.asarray(Image.open(io.BytesIO(_fetch(place)))) for place in places]


def _upload(driver, path: Path, text: str = "translated in") -> str:
    _one(driver, "#picture input[type=file]").send_keys(str(path))
    return _wait_for(driver, text if text != "translated in" else f"{path.name}: ")


def _downloaded(driver, button: str, folder: Path) -> Path:
    _one(driver, button).click()
    return browser.wait(driver, lambda driver: next((path for path in folder.iterdir() if path.suffix not in (
        ".crdownload", ".tmp") and not path.name.startswith(".")), None), "the download")


def _downloads(driver) -> Path:
    folder = Path(driver.capabilities["chrome"]["userDataDir"]).parent / "downloads"
    for path in folder.iterdir():
        path.unlink()
    return folder


def _set_strength(driver, value: float) -> None:
    driver.execute_script(
        "const slider = document.querySelector('#strength input[type=range]'); slider.value = arguments[0];"
        "for (const kind of ['input', 'change', 'pointerup']) "
        "slider.dispatchEvent(new PointerEvent(kind, {bubbles: true}));", value)


def test_a_picture_is_translated_shown_and_downloaded(page, translate, tmp_path):
    path = _picture(tmp_path, "valley.png")
    picture = np.asarray(Image.open(path))
    text = _upload(page, path)
    assert text.startswith("valley.png: 120x80 px, translated in ") and text.endswith(" s.")
    before, after = _shown(page)
    np.testing.assert_array_equal(before, picture)
    np.testing.assert_array_equal(after, translate(picture))
    saved = _downloaded(page, "#download", _downloads(page))
    assert saved.name == "valley_translated.png"
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), after)


def test_the_slider_between_before_and_after_moves(page, tmp_path):
    from selenium.webdriver import ActionChains

    _upload(page, _picture(tmp_path, "valley.png"))
    after = browser.wait(page, lambda driver: _all(driver, "#pair img.fixed"), "the pair")[0]
    assert "50%" in after.get_attribute("style")
    handle = _one(page, "#pair [data-testid=slider] .inner")
    ActionChains(page).click_and_hold(handle).move_by_offset(-200, 0).release().perform()
    left = browser.wait(page, lambda driver: float(after.get_attribute("style").split("%")[0].split()[-1]) < 45 and
                        float(after.get_attribute("style").split("%")[0].split()[-1]), "the slider")
    assert 0 < left < 45


def test_strength_blends_without_another_translation(page, translate, tmp_path):
    path = _picture(tmp_path, "valley.png")
    picture = np.asarray(Image.open(path))
    text = _upload(page, path)
    for strength, expected in ((0.0, picture), (0.5, (picture.astype(float) + translate(picture)) / 2)):
        places = [image.get_attribute("src") for image in _all(page, "#pair img")]
        _set_strength(page, strength)
        browser.wait(page, lambda driver, places=places: [image.get_attribute("src") for image in _all(
            driver, "#pair img")] not in (places, []) and not _all(driver, _BUSY), "another picture")
        assert np.abs(_shown(page)[1] - expected).max() <= 0.5
        assert _result(page) == text  # with the seconds of the first time


def test_another_model_can_be_chosen(page, tmp_path):
    path = _picture(tmp_path, "valley.png")
    _upload(page, path)
    first = _shown(page)[1]
    box = _one(page, "#model input")
    box.click()
    names = browser.wait(page, lambda driver: _all(driver, "#model [role=option]"), "the models")
    names[-1].click()
    browser.wait(page, lambda driver: len(_all(driver, "#pair img")) == 2 and not _all(driver, _BUSY) and not
                 np.array_equal(_shown(driver)[1], first), "another picture")
    np.testing.assert_array_equal(_shown(page)[1], BASELINES["dark_channel_prior"](np.asarray(Image.open(path))))


def test_wrong_files_are_refused_by_a_sentence(page, tmp_path):
    _upload(page, _picture(tmp_path, "valley.png"))
    (tmp_path / "letter.png").write_text("Dear diary")
    for path, text in ((tmp_path / "letter.png", "letter.png: must be a complete JPEG, PNG"),
                       (_picture(tmp_path, "large.png", width=1100, height=1000),
                        "large.png: must have at most 1048576 pixels, found 1100x1000")):
        _one(page, "#picture button[aria-label=Clear], #picture button[title=Clear]").click()
        browser.wait(page, lambda driver: _all(driver, "#picture input[type=file]"), "an empty field")
        _upload(page, path, text)
        browser.wait(page, lambda driver: not _all(driver, "#pair img"), "the picture before to go")
    _one(page, "#shrinks input").click()
    assert "made smaller from 1100x1000 px" in _wait_for(page, "large.png: 1073x976 px")


def test_two_users_at_once_get_their_own_pictures(page, server, translate, tmp_path, tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("browser") / "two") as other:
        users = [page, _open(other, server[0])]
        paths = [_picture(tmp_path, f"user{index}.png", seed=index, width=400, height=300) for index in range(2)]
        for driver, path in zip(users, paths):
            _one(driver, "#picture input[type=file]").send_keys(str(path))
        for driver, path in zip(users, paths):
            _wait_for(driver, f"{path.name}: 400x300 px")
            picture = np.asarray(Image.open(path))
            before, after = _shown(driver)
            np.testing.assert_array_equal(before, picture)
            np.testing.assert_array_equal(after, translate(picture))


def test_a_batch_becomes_a_zip_and_a_table(page, translate, tmp_path):
    (tmp_path / "letter.png").write_text("Dear diary")
    paths = [_picture(tmp_path, "a.png", 1), tmp_path / "letter.png", _picture(tmp_path, "b.png", 2)]
    next(tab for tab in _all(page, "button[role=tab]") if tab.text == "Many pictures").click()
    field = browser.wait(page, lambda driver: _all(driver, "#pictures input[type=file]"), "the batch's field")[0]
    field.send_keys("\n".join(map(str, paths)))
    browser.wait(page, lambda driver: all(path.stem in _one(driver, "#pictures").text for path in paths), "the files")
    _one(page, "#start").click()
    _wait_for(page, "2 of 3 pictures translated.", "#batch_result")
    table = browser.wait(page, lambda driver: "done" in _one(driver, "#rows").text and _one(driver, "#rows").text,
                         "the table")
    assert "letter.png: must be a complete JPEG" in table and "120x80" in table
    with zipfile.ZipFile(_downloaded(page, "#download_zip", _downloads(page))) as zipped:
        found = {name: np.asarray(Image.open(io.BytesIO(zipped.read(name)))) for name in zipped.namelist()}
    assert set(found) == {"a.png", "b.png"}
    for path in (paths[0], paths[2]):
        np.testing.assert_array_equal(found[path.name], translate(np.asarray(Image.open(path))))


def test_neither_page_nor_server_talks_to_anybody_else(driver, server, tmp_path):
    address, told = server
    browser.addresses(driver)
    _upload(_open(driver, address), _picture(tmp_path, "valley.png"))
    places = browser.addresses(driver)
    assert places and {urlsplit(place).netloc for place in places} == {urlsplit(address).netloc}
    assert "default-src 'self'" in urllib.request.urlopen(address).headers["content-security-policy"]
    assert not told.exists(), told.read_text()


def test_only_this_machine_is_served(server):
    port = urlsplit(server[0]).port
    assert urlsplit(server[0]).hostname == "127.0.0.1"
    with socket.create_connection(("127.0.0.1", port), timeout=browser.LONGEST_SEC):
        pass
    # An address of this machine too, at which a server of all addresses would answer.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=browser.LONGEST_SEC)


def test_a_space_shows_the_same_page(driver, tiny_settings, tmp_path):
    from cut_tf.export.space.export import export_space
    from cut_tf.methods import build_method
    from cut_tf.translators.run import Translator

    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    method.save(tmp_path / "run")
    space = export_space(Translator(tmp_path / "run"), tmp_path / "clear_air")
    (tmp_path / "server").mkdir()
    path = _picture(tmp_path, "valley.png")
    port, = free_ports(1)
    code = ("import runpy, cut_tf.demo.page as page; launch = page.launch; "
            "page.launch = lambda *values, **named: print('open', launch(*values, **named)); "
            f"import sys; sys.argv = ['app.py']; runpy.run_path({str(space / 'app.py')!r}, run_name='__main__')")
    with browser.serving(["-c", code], tmp_path / "server", "open ", PYTHONPATH=str(space),
                         GRADIO_SERVER_PORT=str(port)) as (address, _):
        _upload(_open(driver, address), path)
        picture = np.asarray(Image.open(path))
        np.testing.assert_array_equal(_shown(driver)[1], SavedModelTranslator(space / "clear_air")(picture))
