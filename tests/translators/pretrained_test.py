"""from_pretrained: shipped models by name, runs, SavedModels and .keras files as Keras models."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.methods import build_method
from cut_tf.networks.keras_files import save_keras_file
from cut_tf.translators import shipped
from cut_tf.translators.exported import SavedModelTranslator
from cut_tf.translators.run import Translator
from tests.pixels import assert_same_but_for_rounding


def _picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, [37, 50, 3], np.uint8)


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory, tiny_settings) -> Path:
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="batch"))
    method.compile()
    rng = np.random.default_rng(0)
    for weight in method.ema_generator.weights:
        weight.assign(weight + rng.uniform(0.0, 0.05, weight.shape))
    run = tmp_path_factory.mktemp("pretrained") / "run"
    method.save(run)
    return run


def test_the_shipped_model_by_name_is_that_of_its_saved_model():
    generator = cut_tf.from_pretrained("dehaze_mobile")
    assert isinstance(generator, keras.Model) and generator.count_params() == 347_561
    expected = SavedModelTranslator(shipped.shipped_model("dehaze_mobile"))(_picture())
    assert np.abs(generator.translate(_picture()).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("form", ["run", "saved_model", "version", "keras"])
def test_every_form_gives_the_same_model(run, form, tmp_path):
    expected = Translator(run)
    path = run
    if form in ("saved_model", "version"):
        version = export_saved_model(expected, tmp_path / "model")
        path = version if form == "version" else version.parent
    if form == "keras":
        path = tmp_path / "model.keras"
        save_keras_file(expected.generator, path)
    generator = cut_tf.from_pretrained(path)
    assert_same_but_for_rounding(generator.translate(_picture()), expected(_picture()))


def test_a_loaded_generator_learns_as_any_keras_model(run):
    generator = cut_tf.from_pretrained(run)
    generator.trainable = True
    generator.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mae")
    pictures = np.random.default_rng(0).uniform(-1, 1, [4, 32, 32, 3]).astype(np.float32)
    history = generator.fit(pictures, -pictures, batch_size=2, epochs=4, verbose=0,
                            callbacks=[keras.callbacks.TerminateOnNaN()]).history["loss"]
    assert history[-1] < history[0]
    assert generator.predict(pictures, verbose=0).shape == pictures.shape


def test_a_folder_of_the_working_directory_goes_before_a_shipped_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dehaze_mobile").symlink_to(run)
    assert cut_tf.from_pretrained("dehaze_mobile").count_params() < 100_000


def test_anything_else_is_refused_with_the_names(run, tmp_path):
    with pytest.raises(InputError, match=r"must be given a model \(.*dehaze_mobile.*\) or the path .* 'no_such'"):
        cut_tf.from_pretrained("no_such")
    with pytest.raises(InputError, match="from_pretrained must be the folder of a SavedModel"):
        cut_tf.from_pretrained(tmp_path)
    version = export_saved_model(Translator(run), tmp_path / "model")
    description = version / "assets.extra" / "cut_tf_generator.json"
    text = description.read_text()
    description.write_text(text.replace("head/kernel", "tail/kernel"))
    with pytest.raises(InputError, match="must describe the generator of its SavedModel, found: weights are missing"):
        cut_tf.from_pretrained(version)
    description.write_text(text.replace('"mobile"', '"walkie_talkie"'))
    with pytest.raises(InputError, match="found: --generator must be one of .*, found 'walkie_talkie'"):
        cut_tf.from_pretrained(version)
    description.unlink()
    with pytest.raises(InputError, match="found no cut_tf_generator.json"):
        cut_tf.from_pretrained(version)


def test_shipped_are_models_with_a_card_in_the_package_or_else_in_the_clone(tmp_path, monkeypatch):
    package, clone = tmp_path / "package", tmp_path / "clone"
    for folder, name in ((clone, "in_clone"), (package, "in_package")):
        (folder / name).mkdir(parents=True)
        (folder / name / "MODEL_CARD.md").write_text("# card")
        (folder / "of_a_user" / "1").mkdir(parents=True)
    monkeypatch.setattr(shipped, "_FOLDERS", (package, clone))
    assert shipped.shipped_models() == {"in_package": package / "in_package"}
    monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path / "none", clone))
    assert shipped.shipped_model("in_clone") == clone / "in_clone"
    with pytest.raises(InputError, match="--model must be one of in_clone, found 'of_a_user'"):
        shipped.shipped_model("of_a_user")
