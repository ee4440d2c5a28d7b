"""Keras' own callbacks around `fit` of a method and around a run."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import cut_tf
from cut_tf.methods import build_method
from cut_tf.training.trainer import Run

_SMALL = {"method": "paired", "generator": "mobile", "generator_norm": "none", "preprocess": "crop", "batch_size": 2}


def _batches() -> tf.data.Dataset:
    pictures = np.random.default_rng(0).uniform(-1, 1, [2, 32, 32, 3]).astype(np.float32)
    return tf.data.Dataset.from_tensors({"source": pictures, "target": -pictures}).repeat()


def test_keras_callbacks_log_save_and_stop(tmp_path, tiny_settings):
    method = build_method(tiny_settings(**_SMALL))
    method.compile()
    # Nothing can fall below the first epoch's loss by 100, so that the second epoch is the last.
    stop = keras.callbacks.EarlyStopping("loss/generator", min_delta=100.0, patience=1, mode="min")
    history = method.fit(_batches(), steps_per_epoch=2, epochs=5, verbose=0, callbacks=[
        stop, keras.callbacks.TerminateOnNaN(), keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "at_{epoch}.keras")),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "at_{epoch}.weights.h5"), save_weights_only=True)]).history
    assert len(history["loss/generator"]) == 2 and int(method.step.numpy()) == 4
    with open(tmp_path / "log.csv", encoding="utf-8") as file:
        logged = [float(row["loss/generator"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(logged, history["loss/generator"], rtol=1e-6)
    assert {f"at_{epoch}.{kind}" for epoch in (1, 2) for kind in ("keras", "weights.h5")} <= {
        path.name for path in tmp_path.iterdir()}
    picture = np.random.default_rng(1).integers(0, 256, [20, 24, 3], np.uint8)
    saved = cut_tf.from_pretrained(tmp_path / "at_2.keras")
    np.testing.assert_array_equal(saved.translate(picture), method.translate(picture))


def test_a_callback_that_stops_ends_a_run_like_a_signal(tmp_path, tiny_settings):
    settings = tiny_settings(**_SMALL, run=str(tmp_path / "run"), constant_epochs=3, image_steps=100, eval_steps=100)

    class StopAfterFirstEpoch(keras.callbacks.Callback):
        """Stops at the end of the first epoch."""

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.model.stop_training = True

    outcome = Run(settings).train(verbose=0, callbacks=[StopAfterFirstEpoch()])
    assert (outcome.step, outcome.finished) == (2, False)
    run = Run(settings)
    assert run.store.steps() == [2]
    assert run.train(verbose=0).step == 8


@pytest.mark.parametrize("name", ["model", "model.keras"])
def test_save_takes_keras_word_for_overwriting(tmp_path, tiny_settings, name):
    method = build_method(tiny_settings(**_SMALL))
    method.compile()
    method.save(tmp_path / name, overwrite=True)
    with pytest.raises(cut_tf.InputError, match="must not be there yet|is there, and is not replaced"):
        method.save(tmp_path / name, overwrite=False)
