"""Callbacks of a run: logging, evaluation, checkpoints, stopping."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common import places
from cut_tf.methods.base import TranslationMethod
from cut_tf.metrics import IN_TRAINING
from cut_tf.settings import Settings
from cut_tf.training import early_signals, evaluation
from cut_tf.training.evaluation import Measure, TestSet, Translation

_LOG = logging.getLogger(__name__)

# Settings that a continued run may change and that change what its metrics are of.
_MEASURED_WITH = ("test_images", "test_pairs", "crop_border_px", "feature_extractor")
# Rows of the picture grid; more would be too small to see.
_GRID_ROWS = 4


class StepCallback(keras.callbacks.Callback):
    """Calls `at_step(step)` after every `every`-th step, counted over the whole run.

    Args:
      method: the model in training.
      every: steps.
    """

    def __init__(self, method: TranslationMethod, every: int = 1) -> None:
        super().__init__()
        self._method = method
        self._every = every
        self._step = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._step = int(self._method.step.numpy())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        if self._step % self._every == 0:
            self.at_step(self._step)

    def at_step(self, step: int) -> None:
        raise NotImplementedError


class NonFiniteStop(StepCallback):
    """Raises NonFiniteError if a term or a gradient of any step so far is not finite.

    It checks where the run waits for the device anyway: at steps of the log, of pictures, of evaluations and of
    checkpoints, and at the end of an epoch. So steps in between overlap, and nothing is ever saved after a bad one. It
    must come before the callbacks that save. All processes of a run check at the same steps, and stop together.
    """

    def __init__(self, method: TranslationMethod, settings: Settings) -> None:
        super().__init__(method)
        train = settings.train
        self._looks_every = (train.log_steps, train.image_steps, settings.evaluation.eval_steps, train.checkpoint_steps)

    def at_step(self, step: int) -> None:
        if any(step % every == 0 for every in self._looks_every):
            self._method.check_finite()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._method.check_finite()


class ScalarLogger(StepCallback):
    """Terms, learning rates, gradient norms, speed and input wait to TensorBoard."""

    def __init__(self, method: TranslationMethod, writer: tf.summary.SummaryWriter, every: int,
                 batch_size: int) -> None:
        super().__init__(method, every)
        self._writer = writer
        self._batch_size = batch_size
        self._input_wait_sec = 0.0
        self._since = (0, time.perf_counter())

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self._since = (self._step, time.perf_counter())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._input_wait_sec += self._method.input_wait_sec
        super().on_train_batch_end(batch, logs)

    def at_step(self, step: int) -> None:
        steps, seconds = step - self._since[0], time.perf_counter() - self._since[1]
        with self._writer.as_default(step=step):
            for name, value in self._method.step_logs.items():
                if not name.startswith(("non_finite/", "all_finite", "stop_requested")):
                    tf.summary.scalar(name, value)
            tf.summary.scalar("speed/step_sec", seconds / steps)
            tf.summary.scalar("speed/images_per_sec", steps * self._batch_size / seconds)
            tf.summary.scalar("speed/input_wait_sec", self._input_wait_sec / steps)
        self._input_wait_sec = 0.0
        self._since = (step, time.perf_counter())


class PictureLogger(StepCallback):
    """Picture grids, colour statistics, alarms and weight histograms to TensorBoard."""

    def __init__(self, method: TranslationMethod, writer: tf.summary.SummaryWriter, every: int, test_set: TestSet,
                 translate: Translation) -> None:
        super().__init__(method, every)
        self._writer = writer
        self._test_set = test_set
        self._translate = translate

    def at_step(self, step: int) -> None:
        sources, targets = self._test_set.sources, self._test_set.targets
        outputs = evaluation.translate_all(self._translate, sources)
        third = targets
        if not self._test_set.paired:
            third = evaluation.translate_all(self._translate, targets[:_GRID_ROWS])
        statistics = evaluation.output_statistics(sources, outputs)
        with self._writer.as_default(step=step):
            columns = [list(column)[:min(_GRID_ROWS, len(third))] for column in (sources, outputs, third)]
            name = "source_output_target" if self._test_set.paired else "source_output_identity"
            tf.summary.image(name, evaluation.grid(columns)[None])
            for key, value in statistics.items():
                tf.summary.scalar(key, value)
            for name, network in self._method.networks.items():
                for key, weight in compat.named_weights(network).items():
                    tf.summary.histogram(f"{name}/{key}", weight)
            for name, values in self._method.histograms().items():
                tf.summary.histogram(name, values)
        if statistics["alarm/copy"]:
            _LOG.warning("step %d: outputs equal their inputs (mean difference %.2f levels); a smaller "
                         "--nce_weight lets them change more", step, statistics["alarm/change_levels"])
        if statistics["alarm/collapse"]:
            _LOG.warning("step %d: outputs of different inputs hardly differ (%.2f of the inputs' variety); a "
                         "larger --nce_weight or a smaller --learning_rate may help", step,
                         statistics["alarm/variety_ratio"])


class Evaluator(StepCallback):
    """Measures of the translated test sources, for running means and raw weights; marks the best checkpoint.

    Args:
      translations: by kind of weights, `raw` and, if the run keeps running means, `ema`.
      measures: of pairs or of distributions, each with names of its own.
    """

    def __init__(self, method: TranslationMethod, writer: tf.summary.SummaryWriter, settings: Settings,
                 test_set: TestSet, store: CheckpointStore, translations: dict[str, Translation],
                 measures: Sequence[Measure]) -> None:
        super().__init__(method, settings.evaluation.eval_steps)
        self._writer = writer
        self._translations = translations
        self._settings = settings
        self._test_set = test_set
        self._store = store
        self._measures = measures

    def at_step(self, step: int) -> None:
        results = self.evaluate()
        with self._writer.as_default(step=step):
            for weights, metrics in results.items():
                for name, value in metrics.items():
                    tf.summary.scalar(f"eval_{weights}/{name}", value)
        self.mark_if_best(step, results)

    def mark_if_best(self, step: int, results: dict[str, dict[str, float]]) -> None:
        """Saves this step and names it the best if its `results`, those of `evaluate`, are."""
        weights = "ema" if "ema" in results else "raw"
        metric = self._settings.evaluation.best_metric
        if metric not in results[weights]:  # PSNR or SSIM, without pairs
            return
        value, best = results[weights][metric], self._store.marked("best")
        if not math.isfinite(value):  # of pictures that equal their targets: nothing could ever be better
            return
        settings = self._settings.flat()
        measured = {"metric": metric, "with": {name: settings[name] for name in _MEASURED_WITH}}
        sign = 1.0 if IN_TRAINING[metric].better == "higher" else -1.0
        # A best value of another metric, or of other test pictures, cannot be compared with this one.
        other = best is None or any(best.get(name, here) != here for name, here in measured.items())
        if other or sign * value > sign * best["value"]:
            self._store.save(self._method.state(), step, self._settings)
            self._store.mark("best", step, **measured, value=value, weights=weights)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """All measures by kind of weights."""
        return {weights: self.measure(evaluation.translate_all(translate, self._test_set.sources))
                for weights, translate in self._translations.items()}

    def measure(self, outputs: Sequence[np.ndarray]) -> dict[str, float]:
        """All measures of outputs, uint8 [h, w, 3] each, in the order of the test set's sources."""
        return {name: value for measure in self._measures for name, value in measure(outputs).items()}


