"""Generators in .keras files: whole or not there, read where only cut_tf was imported, refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from cut_tf import compat, networks
from cut_tf.common import files
from cut_tf.common.errors import InputError
from cut_tf.networks.keras_files import load_keras_file, save_keras_file
from cut_tf.settings import Settings

ROOT = Path(__file__).parents[2]
_SETTINGS = Settings.of(generator="mobile", generator_norm="none", ngf=4, generator_blocks=1)


@pytest.fixture(scope="module", name="generator")
def _generator() -> keras.Model:
    generator = networks.build_generator(_SETTINGS, seed=5)
    for weight in generator.weights:
        weight.assign(weight * 1.5 + 0.01)
    return generator


def _picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [20, 31, 3], np.uint8)


# "keras" before "cut_tf", and after it: as an import sorter and as a person would write it.
@pytest.mark.parametrize("imports", ["import cut_tf, keras",
                                     pytest.param("import keras, cut_tf", marks=pytest.mark.slow)])
def test_a_process_that_only_imported_cut_tf_loads_it(generator, tmp_path, imports):
    save_keras_file(generator, tmp_path / "g.keras")
    np.save(tmp_path / "picture.npy", _picture())
    code = (f"{imports}\nimport sys\nimport importlib.util\nimport numpy as np\nimportlib.util.find_spec('keras')\n"
            "assert 'cut_tf.networks.generators.mobile' not in sys.modules\n"
            "np.save('out.npy', keras.models.load_model('g.keras').translate(np.load('picture.npy')))")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), generator.translate(_picture()))


def test_batches_and_single_pictures_are_translated_alike(generator):
    pictures = np.stack([_picture(), 255 - _picture()])
    found = generator.translate(pictures)
    assert found.dtype == np.uint8 and found.shape == pictures.shape
    np.testing.assert_array_equal(found[1], generator.translate(pictures[1]))
    with pytest.raises(InputError, match=r"pictures: expected uint8 \[H, W, 3\], got float32"):
        generator.translate(pictures[0].astype(np.float32))


def test_files_are_replaced_only_when_asked_and_never_half_written(generator, tmp_path, monkeypatch):
    path = tmp_path / "g.keras"
    path.write_text("mine")
    with pytest.raises(InputError, match="g.keras must not be there yet"):
        save_keras_file(generator, path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(InputError, match="g.keras: must be writable, found: No space left on device"):
        save_keras_file(generator, path, overwrite=True)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    save_keras_file(generator, path, overwrite=True)
    np.testing.assert_array_equal(load_keras_file(path).translate(_picture()), generator.translate(_picture()))


def test_other_files_and_other_models_are_refused(tmp_path):
    with pytest.raises(InputError, match="must be a .keras file of a generator"):
        load_keras_file(tmp_path / "missing.keras")
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(InputError, match="text.keras must be a .keras file of a generator"):
        load_keras_file(tmp_path / "text.keras")
    keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)]).save(tmp_path / "dense.keras")
    with pytest.raises(InputError, match="dense.keras must hold a generator of cut_tf, found Sequential"):
        load_keras_file(tmp_path / "dense.keras")


def test_files_of_the_other_keras_are_refused_since_their_weights_have_other_places(generator, tmp_path):
    save_keras_file(generator, tmp_path / "g.keras")
    other = 5 - compat.KERAS_MAJOR
    with zipfile.ZipFile(tmp_path / "g.keras") as archive, zipfile.ZipFile(tmp_path / "o.keras", "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["keras"] = other
                data = json.dumps(config).encode()
            changed.writestr(name, data)
    with pytest.raises(InputError, match=f"must be of the Keras that reads them, .* found one of Keras {other}"):
        load_keras_file(tmp_path / "o.keras")
