"""A training run from settings to results, new or continued."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf.checkpoints import CheckpointStore, check_same_settings, run_folder, write_settings
from cut_tf.common import registry
from cut_tf.common.errors import InputError
from cut_tf.common.files import only_process
from cut_tf.data import open_dataset
from cut_tf.data.checks import check_least_side
from cut_tf.data.domain import TranslationData
from cut_tf.data.image_files import write_image
from cut_tf.data.pipeline import TrainingStream, load_test_images
from cut_tf.methods import METHODS, build_method, stored_steps
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.optimizers import SCHEDULES
from cut_tf.metrics import DISTANCES, METRICS
from cut_tf.metrics.distances import MIN_IMAGES
from cut_tf.metrics.features import FeatureExtractor, feature_extractor
from cut_tf.settings import Settings
from cut_tf.settings.fields import require
from cut_tf.training import callbacks, distribution, evaluation, lost_processes, overview, run_inputs
from cut_tf.training.evaluation import TestSet
from cut_tf.translators.run import compile_generator

_LOG = logging.getLogger(__name__)
# In messages of TensorFlow about the files that TensorBoard reads.
_EVENTS_FILE = "events.out.tfevents"

_PREVIEW_PICTURES = 4


class Outcome(NamedTuple):
    """How a run ended."""

    step: int
    finished: bool
    # Measures on the test set, by "input", "raw", "ema"; empty without test pairs and --distribution_metric, or if
    # stopped early.
    metrics: dict[str, dict[str, float]]


class Run:
    """One run folder and all that a training process needs for it.

    Args:
      settings: of the run; `settings.train.run` is the folder.

    Raises:
      InputError: for anything wrong with settings, data, devices or an existing run folder, before any step.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if not settings.train.run:
            raise InputError("--run must name the folder of the run, found nothing")
        method = registry.lookup(METHODS, settings.train.method, "--method").load()
        self.folder = run_folder(settings.train.run)
        check_same_settings(self.folder, settings)
        # Before the data, since some datasets use TensorFlow, and devices can only be chosen before that.
        self.devices = distribution.set_up(settings)
        self.data = open_dataset(settings)
        _LOG.info("%s", self.data.description)
        self.stream = TrainingStream(self.data, settings.data, settings.train.seed, method.paired)
        self.inputs = run_inputs.settle(self.folder, self.stream, settings)
        self.steps_per_epoch = self.inputs.steps_per_epoch
        self.epochs = settings.optimizer.constant_epochs + settings.optimizer.decay_epochs
        self.store = CheckpointStore(self.folder, settings.train.keep_checkpoints, self.devices.is_chief)
        self.extractor = self._extractor()
        with self._lost_processes_named():
            self.method = self._build()
        self._check_sides()
        self.translations = {"raw": compile_generator(self.method.generator)}
        if self.method.ema_generator is not None:
            self.translations["ema"] = compile_generator(self.method.ema_generator)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def _lost_processes_named(self) -> contextlib.AbstractContextManager:
        return lost_processes.named(self.devices.cluster, self.store.steps)

    def _build(self) -> TranslationMethod:
        optimizer, steps = self.settings.optimizer, self.store.steps()
        settings = self.inputs.pinned(self.settings)
        if steps:  # the run that it began with is not needed any more
            settings = settings.having(init_from="")
        with self.devices.strategy.scope():
            method = build_method(settings)
            method.compile(SCHEDULES[optimizer.schedule](
                optimizer.learning_rate, optimizer.constant_epochs, optimizer.decay_epochs, self.steps_per_epoch))
        if steps:
            self.store.restore(method.state(), steps[-1])
            _LOG.info("continuing %s from step %d of %d", self.folder, steps[-1], self.total_steps)
        graphs = stored_steps.cache_folder(settings.train.step_cache)
        if graphs is not None:
            method.wrap_step = stored_steps.StoredStep(graphs, method)
        return method

    def _check_sides(self) -> None:
        """Crops of a size are checked with the settings; pictures that are taken as they are, here."""
        data, patchgan = self.settings.data, self.settings.patchgan
        if data.preprocess == "none" and any("discriminator" in name for name in self.method.networks):
            check_least_side(self.stream.domains, data, patchgan.least_side_px(),
                             f"--discriminator_layers={patchgan.discriminator_layers}")

    def _extractor(self) -> FeatureExtractor | None:
        """That of --distribution_metric, in the process that evaluates."""
        asked, data = self.settings.evaluation, self.data
        of_pairs = tuple(name for name in METRICS if METRICS[name].in_training)
        require(asked.best_metric in (*of_pairs, asked.distribution_metric), "best_metric",
                f"{', '.join(of_pairs)} or --distribution_metric ({asked.distribution_metric})", asked.best_metric)
        if asked.distribution_metric == "none":
            return None
        split = min(len(domain) if domain is not None else 0 for domain in (data.test_source, data.test_target))
        pictures = min(split, self.settings.data.test_images)
        if pictures < MIN_IMAGES:
            raise InputError(f"--distribution_metric must be none unless each side of the test split has {MIN_IMAGES} "
                             f"pictures and --test_images is {MIN_IMAGES} at least, found {asked.distribution_metric} "
                             f"with {split} pictures and --test_images={self.settings.data.test_images}")
        if not self.devices.is_chief:
            return None
        extractor = feature_extractor(asked.feature_extractor, asked.inception_weights)
        if asked.distribution_metric == "fid" and pictures < extractor.dimension:
            _LOG.warning("FID of %d pictures with %d features is biased upwards: compare it only within runs with as "
                         "many pictures, or use --distribution_metric=kid", pictures, extractor.dimension)
        return extractor

    def train(self, verbose: int | None = None, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Outcome:
        """Runs to the end, or until asked to stop.

        Args:
          verbose: Keras progress bar: 1 bar, 2 a line per epoch, 0 nothing; chosen by the terminal if None.
          callbacks: more of Keras' callbacks, EarlyStopping for example. One that stops the model ends the run like a
            signal: its step is saved, and the same settings continue it.

        Raises:
          InputError: if a picture cannot be read or the disk is full; steps since the last checkpoint are lost.
          NonFiniteError: if a term or gradient is not finite; the last checkpoint is from before.
          LostProcessError: if another process of the run is gone; the last checkpoint is whole.
        """
        with self._lost_processes_named(), self._own_folder(), self._files_named():
            return self._train(verbose, callbacks)

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[None]:
        """A context in which the chief alone writes the run's folder. It begins without what a killed process left."""
        if not self.devices.is_chief:
            yield
            return
        write_settings(self.folder, self.settings)
        with only_process(self.folder, f"--run={self.folder} must be trained"):
            self._check_unchanged()
            run_inputs.write(self.folder, self.inputs)
            self.store.remove_leftovers()
            yield

    @contextlib.contextmanager
    def _files_named(self) -> Iterator[None]:
        """A context in which TensorFlow's errors about pictures, and about TensorBoard's files, become InputErrors."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.stream.error is not None:
                raise InputError(f"step {self._step() + 1}: {self.stream.error}") from error
            if _EVENTS_FILE in str(error):
                raise InputError(f"{self.folder}/events: must be writable, found {type(error).__name__}: "
                                 f"{next(iter(str(error).splitlines()), '')}") from error
            raise

    def _check_unchanged(self) -> None:
        """Raises InputError if another process has written the folder since this one looked into it."""
        check_same_settings(self.folder, self.settings)
        newest = max(self.store.steps(), default=0)
        if newest > self._step():
            raise InputError(f"--run={self.folder} must be trained by one process at a time, found step {newest} of "
                             "one that ended just now; the same command goes on from there")

    def _train(self, verbose: int | None, extra: Sequence[keras.callbacks.Callback]) -> Outcome:
        test_set = self._test_set()
        saver, evaluator, observers = self._observers(test_set)
        verbose = (1 if sys.stdout.isatty() else 2) if verbose is None else verbose
        with saver:
            stopped = False
            while self._step() < self.total_steps and not saver.stop_requested and not stopped:
                self._fit([*observers, *extra], verbose if self.devices.is_chief else 0)
                stopped = bool(self.method.stop_training)
            return self._finish(saver, evaluator, test_set)

    def _finish(self, saver: callbacks.CheckpointSaver, evaluator: callbacks.Evaluator | None,
                test_set: TestSet) -> Outcome:
        step = self._step()
        self.store.save(self.method.state(), step, self.settings)
        if step < self.total_steps:
            _LOG.info("stopped at step %d of %d; the same command continues", step, self.total_steps)
            return Outcome(step, False, {})
        self.store.mark("final", step)
        return Outcome(step, True, self._final_metrics(test_set, evaluator))

    def _inference_translation(self) -> evaluation.Translation:
        return self.translations.get("ema", self.translations["raw"])

    def _step(self) -> int:
        return int(self.method.step.numpy())

    def _fit(self, observers: list, verbose: int) -> None:
        """Trains to the end of the run, or only to the end of an epoch that was begun before."""
        step = self._step()
        epoch, done = divmod(step, self.steps_per_epoch)
        batches = self.devices.batches(self.stream, step)
        try:
            self.method.fit(batches, initial_epoch=epoch, epochs=epoch + 1 if done else self.epochs,
                            steps_per_epoch=self.steps_per_epoch - done, shuffle=False, callbacks=observers,
                            verbose=int(verbose == 1))  # lines are written by OverallProgress
        except BaseException as error:
            _release_frames(error)  # which hold the batches
            raise
        finally:
            # The threads that read ahead end here. At the end of the process, where Python stops all threads at any
            # place, TensorFlow would wait for them: for seconds, or for ever.
            del batches
            gc.collect()

    def _observers(self, test_set: TestSet) -> tuple[callbacks.CheckpointSaver, callbacks.Evaluator | None, list]:
        train = self.settings.train
        saver = callbacks.CheckpointSaver(self.method, self.settings, self.store, self.devices.workers == 1)
        stop = callbacks.NonFiniteStop(self.method, self.settings)
        if not self.devices.is_chief:
            return saver, None, [stop, saver]
        writer = callbacks.make_writer(self.folder)
        if self._step() == 0:
            overview.write_overview(writer, self.settings)
        observers = [stop, callbacks.ScalarLogger(self.method, writer, train.log_steps, self.settings.data.batch_size),
                     callbacks.PictureLogger(self.method, writer, train.image_steps, test_set,
                                             self._inference_translation())]
        measures, evaluator = self._measures(test_set), None
        if measures:
            evaluator = callbacks.Evaluator(self.method, writer, self.settings, test_set, self.store,
                                            self.translations, measures)
            observers.append(evaluator)
        progress = callbacks.OverallProgress(self.method, self.steps_per_epoch, self.epochs)
        return saver, evaluator, [*observers, saver, progress]

    def _measures(self, test_set: TestSet) -> list[evaluation.Measure]:
        measures: list[evaluation.Measure] = []
        if test_set.paired:
            measures.append(lambda outputs: evaluation.mean_metrics(outputs, test_set.targets))
        if self.extractor is not None:
            measures.append(evaluation.DistributionMeasure(self.settings.evaluation.distribution_metric, self.extractor,
                                                           test_set.targets))
        return measures

    def _test_set(self) -> TestSet:
        """The test split, or the first training pictures where there is none."""
        data: TranslationData = self.data
        most = None if data.test_paired or self.extractor is not None else _PREVIEW_PICTURES
        sources, targets = (load_test_images(domain, self.settings.data, most) for domain in
                            (data.test_source or data.source, data.test_target or data.target))
        return TestSet(sources, targets, data.test_paired)

    def _final_metrics(self, test_set: TestSet, evaluator: callbacks.Evaluator | None) -> dict[str, dict[str, float]]:
        if evaluator is None:
            return {}
        if test_set.paired:
            outputs = evaluation.translate_all(self._inference_translation(), test_set.sources[:_PREVIEW_PICTURES])
            picture = evaluation.grid([column[:_PREVIEW_PICTURES]
                                       for column in (test_set.sources, outputs, test_set.targets)])
            write_image(self.folder / "comparison.png", picture)
        before, found = evaluator.measure(test_set.sources), evaluator.evaluate()
        evaluator.mark_if_best(self._step(), found)
        return {"input": before, **found}


def _scores(values: dict[str, float], before: dict[str, float]) -> str:
    texts = []
    if "psnr" in values:
        texts = [f"PSNR {values['psnr']:6.2f} dB", f"SSIM {values['ssim']:.4f}"]
        texts += [f"gain {values['psnr'] - before['psnr']:+.2f} dB"] if before else []
    return "   ".join(texts + [f"{name.upper()} {values[name]:.5g}" for name in DISTANCES if name in values])


def summary(run: Run, outcome: Outcome) -> str:
    """What a person wants to read at the end of a run."""
    lines = [f"step {outcome.step} of {run.total_steps}" + ("" if outcome.finished else ", stopped")]
    if outcome.metrics:
        paired = run.data.test_paired
        lines.append(f"{len(run.data.test_source)} test {'pairs' if paired else 'pictures'}, first "
                     f"{min(len(run.data.test_source), run.settings.data.test_images)} used; "
                     f"{'means of full RGB images' if paired else 'full RGB images'}")
        before = outcome.metrics["input"]
        lines += [f"  {name:6s} {_scores(values, {} if name == 'input' else before)}"
                  for name, values in outcome.metrics.items()]
        if paired:
            lines.append(f"comparison (input | output | target): {run.folder / 'comparison.png'}")
    lines.append(f"tensorboard --logdir={run.folder} --samples_per_plugin=images=0")
    return "\n".join(lines)


def _release_frames(error: BaseException | None) -> None:
    """Lets go of the local variables of the calls that an error, and those behind it, came through.

    Keras leaves its own calls out of the traceback, but the calls that they made still lead to them.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            while frame is not None:
                try:
                    frame.clear()
                except RuntimeError:  # this call still runs, and so do those above it
                    break
                frame = frame.f_back
        error = error.__cause__ or error.__context__
