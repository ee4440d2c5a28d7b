"""What every form of export keeps to: walks the table `FORMATS`, so that a new one is tested too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.common import files
from cut_tf.common.errors import InputError
from cut_tf.export import FORMATS
from cut_tf.export.options import ExportOptions
from cut_tf.methods import build_method
from cut_tf.official.run_folders import import_run
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
from cut_tf.translators.run import Translator


# What translates with the export, found in its folder.
def _imported(folder: Path) -> Translator:
    import_run({"generator": folder / "latest_net_G.pth"}, folder.parent / "imported")
    return Translator(folder.parent / "imported")


_READERS = {"saved_model": SavedModelTranslator, "hub": SavedModelTranslator,
            "space": lambda folder: SavedModelTranslator(folder / folder.name),
            "tflite": lambda folder: TFLiteTranslator(next(folder.glob("*.tflite"))), "pytorch": _imported}
# What is exported where it is not the light generator, which costs least.
_GENERATORS = {"pytorch": {"generator": "resnet", "odd_sizes": "official"}}
every_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(scope="module", name="runs")
def _runs(tmp_path_factory, tiny_settings) -> Callable[[str], Translator]:
    """Of a format: the translator of a run that it can export."""
    folder, made = tmp_path_factory.mktemp("formats"), {}

    def run_for(name: str) -> Translator:
        settings = _GENERATORS.get(name, {"generator": "mobile", "generator_norm": "none"})
        key = settings["generator"]
        if key not in made:
            method = build_method(tiny_settings(method="paired", **settings))
            method.compile()
            for weight in method.ema_generator.weights:
                weight.assign(weight * 1.5)
            method.save(folder / key)
            made[key] = Translator(folder / key)
        return made[key]

    return run_for


@pytest.fixture(name="translator")
def _translator(runs, name) -> Translator:
    return runs(name)


@pytest.fixture(scope="module", name="options")
def _options(tmp_path_factory) -> ExportOptions:
    """Typical inputs that cost nothing."""
    folder = tmp_path_factory.mktemp("typical")
    for level in (60, 120, 180, 240):
        Image.linear_gradient("L").resize((48, 32)).point(lambda value, level=level: value * level // 255).convert(
            "RGB").save(folder / f"{level}.png")
    return ExportOptions(representative=folder)


@pytest.fixture(autouse=True)
def _mobile(name):
    if name in ("tflite", "hub"):
        pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@every_format
def test_it_draws_what_the_run_draws(name, translator, options, tmp_path):
    FORMATS[name](translator, tmp_path / "out", options)
    read = _READERS[name](tmp_path / "out")
    for size in ((16, 16), (33, 41)):
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        assert np.abs(read(picture).astype(int) - translator(picture)).max() <= 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]


@every_format
def test_a_disk_that_refuses_leaves_nothing_and_what_was_there(name, translator, options, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    before = _contents(out)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    monkeypatch.setattr(tf.saved_model, "save", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        FORMATS[name](translator, out, options)
    monkeypatch.undo()
    assert _contents(out) == before


@every_format
def test_a_file_in_the_place_of_the_folder_is_refused(name, translator, options, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="out"):
        FORMATS[name](translator, tmp_path / "out", options)
    assert (tmp_path / "out").read_text() == "mine"
