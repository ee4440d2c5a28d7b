"""A Hugging Face Space: what is written, what is refused, and that its folder needs nothing else of cut_tf."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.demo import page
from cut_tf.export.options import ExportOptions
from cut_tf.export.space.export import export_space
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator

ROOT = Path(__file__).parents[3]
# Names that hubs know; others are refused there.
_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module", name="translator")
def _translator(tmp_path_factory, tiny_settings) -> Translator:
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    run = tmp_path_factory.mktemp("space") / "run"
    method.save(run)
    return Translator(run)


@pytest.fixture(scope="module", name="space")
def _space(translator, tmp_path_factory) -> Path:
    return export_space(translator, tmp_path_factory.mktemp("spaces") / "clear_air",
                        ExportOptions(pixel_limit=1200, license="apache-2.0"))


def _card(space: Path) -> tuple[dict[str, object], str]:
    _, head, text = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_card_is_as_spaces_read_it(space):
    head, text = _card(space)
    assert (head["title"], head["sdk"], head["app_file"], head["license"]) == (
        "clear_air", "gradio", "app.py", "apache-2.0")
    assert {head["colorFrom"], head["colorTo"]} <= _COLOURS and len(head["short_description"]) <= 60
    assert f"gradio=={head['sdk_version']}\n" in (space / "requirements.txt").read_text(encoding="utf-8")
    assert "1200 pixels" in text and "$" not in text


def test_any_name_and_licence_makes_a_card(translator, tmp_path):
    license = "CC BY: 4, 'research' \"only\""
    head, text = _card(export_space(translator, tmp_path / "1.0", ExportOptions(license=license)))
    assert (head["title"], head["license"]) == ("1.0", license)
    assert f"Licence of the weights: {license}." in text


def test_the_gradio_of_spaces_is_one_that_the_extra_installs(space):
    release = tuple(map(int, _card(space)[0]["sdk_version"].split(".")))
    least, below = re.search(r"'gradio>=([\d.]+),<(\d+)", (ROOT / "setup.py").read_text(encoding="utf-8")).groups()
    assert tuple(map(int, least.split("."))) <= release < (int(below),)


@pytest.mark.slow
def test_the_folder_needs_no_other_cut_tf(space, tmp_path):
    """Loads and translates in a process that finds cut_tf in the folder alone, as app.py does."""
    Image.fromarray(np.full([20, 30, 3], 90, np.uint8)).save(tmp_path / "a.png")
    code = ("from pathlib import Path; import cut_tf, sys; "
            "from cut_tf.demo.models import given, offered; from cut_tf.demo.pictures import Limits, read_picture; "
            f"models = offered(given(['clear_air'], [], []), {{}}); "
            f"picture, _ = read_picture(Path({str(tmp_path / 'a.png')!r}), Limits(pixels=1200)); "
            "print(models.names[0], models.translate(models.names[0], picture, 'a')[0].shape, cut_tf.__file__)")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    linked = tmp_path / "spaces"
    linked.mkdir()
    (linked / "cut_tf").symlink_to(space / "cut_tf")
    (linked / "clear_air").symlink_to(space / "clear_air")
    done = subprocess.run([sys.executable, "-c", code], cwd=linked, env=environment, text=True, capture_output=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"clear_air (20, 30, 3) {linked / 'cut_tf' / '__init__.py'}"


def test_app_serves_the_model_of_the_folder_within_its_limits(space, monkeypatch):
    served = []
    monkeypatch.setattr(page, "build_page", lambda models, limits, folder: SimpleNamespace(
        names=models.names, block_thread=lambda: served.append("waits")))
    monkeypatch.setattr(page, "launch", lambda built, limits, host: served.append(
        (built.names[0], limits.pixels, host)))
    exec((space / "app.py").read_text(encoding="utf-8"), {"__file__": str(space / "app.py")})
    assert served == [("clear_air", 1200, None), "waits"]


def test_what_is_there_is_not_replaced_and_the_rest_stays(translator, tmp_path):
    folder = tmp_path / "clear_air"
    folder.mkdir()
    (folder / ".gitattributes").write_text("mine")
    (folder / "app.py").write_text("mine")
    with pytest.raises(InputError, match=r"app\.py is there already and is not replaced"):
        export_space(translator, folder)
    assert sorted(path.name for path in folder.iterdir()) == [".gitattributes", "app.py"]
    (folder / "app.py").unlink()
    export_space(translator, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".gitattributes", "README.md", "app.py", "clear_air", "cut_tf", "requirements.txt"]
    assert (folder / ".gitattributes").read_text() == "mine"
    head, text = _card(folder)
    assert "license" not in head and "Licence of the weights: not stated." in text


def test_a_failure_on_the_way_leaves_nothing(translator, tmp_path, monkeypatch):
    rename = os.rename

    def refuse(source: object, target: object) -> None:
        if str(target).endswith("README.md"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        export_space(translator, tmp_path / "clear_air")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cut_tf", "app.py", "no name"])
def test_a_folder_with_a_name_that_does_not_do_is_refused(translator, tmp_path, name):
    with pytest.raises(InputError, match="--output must"):
        export_space(translator, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
