"""Rows of `python -m tools.benchmark scaling`: a step over sizes, batches and replicas, and the exponents in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cut_tf.methods import build_method
from cut_tf.settings import Settings
from cut_tf.training import distribution
from tools.benchmark import measuring, step as benchmark_step

_REPLICAS = 2


def rows(case: str, sizes_px: Sequence[int], batches: Sequence[int], given: dict[str, Any],
         repeats: int) -> Iterator[dict]:
    """Measures, and then fits.

    Args:
      case: a key of benchmark_step.CASES.
      sizes_px: sides of the crops, at batch 1.
      batches: images per step, at the smallest of the sizes.
      given: further settings by name, without size and batch.
      repeats: measured steps of each.

    Returns:
      A row per size and per batch, as of `train_step`; the exponents of time and memory in pixels, over both; and
      two rows of the same work on one replica and on two that share the processor, the second with its overhead.
    """
    measured, least = [], min(sizes_px)
    cases = [(size_px, 1) for size_px in sizes_px] + [(least, batch) for batch in batches if batch > 1]
    for size_px, batch in cases:
        row = measuring.in_own_process(benchmark_step.row, case, {**given, "size_px": size_px, "batch_size": batch},
                                       repeats)
        measured.append(row)
        yield row
    yield fit(measured)
    yield from _replicas(case, least, given, repeats)


def fit(measured: Sequence[dict]) -> dict:
    """Exponents of time and of memory above the process' start, in pixels: 1 is linear.

    Memory is fitted as a + b pixels, since a process holds TensorFlow and the weights whatever the size; its exponent
    is that of what is above a.

    Args:
      measured: rows with `size_px`, `batch_size`, `median_sec`, `peak_gib`; two different numbers of pixels at least.
    """
    pixels = np.array([row["size_px"] ** 2 * row["batch_size"] for row in measured], np.float64)
    seconds = np.array([row["median_sec"] for row in measured])
    memory = np.array([row["peak_gib"] for row in measured])
    time_exponent = np.polyfit(np.log(pixels), np.log(seconds), 1)[0]
    slope, start = np.polyfit(pixels, memory, 1)
    residual = memory - (start + slope * pixels)
    spread = np.sum((memory - memory.mean()) ** 2)
    return {"name": "fit", "time_exponent": float(time_exponent), "memory_start_gib": float(start),
            "memory_gib_per_megapixel": float(slope * 1e6),
            "memory_linear_r2": float(1 - np.sum(residual**2) / spread) if spread > 0 else math.nan}


def _replicas(case: str, size_px: int, given: dict[str, Any], repeats: int) -> Iterator[dict]:
    """The same global batch on one replica and on two."""
    alone = None
    for replicas in (1, _REPLICAS):
        settings = {**given, "size_px": size_px, "batch_size": _REPLICAS, "num_virtual_devices": replicas}
        seconds = measuring.in_own_process(_replicated, case, settings, repeats)
        alone = alone or seconds.median_sec
        yield {"name": f"{case}, replicas {replicas}", "size_px": size_px, "batch_size": _REPLICAS,
               **seconds._asdict(), "overhead": seconds.median_sec / alone - 1}


def _replicated(case: str, given: dict[str, Any], repeats: int) -> measuring.Timing:
    settings: Settings = benchmark_step.settings_of(case, given)
    strategy = distribution.set_up(settings).strategy
    with strategy.scope():
        model = build_method(settings)
        model.compile()
    shape = benchmark_step.batch_shape(settings)
    shape[0] //= strategy.num_replicas_in_sync
    batches = strategy.experimental_distribute_values_from_function(lambda context: {
        name: tf.random.stateless_uniform(shape, [seed, context.replica_id_in_sync_group], -1, 1)
        for seed, name in enumerate(("source", "target"))})

    @tf.function
    def step() -> tf.Tensor:
        terms = strategy.run(model.train_step, args=(batches,))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, terms["loss/generator"], axis=None)

    return measuring.measure(step, repeats)


def line(row: dict) -> str:
    """A row as readable text."""
    if row["name"] == "fit":
        return (f"time grows with pixels to the power {row['time_exponent']:.3f}; memory {row['memory_start_gib']:.2f} "
                f"GiB + {row['memory_gib_per_megapixel']:.2f} GiB per megapixel (R2 {row['memory_linear_r2']:.4f})")
    if "overhead" in row:
        return (f"{row['name']:20s} {row['size_px']:4d} px, batch {row['batch_size']}: {row['median_sec']:.3f} s "
                f"({row['least_sec']:.3f} to {row['most_sec']:.3f})  {100 * row['overhead']:+.1f} %")
    return benchmark_step.line(row)
