"""Signals around a run."""

import io
import logging
import signal

import pytest

from cut_tf.checkpoints import CheckpointStore
from cut_tf.methods import build_method
from cut_tf.training import trainer
from cut_tf.training.callbacks import CheckpointSaver
from tests.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_only_ask_to_stop_while_the_saver_is_entered(tmp_path, tiny_settings, number):
    settings = tiny_settings()
    saver = CheckpointSaver(build_method(settings), settings, CheckpointStore(tmp_path, 1))
    before = signal.getsignal(number)
    with saver:
        assert not saver.stop_requested
        signal.raise_signal(number)
        assert saver.stop_requested
    assert signal.getsignal(number) is before


class _Method:
    """As much of a method as the saver uses; `stop_requested` is what each process has told the others."""

    def __init__(self):
        self.stop_requested, self.step_logs = False, {"stop_requested": 0.0}
        self.stop_training = False

    def check_finite(self):
        pass

    def state(self):
        return {}


class _InterruptedPipe(io.RawIOBase):
    """A pipe: a signal comes in the middle of the first print."""

    def __init__(self):
        self.written = b""

    def writable(self):
        return True

    def write(self, data):
        first, self.written = not self.written, self.written + bytes(data)
        if first:
            signal.raise_signal(signal.SIGTERM)
        return len(data)


def test_a_signal_in_the_middle_of_a_print_is_told_too(tiny_settings):
    pipe = _InterruptedPipe()
    stream = io.TextIOWrapper(io.BufferedWriter(pipe))
    handler = logging.StreamHandler(stream)
    logging.getLogger("cut_tf").addHandler(handler)
    try:
        saver = CheckpointSaver(_Method(), tiny_settings(), _Store())
        with saver:
            print("step 7", file=stream, flush=True)
            wait_until(lambda: b"\n" in pipe.written[7:], "the signal is told", timeout_sec=20)
    finally:
        logging.getLogger("cut_tf").removeHandler(handler)
    assert pipe.written == b"step 7\nSIGTERM: stopping after this step\n"
    assert saver.stop_requested and saver._method.stop_requested


class _Store:
    def __init__(self):
        self.saved = []

    def save(self, state, step, settings):
        self.saved.append(step)


def test_processes_of_a_cluster_stop_after_the_same_step_whichever_was_asked(tiny_settings):
    """A step's terms are those that all processes exchanged in it."""
    settings, savers = tiny_settings(checkpoint_steps=100), []
    for _ in range(3):
        savers.append(CheckpointSaver(_Method(), settings, _Store(), alone=False))
        savers[-1].set_model(savers[-1]._method)
    for step in range(1, 8):
        if step == 4:
            with savers[2]:
                signal.raise_signal(signal.SIGTERM)
        asked = sum(saver._method.stop_requested for saver in savers) / 3
        for saver in savers:
            saver._method.step_logs = {"stop_requested": asked}
            saver.at_step(step)
        if any(saver._method.stop_training for saver in savers):
            break
    assert step == 5
    for saver in savers:
        assert saver.stop_requested and saver._method.stop_training and saver._store.saved == [5]


@pytest.mark.slow
def test_a_signal_between_two_fits_stops_the_run_with_its_step_saved(tmp_path, tiny_settings, monkeypatch):
    settings = tiny_settings(run=str(tmp_path / "run"), preprocess="crop", batch_size=1, steps_per_epoch=4,
                             method="paired", generator="mobile", generator_norm="none", checkpoint_steps=3,
                             image_steps=100, eval_steps=100)
    monkeypatch.setattr(trainer.Run, "total_steps", property(lambda run: 3))
    run = trainer.Run(settings)
    run.epochs = 1
    fit = trainer.Run._fit

    def fit_three_steps_then_signal(self, observers, verbose):
        self.method.fit(self.stream.dataset(0), steps_per_epoch=3, epochs=1, shuffle=False, callbacks=observers,
                        verbose=0)
        monkeypatch.setattr(trainer.Run, "total_steps", property(lambda run: 8))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(trainer.Run, "_fit", fit_three_steps_then_signal)
    outcome = run.train(verbose=0)
    assert (outcome.step, outcome.finished) == (3, False)
    assert run.store.steps() == [3]
    monkeypatch.setattr(trainer.Run, "_fit", fit)
    # A new process would go on to the end.
    assert trainer.Run(settings).train(verbose=0).step == 8
