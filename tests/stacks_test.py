"""What one TensorFlow stack wrote, the other loads: recorded runs, SavedModels and numbers of both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.data.image_files import read_image
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator
from tools.record_stack import recording as record_stack

ROOT = Path(__file__).parents[1]
STACKS = ("current", "addons")
OTHER_PYTHON = "CUT_TF_OTHER_PYTHON"
TOLERANCE = 1e-5


@pytest.fixture(params=STACKS)
def record(request, testdata):
    return testdata / "stacks" / request.param


def _levels(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.shape == expected.shape and expected.std() > 5
    return int(np.abs(found.astype(int) - expected).max())


def _levels_apart(record: Path) -> int:
    """How far the pictures that the run and the SavedModel of a record draw are from the recorded one, in levels."""
    picture, expected = read_image(record / "picture.png"), read_image(record / "translated.png")
    signature = tf.saved_model.load(str(record / "saved_model" / "1")).signatures["image"]
    return max(_levels(Translator(record / "run")(picture), expected),
               _levels(signature(image=tf.constant(picture[None]))["image"].numpy()[0], expected))


def test_records_are_of_two_stacks(testdata):
    versions = [(testdata / "stacks" / stack / "versions.txt").read_text() for stack in STACKS]
    assert "tensorflow 2.21" in versions[0] and "keras 3." in versions[0]
    assert "tensorflow 2.15" in versions[1] and "keras 2.15" in versions[1]


def test_run_and_saved_model_translate_alike(record):
    assert _levels_apart(record) <= 1


def test_layers_give_the_recorded_numbers(record):
    expected = np.load(record / "numbers.npz")
    found = record_stack.layer_numbers()
    assert len(found) == 5
    for name, value in found.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(value / scale, expected[name] / scale, atol=TOLERANCE, err_msg=name)


def test_training_goes_on_with_the_recorded_numbers(record, tmp_path):
    """All state is restored, optimizer slots and spectral vectors too: the next step has the recorded terms."""
    expected = np.load(record / "numbers.npz")
    method = build_method(record_stack.recorded_settings())
    method.compile()
    method.restore(record / "run")
    assert int(method.step) == record_stack.STEPS
    terms = record_stack.take_step(method, record_stack.STEPS)
    assert {f"term:{name}" for name in terms} == {name for name in expected if name.startswith("term:")}
    for name, value in terms.items():
        tolerance = 1 / 16 if "accuracy" in name else TOLERANCE
        assert abs(value - expected[f"term:{name}"]) <= tolerance * max(abs(expected[f"term:{name}"]), 1.0), name


def test_the_other_stack_loads_what_this_one_writes_now(tmp_path):
    other = os.environ.get(OTHER_PYTHON)
    if not other:
        pytest.skip(f"{OTHER_PYTHON} names no Python with the other stack; the recorded files were compared")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = ["-m", "tools.record_stack", f"--output={tmp_path / 'theirs'}"]
    done = subprocess.run([other, *command], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "theirs" / "versions.txt").read_text() != f"tensorflow {tf.__version__}\nkeras {_keras()}\n"
    assert _levels_apart(tmp_path / "theirs") <= 1
    record_stack.record(tmp_path / "ours")
    script = ("import pathlib, tests.stacks_test as t; "
              f"assert t._levels_apart(pathlib.Path({str(tmp_path / 'ours')!r})) <= 1")
    done = subprocess.run([other, "-c", script], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def _keras() -> str:
    import keras

    return keras.__version__


def test_a_record_is_never_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="--output must be a new folder, found .*there there already"):
        record_stack.record(tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("tensorflow_version, keras_version", [("2.16.1", "3.0.5"), ("2.21.0", "2.15.0"),
                                                               ("2.15.1", "3.1.0"), ("2.20.0", "3.12.0")])
def test_a_mixture_of_stacks_is_refused_with_advice(tensorflow_version, keras_version):
    with pytest.raises(ImportError, match=rf"pip install '\.\[addons\]'.*found TensorFlow {tensorflow_version} with "
                                          f"Keras {keras_version}"):
        compat.check_stack(tensorflow_version, keras_version, True)


def test_the_older_stack_without_addons_is_refused_with_advice():
    with pytest.raises(ImportError, match=r"TensorFlow 2\.15 cut_tf needs tensorflow-addons: pip install '\.\[addons"):
        compat.check_stack("2.15.1", "2.15.0", False)
    compat.check_stack("2.15.1", "2.15.0", True)
    compat.check_stack("2.21.0", "3.15.1", False)
