"""The terms of a step are read late, checked late, and exchanged between replicas at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import gain_networks
import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.checkpoints import CheckpointStore
from cut_tf.common.errors import NonFiniteError
from cut_tf.methods import step_terms
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.step_terms import StepRecord, StepTerms, non_finite_message
from cut_tf.training import callbacks, evaluation

_GAINS = {"generator": 0.8123, "backward_generator": 1.0717, "discriminator": 0.6, "backward_discriminator": 0.4}
_SELDOM = {"log_steps": 10, "image_steps": 1000, "eval_steps": 1000, "checkpoint_steps": 1000}


@pytest.fixture(name="build")
def _build(tiny_settings, monkeypatch) -> Callable[..., TranslationMethod]:
    """build(**overrides): CycleGAN of four numbers."""
    return lambda **overrides: gain_networks.build(monkeypatch, tiny_settings(
        method="cyclegan", ema_decay=0.0, **{**_SELDOM, "pool_images": 0, **overrides}), _GAINS)


def _data(count: int, bad: int = 0) -> tf.data.Dataset:
    """So many batches of two pictures; the `bad`-th, counted from 1, is not finite."""
    pictures = np.full([count, 2, 8, 8, 3], 0.5, np.float32)
    if bad:
        pictures[bad - 1, 0, 0, 0, 0] = np.nan
    return tf.data.Dataset.from_tensor_slices({"source": pictures, "target": np.abs(pictures)})


class _StepNow(keras.callbacks.Callback):
    """The step that has begun last, counted from 1."""

    number = 0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.number = batch + 1


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_steps_between_those_of_the_log_never_wait_for_the_device(build, tmp_path, monkeypatch):
    method, now, reads = build(), _StepNow(), []
    read = tf.__internal__.EagerTensor._numpy

    def counted(tensor: tf.Tensor) -> object:
        # Keras 2 reads a counter of its own in each step, which does not wait for the step.
        if not any("data_adapter" in frame.filename for frame in traceback.extract_stack(limit=5)):
            reads.append(now.number)
        return read(tensor)

    monkeypatch.setattr(tf.__internal__.EagerTensor, "_numpy", counted)
    writer = callbacks.make_writer(tmp_path)
    saver = callbacks.CheckpointSaver(method, method.settings, CheckpointStore(tmp_path, 1))
    observers = [now, callbacks.NonFiniteStop(method, method.settings),
                 callbacks.ScalarLogger(method, writer, 10, 2), saver, callbacks.OverallProgress(method, 25, 1)]
    history = method.fit(_data(25), epochs=1, steps_per_epoch=25, verbose=1, shuffle=False, callbacks=observers)
    # The first step is shown by the progress bar, the last one is that of the end of the epoch.
    assert set(reads) == {0, 1, 10, 20, 25}
    assert set(history.history) == set(method.progress_terms)
    assert history.history["loss/generator"] == [method.step_logs["loss/generator"]]


def test_the_progress_bar_shows_the_steps_of_the_log_and_then_the_last_one(build):
    method, shown = build(log_steps=2), []
    observer = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: shown.append((logs["loss/gan"], method.step_logs["loss/gan"])),
        on_epoch_end=lambda epoch, logs: shown.append((logs["loss/gan"], method.step_logs["loss/gan"])))
    method.progress_terms = ("loss/gan",)
    method.fit(_data(5), epochs=1, steps_per_epoch=5, verbose=0, shuffle=False, callbacks=[observer])
    bar, steps_themselves = zip(*shown)
    assert len(set(steps_themselves)) == 5
    one, two, _, four, five, end = steps_themselves
    assert bar == (one, two, two, four, four, end) and end == five


def test_terms_are_read_once_and_all_together():
    class Values:
        reads = 0

        def numpy(self) -> np.ndarray:
            self.reads += 1
            return np.array([0.5, -3.0], np.float32)

    values = Values()
    terms = StepTerms(["loss/a", "metric/b"], values)
    assert list(terms) == ["loss/a", "metric/b"] and len(terms) == 2 and values.reads == 0
    assert dict(terms) == {"loss/a": 0.5, "metric/b": -3.0} and terms["metric/b"] == -3.0
    assert values.reads == 1


# ---- the first bad step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides, found_at, saved", [
    ({}, 10, []), ({"checkpoint_steps": 2}, 4, [2]), ({"eval_steps": 6, "checkpoint_steps": 8}, 6, []),
    ({"image_steps": 5}, 5, []), ({"log_steps": 50}, 12, []), ({"log_steps": 1}, 3, []),
], ids=str)
def test_the_first_bad_step_is_named_late_and_nothing_is_saved_after_it(build, tmp_path, overrides, found_at, saved):
    method, now = build(**overrides), _StepNow()
    store = CheckpointStore(tmp_path, 9)
    writer = callbacks.make_writer(tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("nothing may be measured or drawn with such weights")

    nothing = evaluation.TestSet([np.zeros([8, 8, 3], np.uint8)], [], True)
    observers = [now, callbacks.NonFiniteStop(method, method.settings),
                 callbacks.PictureLogger(method, writer, method.settings.train.image_steps, nothing, fail),
                 callbacks.Evaluator(method, writer, method.settings, nothing, store, {"raw": fail}, []),
                 callbacks.CheckpointSaver(method, method.settings, store)]
    with pytest.raises(NonFiniteError) as error:
        method.fit(_data(30, bad=3), epochs=1, steps_per_epoch=12, verbose=0, shuffle=False, callbacks=observers)
    assert now.number == found_at
    assert str(error.value).startswith("step 3: not finite: loss/gan = nan; ")
    assert "gradient of discriminator/gain/kernel" in str(error.value)
    assert store.steps() == saved and store.marked("best") is None
    with pytest.raises(NonFiniteError, match="step 3: "):
        method.save(tmp_path / "by_hand")
    assert not (tmp_path / "by_hand").exists()


def test_a_run_that_is_asked_to_stop_does_not_save_a_bad_step(build, tmp_path):
    method = build()
    saver = callbacks.CheckpointSaver(method, method.settings, CheckpointStore(tmp_path, 9))
    ask = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: setattr(
        saver, "stop_requested", batch == 5))
    with pytest.raises(NonFiniteError, match="step 3: not finite"):
        method.fit(_data(9, bad=3), epochs=1, steps_per_epoch=9, verbose=0, shuffle=False, callbacks=[ask, saver])
    assert CheckpointStore(tmp_path, 9).steps() == []


def test_steps_are_counted_over_the_whole_run_and_a_new_fit_begins_anew(build, tmp_path):
    method = build()
    method.save(tmp_path)
    method.fit(_data(4), epochs=1, verbose=0, steps_per_epoch=4, shuffle=False)
    method.fit(_data(4, bad=2), epochs=1, verbose=0, steps_per_epoch=4, shuffle=False)
    with pytest.raises(NonFiniteError, match="step 6: not finite"):
        method.check_finite()
    method.restore(tmp_path)
    method.fit(_data(4), epochs=1, verbose=0, steps_per_epoch=4, shuffle=False)
    method.check_finite()


def test_a_record_that_nobody_asks_does_not_grow(monkeypatch):
    monkeypatch.setattr(step_terms, "_MOST_UNREAD", 4)
    record = StepRecord()
    for step in range(1, 12):
        record.add(step, StepTerms(["loss/a", "all_finite"], tf.constant([step, float(step not in (5, 9))])))
        assert len(record._unread) < 4
    step, terms = record.first_bad()
    assert (step, terms["loss/a"]) == (5, 5.0)


def test_the_message_names_terms_and_the_first_bad_weight_of_each_network():
    terms = {"loss/a": 1.0, "loss/b": float("inf"), "metric/c": float("nan"), "learning_rate/d": float("nan"),
             "non_finite/one": -1.0, "non_finite/two": 1.0, "all_finite": 0.0}
    message = non_finite_message(7, terms, lambda name: [f"{name}_first", f"{name}_second"])
    assert message.startswith("step 7: not finite: loss/b = inf; metric/c = nan; gradient of two/two_second. The last")


# ---- replicas --------------------------------------------------------------------------------------------------------


def test_replicas_exchange_their_terms_once_and_the_gradients_of_an_update_once(build, two_replicas, monkeypatch):
    with two_replicas.scope():
        method = build(batch_size=2)
    reduced, reduce = [], two_replicas.reduce
    monkeypatch.setattr(two_replicas, "reduce", lambda *args, **kwargs: reduced.append(args) or reduce(*args, **kwargs))
    step, names = method._compiled_step()
    data = two_replicas.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(steps.batch(2)).batch(1))
    graph = step.get_concrete_function(next(iter(data)), tf.constant(0.0)).graph
    assert len(reduced) == 1 and len(names) > 20
    # Three updates: of both generators, and of each discriminator; an operation per replica.
    assert sum(operation.type == "CollectiveReduceV2" for operation in graph.get_operations()) == 3 * 2


@pytest.mark.parametrize("stop", [False, True])
def test_each_step_tells_all_replicas_whether_a_process_is_to_stop(build, two_replicas, stop):
    with two_replicas.scope():
        method = build(batch_size=2)
    method.stop_requested = stop
    data = two_replicas.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(steps.batch(2)).batch(1))
    method.make_train_function()(iter(data))
    assert method.step_logs["stop_requested"] == stop and method.step_logs["all_finite"] == 1.0


def test_the_step_keeps_its_terms_on_the_device(build):
    """Compiled or not, terms come as one vector, in the order of their names."""
    for run_eagerly in (False, True):
        method = build()
        method.run_eagerly = run_eagerly
        method.make_train_function()(iter([steps.batch()]))
        assert method.step_logs.values_on_device.shape == (len(method.step_logs),)
        terms = dict(method.step_logs)
        assert terms["loss/generator"] == pytest.approx(sum(terms[name] for name in (
            "loss/gan", "loss/backward_gan", "loss/cycle_source", "loss/cycle_target", "loss/identity_source",
            "loss/identity_target")), rel=1e-5)
        assert terms["all_finite"] == 1.0 and terms["non_finite/generator"] == -1.0
