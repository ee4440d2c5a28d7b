"""The kind of `tools.reproduce` that measures the speed and the memory of training steps, and trains nothing.

Each row is built anew, in a process of its own, once per seed; all rows take their turn before any is repeated, so that
whatever else the machine does hits all of them alike. Pictures are noise in memory: reading data is left out.
"""

from __future__ import annotations

import itertools
import json
import math
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.layers.kernels import on_gpu
from cut_tf.methods import build_method
from tools.benchmark import measuring
from tools.reproduce import report, runs
from tools.reproduce.folder import Options, Reproduction
from tools.reproduce.rows import settings_of
from tools.reproduce.suites import Row

_STEPS = 5
_WARM_UP_STEPS = 2
_REFERENCE = "cyclegan"
_MIB = 2**20


class SpeedReproduction(Reproduction):
    """Seconds per step and peak memory of each row, as ratios to CycleGAN."""

    def __init__(self, options: Options) -> None:
        for flag, given in (("dataset", options.dataset != "scenes"), ("budget_minutes", options.budget_minutes),
                            ("feature_extractor", options.feature_extractor)):
            if given:
                raise InputError(f"--{flag} must be left out with --suite={options.suite}, found "
                                 f"{getattr(options, flag)}")
        super().__init__(options)
        if self._settings.data.preprocess == "none":
            raise InputError(f"--set=preprocess must leave crops of --crop_size_px with --suite={options.suite}, found "
                             "none")

    def _first_steps(self) -> int:
        return self._options.steps or _STEPS

    def _measure(self, row: Row, seed: int | None, lock: int) -> dict[str, Any]:
        return measuring.in_own_process(measure, [*self._common, *row.flags, f"--seed={seed}"],
                                        self._plan["steps"])

    def _took_sec(self, result: Mapping[str, Any]) -> float | None:
        return result["took_sec"]

    def _report(self, results: list[dict[str, Any]]) -> tuple[str, list[str]]:
        data, generator = self._settings.data, self._settings.generator
        return table(self._rows, results, self._suite.paper), [
            f"Training steps on noise of {data.crop_size_px} px, batch {data.batch_size}, ngf {generator.ngf}, "
            f"generator_blocks {generator.generator_blocks}, {self._settings.devices.precision}: medians over "
            f"{self._plan['steps']} steps after {_WARM_UP_STEPS}, then mean and, after ±, standard deviation over "
            "repeats (divisor n - 1). Each repeat is a process of its own, and rows take turns. Ratios are those to "
            "CycleGAN in the same repeat. images/s: of each domain. Peak memory: of the whole process, TensorFlow "
            "itself included, without that of a GPU; with a GPU, of the GPU alone.", self._suite.source]

    def _title(self) -> str:
        return self._options.suite


def measure(arguments: Sequence[str], steps: int) -> dict[str, Any]:
    """Times steps of a method. To be called in a new process, whose peak memory counts.

    Args:
      arguments: flags of `cut_tf.train`.
      steps: to time, after the warm-up.

    Returns:
      `step_secs`, each step; `step_sec`, their median; `images_per_sec`; `peak_memory_mib`, that of the GPU if there is
      one; `took_sec`, everything; `steps`, `metrics` (none), `settings`, `machine`.
    """
    since = time.monotonic()
    settings = settings_of(arguments)
    data = settings.data
    method = build_method(settings)
    method.compile()
    shape = [data.batch_size, data.crop_size_px, data.crop_size_px, 3]
    batch = {name: tf.random.stateless_uniform(shape, [settings.train.seed, index], -1.0, 1.0)
             for index, name in enumerate(("source", "target"))}
    train_function, batches, times = method.make_train_function(), itertools.repeat(batch), []
    for step in range(_WARM_UP_STEPS + steps):
        start = time.perf_counter()
        train_function(batches)
        float(method.step_logs["all_finite"])  # waits for the device
        if step >= _WARM_UP_STEPS:
            times.append(time.perf_counter() - start)
    step_sec = statistics.median(times)
    return {"step_sec": step_sec, "step_secs": times, "images_per_sec": data.batch_size / step_sec,
            "peak_memory_mib": peak_memory_mib(), "steps": steps, "metrics": {}, "machine": runs.machine(),
            "settings": json.loads(settings.to_json()), "took_sec": time.monotonic() - since}


def peak_memory_mib() -> float:
    """Most memory in MiB that this process, or its GPU, held at once."""
    if on_gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / _MIB
    peak_mib = measuring.status_mib("VmHWM")
    # getrusage would tell that of the parent too, from before this process had its program.
    if not math.isnan(peak_mib):
        return peak_mib
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * runs.RSS_UNIT / _MIB


def table(rows: Sequence[Row], results: Sequence[Mapping[str, Any]], paper: Sequence[str]) -> str:
    """The Markdown table of all rows that have a result.

    Args:
      rows: of the suite; `paper` of a row has seconds of a step and memory.
      results: each with `row`, `seed`, `step_sec`, `images_per_sec`, `peak_memory_mib`.
      paper: headings of the paper's two numbers.
    """
    reference = {result["seed"]: result for result in results if result["row"] == _REFERENCE}
    papers = {row.name: [float(text) for text in row.paper] for row in rows if row.paper}
    spread, lines = report.mean_and_spread, []
    for row in rows:
        found = [result for result in results if result["row"] == row.name]
        if not found:
            continue
        cells = [row.label, str(len(found)), spread([result["step_sec"] for result in found], 3),
                 spread([result["images_per_sec"] for result in found], 3),
                 spread([result["peak_memory_mib"] for result in found], 0)]
        for index, key in enumerate(("step_sec", "peak_memory_mib")):
            cells.append(spread([result[key] / reference[result["seed"]][key] for result in found
                                 if result["seed"] in reference], 3))
            given = [papers[name][index] for name in (row.name, _REFERENCE) if name in papers]
            cells.append(f"{given[0] / given[1]:.3f}" if len(given) == 2 else "–")
        lines.append([*cells, *(row.paper or ["–"] * len(paper))])
    return report.markdown(
        ["method", "repeats", "s/step", "images/s", "peak memory, MiB", "time / CycleGAN's", "paper",
         "memory / CycleGAN's", "paper", *(f"paper: {heading}" for heading in paper)], lines)
