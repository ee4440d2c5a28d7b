"""Hub folders: complete, checked, readable as Hugging Face and Kaggle read them, whole or not there."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import cut_tf
from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.export.options import ExportOptions, Size
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
from cut_tf.translators.run import Translator

pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
pytest.importorskip("tensorflow_serving.apis", reason="the extra serving (tensorflow-serving-api) is not installed")

from cut_tf.export.hub import export, texts
from cut_tf.export.hub.measured import Measured

_LICENSE = "CC-BY-4.0"


@pytest.fixture(scope="module", name="translator")
def _translator(tmp_path_factory, tiny_settings) -> Translator:
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    for weight in method.ema_generator.weights:
        weight.assign(weight * 1.5)
    run = tmp_path_factory.mktemp("hub") / "run"
    method.save(run)
    return Translator(run)


@pytest.fixture(scope="module", name="typical")
def _typical(tmp_path_factory) -> str:
    """Clear photographs that get haze, as --representative names them: four pairs."""
    folder = tmp_path_factory.mktemp("clear")
    for number in range(4):
        picture = Image.radial_gradient("L").resize((64, 48)).rotate(30 * number)
        Image.merge("RGB", [picture, picture.point(lambda value: 255 - value), picture]).save(folder / f"{number}.png")
    return f"hazed:{folder},{folder}"


@pytest.fixture(scope="module", name="hub")
def _hub(tmp_path_factory, translator, typical) -> Path:
    options = ExportOptions((Size(32, 40),), quantize="float16", representative=typical, license=_LICENSE)
    return export.export_hub(translator, tmp_path_factory.mktemp("hub") / "clear_view", options)


def _head(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_it_has_every_file_and_their_checksums(hub):
    names = {path.relative_to(hub).as_posix() for path in hub.rglob("*") if path.is_file()}
    expected = {"README.md", "LICENSE", "metrics.json", "training_settings.json", "model-metadata.json",
                "model-instance-metadata.json", "SHA256SUMS", "1/saved_model.pb", "clear_view_32x40_float16.tflite",
                "clear_view_32x40_float16.json", *(f"examples/{number}.jpg" for number in (1, 2, 3)),
                *(["clear_view.keras"] if compat.KERAS_3 else [])}
    assert expected <= names
    sums = dict(reversed(line.split("  ")) for line in (hub / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == names - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((hub / name).read_bytes()).hexdigest() == digest, name


def test_all_forms_draw_what_the_run_draws(hub, translator):
    picture = np.random.default_rng(0).integers(0, 256, [32, 40, 3], np.uint8)
    expected = translator(picture).astype(int)
    forms = [SavedModelTranslator(hub), cut_tf.from_pretrained(hub).translate,
             TFLiteTranslator(hub / "clear_view_32x40_float16.tflite")]
    if compat.KERAS_3:
        forms.append(cut_tf.from_pretrained(hub / "clear_view.keras").translate)
    for translate in forms:
        assert np.abs(translate(picture) - expected).max() <= 1


def test_the_head_of_the_card_is_what_hugging_face_reads(hub, typical):
    head = _head(hub)
    assert head["license"] == "cc-by-4.0" and head["pipeline_tag"] == "image-to-image"
    assert head["library_name"] == ("keras" if compat.KERAS_3 else "tf-keras")
    assert {"dehazing", "litert", "cut_tf"} <= set(head["tags"]) and "psnr" in head["metrics"]
    (result,) = head["model-index"][0]["results"]
    assert result["task"] == {"type": "image-to-image"} and result["dataset"]["name"] == typical
    card = (hub / "README.md").read_text(encoding="utf-8")
    for number in (1, 2, 3):
        assert f"](examples/{number}.jpg)" in card
    for heading in ("Use", "Files", "Measured", "Made from", "Limits", "Licence"):
        assert f"\n## {heading}\n" in card


def test_hugging_faces_own_reader_takes_the_card(hub):
    library = pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub, or the extra demo")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = library.ModelCard.load(hub / "README.md").data
    assert (found.license, found.pipeline_tag, found.model_name) == ("cc-by-4.0", "image-to-image", "clear_view")
    assert {result.metric_type for result in found.eval_results} == set(_head(hub)["metrics"])


@pytest.mark.parametrize("dataset, dehazes", [("scenes+rooms+hazed:a,b", True), ("rooms", True),
                                              ("folders:a,b", False)])
def test_the_card_says_whether_haze_is_removed(dataset, dehazes):
    facts = texts.Facts("x", Settings.of(dataset=dataset), 1, 2, _LICENSE, Measured("photos", 0, {}, []), {}, "", [])
    card = texts.card(facts)
    assert ("dehazing" in yaml.safe_load(card.split("---\n")[1])["tags"]) is dehazes
    assert ("Removes haze from photographs." in card) is dehazes


def test_the_numbers_are_those_of_the_saved_model_on_the_test_pairs(hub, typical):
    """PSNR again, by scikit-image."""
    data = open_dataset(Settings.of(dataset=typical, preprocess="none"))
    translate = SavedModelTranslator(hub)
    found = json.loads((hub / "metrics.json").read_text())
    psnr = [peak_signal_noise_ratio(data.test_target.load(index), translate(data.test_source.load(index)))
            for index in range(4)]
    assert found["pairs"] == len(data.test_source) == 4
    assert found["means"]["psnr"]["output"] == pytest.approx(np.mean(psnr), abs=1e-3)
    shown = {metric["type"]: metric["value"] for metric in _head(hub)["model-index"][0]["results"][0]["metrics"]}
    assert shown["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    assert Image.open(hub / "examples" / "1.jpg").size == (3 * 64, 48)


def test_kaggles_files_have_its_fields_and_wait_for_an_owner(hub):
    model, variation = (json.loads((hub / f"{name}.json").read_text())
                        for name in ("model-metadata", "model-instance-metadata"))
    assert set(model) == {"ownerSlug", "title", "slug", "subtitle", "isPrivate", "description", "publishTime",
                          "provenanceSources"}
    assert model["slug"] == variation["modelSlug"] == "clear-view" and model["isPrivate"] is True
    assert model["ownerSlug"] == variation["ownerSlug"] == "INSERT_OWNER_SLUG_HERE"
    assert model["description"].startswith("# clear_view") and "license:" not in model["description"]
    assert variation["framework"] == "tensorFlow2" and "CC BY 4.0" in variation["licenseName"]


@pytest.mark.slow
def test_pictures_without_true_ones_make_examples_and_no_numbers(translator, tmp_path):
    (tmp_path / "photos").mkdir()
    for name, size in (("a", (40, 24)), ("b", (20, 30))):
        Image.new("RGB", size, (90, 120, 200)).save(tmp_path / "photos" / f"{name}.png")
    folder = export.export_hub(translator, tmp_path / "out", ExportOptions(representative=tmp_path / "photos",
                                                                         license="my own, ask me"))
    head = _head(folder)
    assert (head["license"], head["license_link"]) == ("other", "LICENSE") and "model-index" not in head
    assert "my own, ask me" in (folder / "LICENSE").read_text()
    assert json.loads((folder / "metrics.json").read_text())["means"] == {}
    assert sorted(Image.open(path).size for path in (folder / "examples").iterdir()) == [(40, 30), (80, 24)]
    assert json.loads((folder / "model-instance-metadata.json").read_text())["licenseName"].startswith("INSERT_")


def test_pictures_are_looked_for_before_anything_is_made(translator, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "save_version", lambda *_: pytest.fail("a model was saved"))
    with pytest.raises(InputError, match="nowhere: must be a folder with images"):
        export.export_hub(translator, tmp_path / "out", ExportOptions(representative=str(tmp_path / "nowhere")))
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced(translator, tmp_path):
    (tmp_path / "out" / "examples").mkdir(parents=True)
    with pytest.raises(InputError, match="must not have examples yet, found that it has; name another folder"):
        export.export_hub(translator, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "examples"]
