"""What translates with exported files: versions, and files that are none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.translators import exported
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator, newest_version


class _Negative(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "image")])
    def image(self, image):
        return {"image": 255 - image}


def test_a_saved_model_draws_its_pictures(tmp_path):
    module = _Negative()
    tf.saved_model.save(module, str(tmp_path / "3"), signatures={"image": module.image})
    picture = np.random.default_rng(0).integers(0, 256, [20, 31, 3], np.uint8)
    for path in (tmp_path, tmp_path / "3"):
        np.testing.assert_array_equal(SavedModelTranslator(path)(picture), 255 - picture)
    with pytest.raises(InputError, match="small.png: sides must be at least 16 px, found 31x15"):
        SavedModelTranslator(tmp_path)(picture[:15], "small.png")


def test_the_newest_version_counts(tmp_path):
    for name in ("2", "10", "9", "11", "notes", "²", "١٢"):
        (tmp_path / name).mkdir()
        if name != "11":
            (tmp_path / name / "saved_model.pb").touch()
    assert newest_version(tmp_path) == tmp_path / "10"


def test_what_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="--saved_model must be the folder of a SavedModel, .* found none in"):
        SavedModelTranslator(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded"):
        SavedModelTranslator(tmp_path)
    module = _Negative()
    tf.saved_model.save(module, str(tmp_path / "2"), signatures={"other": module.image})
    with pytest.raises(InputError, match=r"must have the signature 'image', .* found \['other'\]"):
        SavedModelTranslator(tmp_path)


def test_what_is_no_tflite_file_is_refused(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    with pytest.raises(InputError, match="--tflite=.*nothing.tflite cannot be read"):
        TFLiteTranslator(tmp_path / "nothing.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"TFL3 and nothing more")
    with pytest.raises(InputError, match="bad.tflite: not a TFLite model"):
        TFLiteTranslator(tmp_path / "bad.tflite")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([tf.function(lambda x: x + 1.0).get_concrete_function(
        tf.TensorSpec([4], tf.float32))])
    (tmp_path / "other.tflite").write_bytes(converter.convert())
    with pytest.raises(InputError, match=r"its input must be one float32 picture \[1, H, W, 3\], found \[\[4\]\]"):
        TFLiteTranslator(tmp_path / "other.tflite")


class _Interpreter:
    """Inverts values. The first call goes on only when a second one has come, or waits for its turn."""

    def __init__(self, model_content, num_threads):
        self.second_came, self.first_came, self.inside = threading.Event(), threading.Event(), 0
        self.most_inside, self._value = 0, None

    def get_input_details(self):
        return [{"index": 0, "shape_signature": [1, -1, -1, 3], "dtype": np.float32}]

    get_output_details = get_input_details

    def get_signature_list(self):
        return {}

    def resize_tensor_input(self, index, shape, strict):
        pass

    def allocate_tensors(self):
        pass

    def set_tensor(self, index, value):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self._value = value

    def invoke(self):
        if self.first_came.is_set():
            self.second_came.set()
        else:
            self.first_came.set()
            assert self.second_came.wait(60)
        self._value = -self._value

    def get_tensor(self, index):
        self.inside -= 1
        return self._value


class _Lock:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, waited_for):
        self._lock, self._waited_for = threading.Lock(), waited_for

    def __enter__(self):
        if not self._lock.acquire(blocking=False):
            self._waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_threads_that_share_a_tflite_translator_take_turns(monkeypatch):
    monkeypatch.setattr(exported, "interpreter_class", lambda: _Interpreter)
    translator, outputs = TFLiteTranslator(b""), {}
    interpreter = translator.interpreter
    translator._lock = _Lock(interpreter.second_came)

    def work(level):
        outputs[level] = translator(np.full([20, 20 + level, 3], level, np.uint8))

    threads = [threading.Thread(target=work, args=[level], daemon=True) for level in (10, 70)]
    threads[0].start()
    assert interpreter.first_came.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert interpreter.most_inside == 1
    for level in (10, 70):
        np.testing.assert_array_equal(outputs[level], np.full([20, 20 + level, 3], 255 - level, np.uint8))