class CheckpointSaver(StepCallback):
    """Saves every `checkpoint_steps` steps, and when a process of the run gets SIGTERM or SIGINT.

    A context manager around the run: inside it, these signals no longer end the process. A single process stops after
    its current step. A process of a cluster must not stop alone, since the others would wait for it. There the next
    step tells all processes that one was asked, as its term `stop_requested`. They read it one step later, when it has
    arrived anyway, and all of them stop after that same step.

    Args:
      method: the model in training.
      settings: of the run.
      store: where it saves.
      alone: whether this is the only process.

    Attributes:
      stop_requested: whether the run is to stop, in a cluster as all processes agree.
    """

    def __init__(self, method: TranslationMethod, settings: Settings, store: CheckpointStore,
                 alone: bool = True) -> None:
        super().__init__(method)
        self._settings = settings
        self._store = store
        self._alone = alone
        self._previous_handlers = {}
        self._previous_terms: Mapping[str, float] = {}
        self.stop_requested = False

    def __enter__(self) -> CheckpointSaver:
        """Handles the signals from here on. Not in `fit`: a run may need two, and a signal may come in between."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous_handlers[number] = signal.signal(number, self._request_stop)
        early = early_signals.release()
        self._previous_handlers.update(early.handlers)
        for number in early.kept:
            self._request_stop(number, None)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        while self._previous_handlers:
            number, handler = self._previous_handlers.popitem()
            # None is a handler that Python did not set, such as TensorFlow's in a cluster.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _request_stop(self, number: int, frame: object) -> None:
        del frame
        when = "after this step" if self._alone else "with all processes, in two steps"
        # In a thread: the signal may have come in the middle of a print, in which Python lets nobody print.
        threading.Thread(target=_LOG.warning, args=("%s: stopping %s", signal.Signals(number).name, when)).start()
        self._method.stop_requested = True
        self.stop_requested = self._alone

    def at_step(self, step: int) -> None:
        if not self._alone:
            self.stop_requested = self.stop_requested or self._previous_terms.get("stop_requested", 0.0) > 0.0
            self._previous_terms = self._method.step_logs
        if step % self._settings.train.checkpoint_steps == 0 or self.stop_requested:
            self._method.check_finite()
            self._store.save(self._method.state(), step, self._settings)
        if self.stop_requested:
            self.model.stop_training = True


class OverallProgress(keras.callbacks.Callback):
    """Logs one line at the end of every epoch: the whole run's progress, the time left, and the terms.

    The time left is estimated without the first step, which compiles. Under Keras' live bar, which shows the terms
    itself, the line leaves them out.
    """

    def __init__(self, method: TranslationMethod, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._method = method
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._start: tuple[int, float] | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._start is None:
            self._start = (int(self._method.step.numpy()), time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        step, total = int(self._method.step.numpy()), self._epochs * self._steps_per_epoch
        line = f"epoch {epoch + 1} of {self._epochs}, step {step} of {total}"
        if self._start is not None and step > self._start[0]:
            step_sec = (time.perf_counter() - self._start[1]) / (step - self._start[0])
            line += f", {step_sec:.3g} s a step, {(total - step) * step_sec / 60:.1f} min left"
        if logs and not (self.params or {}).get("verbose"):
            line += ": " + ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        _LOG.info("%s", line)


def make_writer(run: Path) -> tf.summary.SummaryWriter:
    """TensorBoard events in RUN/events. Raises InputError if they cannot be written."""
    with places.named(str(run / "events"), "must be writable"):
        return tf.summary.create_file_writer(str(run / "events"))
