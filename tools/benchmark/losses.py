"""Rows of `python -m tools.benchmark losses`: the losses of a run in half precision against those in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cut_tf.data import open_dataset
from cut_tf.data.pipeline import TrainingStream
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from tools.benchmark import measuring, step as benchmark_step

_PREFIX = "loss/"


def rows(case: str, precision: str, given: dict[str, Any], steps: int, window: int) -> Iterator[dict]:
    """Runs from the same weights on the same crops of the scenes: in float32, in half precision, and a control.

    The control is float32 from weights that were rounded to half precision once. Adversarial training amplifies small
    differences, so a run in half precision may differ from float32 as much as the control does.

    Args:
      case: a key of benchmark_step.CASES.
      precision: of the other run.
      given: further settings by name, without precision.
      steps: of each run.
      window: steps of the moving average, at most `steps`.

    Returns:
      Two rows per loss, of half precision and of the control: its mean in both runs, the largest and the mean
      difference of the moving averages, both as shares of that of float32.
    """
    whole = measuring.in_own_process(_losses, case, {**given, "precision": "float32"}, steps)
    for run, arguments in ((precision, (precision,)), ("control", ("float32", precision))):
        found = measuring.in_own_process(_losses, case, {**given, "precision": arguments[0]}, steps, *arguments[1:])
        for name, values in whole.items():
            yield {"name": name, "method": case, "run": run, "steps": steps, "window": window,
                   **compare(values, found[name], window)}


def compare(whole: list[float], half: list[float], window: int) -> dict[str, float]:
    """The means of two series of equal length, and the differences of their moving averages over `window` values."""
    kernel = np.full(window, 1.0 / window)
    expected, found = (np.convolve(values, kernel, "valid") for values in (whole, half))
    shares = np.abs(found - expected) / np.abs(expected)
    return {"mean_float32": float(np.mean(whole)), "mean": float(np.mean(half)),
            "largest_difference": float(shares.max()), "mean_difference": float(shares.mean())}


def _losses(case: str, given: dict[str, Any], steps: int, rounded_to: str = "") -> dict[str, list[float]]:
    """Each loss at each step, from weights that are rounded to that precision first. Losses of 0 are left out."""
    settings = _on_scenes(benchmark_step.settings_of(case, given))
    model = build_method(settings)
    model.compile()
    for network in model.networks.values() if rounded_to else ():
        for weight in network.trainable_variables:
            weight.assign(tf.cast(tf.cast(tf.convert_to_tensor(weight), rounded_to), tf.float32))
    stream = TrainingStream(open_dataset(settings), settings.data, seed=0, paired=case in ("paired", "aecrnet"))
    step = tf.function(model.train_step)
    found: dict[str, list[float]] = {}
    for batch in stream.dataset(first_step=0).take(steps):
        for name, value in step(batch).items():
            if name.startswith(_PREFIX):
                found.setdefault(name[len(_PREFIX):], []).append(float(value))
    return {name: values for name, values in found.items() if any(values)}


def _on_scenes(settings: Settings) -> Settings:
    return settings.having(dataset="scenes", preprocess="crop")


def line(row: dict) -> str:
    """A row as readable text."""
    return (f"{row['method']:9s} {row['name']:16s} {row['steps']} steps: float32 {row['mean_float32']:9.4f}, "
            f"{row['run']:8s} {row['mean']:9.4f}; moving averages of {row['window']} steps differ by "
            f"{100 * row['largest_difference']:.2f} % at most, {100 * row['mean_difference']:.2f} % in the mean")
