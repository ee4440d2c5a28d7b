"""Training runs of `tools.reproduce`, each a process of its own, and what is measured of them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import cut_tf
from cut_tf import compat
from cut_tf.baselines import BASELINES
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.domain import TranslationData
from cut_tf.data.image_files import write_png
from cut_tf.metrics import DISTANCES, METRICS
from cut_tf.metrics.distances import FeatureStatistics, statistics_of
from cut_tf.metrics.features import feature_extractor
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator
from tools.plots.record import events_of
from tools.reproduce.budget import CONSTANT_EPOCHS, EPOCHS
from tools.reproduce.folder import RunError

PICTURES = 4
# How untrained rows translate: uint8 [H, W, 3] to uint8 of the same shape.
UNTRAINED = {"input": np.asarray, **BASELINES}
_MEASURES = {name: METRICS[name] for name in ("psnr", "ssim", "ciede2000")}
_LAST_LINES = 15
_WINDOWS = 40  # times that the speed of a run is noted, if it has so many steps
_CHECKPOINT_STEPS = (50, 500)  # least and greatest distance of checkpoints
_MIB = 2**20
# ru_maxrss is in KiB, on macOS in bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Asked(NamedTuple):
    """What is measured of a run besides its test pairs.

    Attributes:
      feature_extractor: that of FID and KID; empty to leave them out.
      checkpoints: whether these are measured at every kept checkpoint.
      clear: whether `clear_psnr` is measured, of what becomes of the clear test pictures against these themselves.
    """

    feature_extractor: str = ""
    checkpoints: bool = False
    clear: bool = False


class Trained(NamedTuple):
    """What the process of a run took.

    Attributes:
      train_sec: from its start to its end.
      peak_memory_mib: most memory that it held at once, without that of a GPU.
      continued_from_step: step of the checkpoint that it began with; 0 for a new run.
    """

    train_sec: float
    peak_memory_mib: float
    continued_from_step: int


def run_flags(run: Path, steps: int, seed: int, dataset: str, constant_epochs: int = CONSTANT_EPOCHS) -> list[str]:
    """The flags of `cut_tf.train` that the suite decides. `steps` is a multiple of EPOCHS."""
    return [f"--dataset={dataset}", f"--run={run}", f"--seed={seed}", f"--steps_per_epoch={steps // EPOCHS}",
            f"--constant_epochs={constant_epochs}", f"--decay_epochs={EPOCHS - constant_epochs}"]


def pace_flags(steps: int, checkpoints: bool = False) -> list[str]:
    """How often a run of that many steps notes its speed, saves and evaluates itself, which changes no weights.

    Its own evaluation takes few pictures and comes once: all test pairs are measured after the run. With `checkpoints`
    it keeps that of each epoch.
    """
    checkpoint_steps = max(min(steps // EPOCHS, _CHECKPOINT_STEPS[1]), min(steps, _CHECKPOINT_STEPS[0]))
    if checkpoints:
        return [*pace_flags(steps), f"--checkpoint_steps={steps // EPOCHS}", f"--keep_checkpoints={EPOCHS}"]
    return [f"--log_steps={max(steps // _WINDOWS, 1)}", f"--checkpoint_steps={checkpoint_steps}",
            f"--eval_steps={steps}", f"--image_steps={steps}", f"--test_images={PICTURES}"]


def train(arguments: Sequence[str], run: Path, log: Path, steps: int, started: Callable[[int], None],
          lock: int) -> Trained:
    """Trains, or continues, a run in a process of its own.

    Args:
      arguments: flags of `cut_tf.train`.
      run: its folder, as in `arguments`.
      log: file that gets what the process prints, behind what is in it.
      steps: of the whole run.
      started: called with the process id.
      lock: file descriptor that the process keeps open as long as it lives.

    Raises:
      RunError: if the process fails, or ends before the last step.
      KeyboardInterrupt: as it came, after the process has saved its state and ended.
    """
    before = CheckpointStore(run, keep=1, writes=False).steps()
    command = [sys.executable, "-m", "cut_tf.train", *arguments]
    paths = [str(Path(cut_tf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    since = time.monotonic()
    with open(log, "ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode("utf-8", "surrogateescape"))
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, pass_fds=[lock])
        started(process.pid)
        code, usage = _wait(process)
    seconds = time.monotonic() - since
    if code:
        raise RunError(f"{run}: training failed with exit code {code}; its last lines:\n{_last_lines(log)}\nAll of "
                       f"them are in {log}; the same command continues")
    done = CheckpointStore(run, keep=1, writes=False).marked("final")
    if done is None or done["step"] != steps:
        raise RunError(f"{run}: training was stopped before step {steps}, see {log}; the same command continues")
    return Trained(seconds, usage.ru_maxrss * RSS_UNIT / _MIB, before[-1] if before else 0)


def _wait(process: subprocess.Popen) -> tuple[int, Any]:
    """Exit code, negative for a signal, and resource usage of that process alone."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()  # cut_tf.train saves its state then
        process.wait()
        raise
    process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return process.returncode, usage


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


def check_extractor(name: str) -> None:
    """Raises InputError if there is no such feature extractor, or its weights cannot be had."""
    feature_extractor(name)


def evaluate(row: str, run: Path | None, settings: Settings, pictures: Path, asked: Asked) -> dict[str, Any]:
    """Measures a row on all test pictures at full size, and writes the first PICTURES outputs as PNG files.

    Args:
      row: its name, which for an untrained one tells how it translates.
      run: folder of the finished run, whose EMA weights are used (raw ones if it keeps none); None if untrained.
      settings: whose dataset is read.
      pictures: folder for 0.png, 1.png, ...; made if missing.
      asked: what to measure besides pairs.

    Returns:
      `metrics`, by name: of pairs, means over the pictures of PSNR in dB (those with a finite one), SSIM and CIEDE2000;
      if asked for, the `distances` of the last and the best checkpoint; `test_pictures`, `machine`, and of a run
      `step_sec`, `settings` and `checkpoints`, the FID and KID by step.
    """
    translate = Translator(run, "") if run else UNTRAINED[row]
    test = open_dataset(settings)
    outputs = [translate(test.test_source.load(index)) for index in range(len(test.test_source))]
    pictures.mkdir(parents=True, exist_ok=True)
    for index, output in enumerate(outputs[:PICTURES]):
        write_png(pictures / f"{index}.png", output)
    result: dict[str, Any] = {"metrics": _pair_metrics(outputs, test) if test.test_paired else {},
                              "test_pictures": len(outputs), "machine": machine()}
    if asked.clear:
        result["metrics"]["clear_psnr"] = _clear_psnr(translate, test)
    if asked.feature_extractor:
        distances = _Distances(asked.feature_extractor, test)
        result["feature_extractor"] = dict(distances.of_targets.description)
        result["metrics"].update(distances.to(outputs))
        if run and asked.checkpoints:
            result["checkpoints"] = {str(step): distances.to(at_step) for step, at_step in
                                     _earlier_outputs(translate, run, test)}
            result["checkpoints"][str(translate.step)] = distances.to(outputs)
            best = min(result["checkpoints"].values(), key=lambda values: values["fid"])
            result["metrics"].update({f"{name}_best": value for name, value in best.items()})
    if run:
        result["step_sec"] = median_step_sec(run)
        result["settings"] = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    return result


def _pair_metrics(outputs: Sequence[np.ndarray], test: TranslationData) -> dict[str, float | None]:
    values: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for index, output in enumerate(outputs):
        target = test.test_target.load(index)
        if output.shape != target.shape:
            raise InputError(f"{test.test_target.name(index)}: must have the size of its hazy picture, "
                             f"{output.shape[1]}x{output.shape[0]}, found {target.shape[1]}x{target.shape[0]}")
        for name, measure in _MEASURES.items():
            values[name].append(float(measure(output[None], target[None])[0]))
    finite = {name: [value for value in column if np.isfinite(value)] for name, column in values.items()}
    return {name: float(np.mean(column)) if column else None for name, column in finite.items()}


def _clear_psnr(translate: Callable[[np.ndarray], np.ndarray], test: TranslationData) -> float | None:
    """Mean over the clear test pictures of PSNR in dB between each and its translation; None if none changes at all."""
    values = []
    for index in range(len(test.test_target)):
        picture = test.test_target.load(index)
        values.append(float(METRICS["psnr"](translate(picture)[None], picture[None])[0]))
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


class _Distances:
    """FID and KID of outputs to all test pictures of the target domain."""

    def __init__(self, name: str, test: TranslationData) -> None:
        self._extractor = feature_extractor(name)
        self.of_targets = self._statistics(test.test_target.load(index) for index in range(len(test.test_target)))

    def _statistics(self, pictures: Iterable[np.ndarray]) -> FeatureStatistics:
        return statistics_of(self._extractor, pictures, "test pictures")

    def to(self, outputs: Sequence[np.ndarray]) -> dict[str, float]:
        """`fid` and `kid` of uint8 [h, w, 3] each."""
        found = self._statistics(outputs)
        return {name: distance(found, self.of_targets).value for name, distance in DISTANCES.items()}


def _earlier_outputs(translate: Translator, run: Path,
                     test: TranslationData) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Step and test outputs of each kept checkpoint but the last. The weights of `translate` are changed."""
    store = CheckpointStore(run, keep=1, writes=False)
    prefix = "ema_generator" if translate.settings.optimizer.ema_decay > 0 else "generator"
    weights = {f"{prefix}/{name}": variable for name, variable in
               compat.named_weights(translate.generator).items()}
    for step in store.steps():
        if step != translate.step:
            store.restore(weights, step, partial=True)
            yield step, (translate(test.test_source.load(index)) for index in range(len(test.test_source)))


def median_step_sec(run: Path) -> float:
    """Seconds per step: the median of what the run noted every --log_steps steps.

    The first note of each process that trained counts only where there is no other, since it has the compilation in it.
    """
    first, later = [], []
    for path in sorted((run / "events").glob("events.out.tfevents.*")):
        notes = [float(tf.make_ndarray(value.tensor)) for event in events_of(path)
                 for value in event.summary.value if value.tag == "speed/step_sec"]
        first += notes[:1]
        later += notes[1:]
    if not first:
        raise InputError(f"{run}/events: must have the speed of the run, found no note of it")
    return statistics.median(later or first)


def machine() -> dict[str, Any]:
    """Versions and hardware that a number depends on."""
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")]
    return {"cut_tf": cut_tf.__version__, "TensorFlow": tf.__version__, "Keras": keras.__version__,
            "Python": platform.python_version(), "CPU": f"{_cpu()}, {os.cpu_count()} cores",
            "GPU": ", ".join(gpus) or "none"}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
