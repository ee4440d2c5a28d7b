"""The figures themselves, with Matplotlib. Each function takes rows of `results` and returns a figure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")  # files alone, so that no display is needed
import matplotlib.pyplot as plt
import numpy as np

from cut_tf.common.errors import InputError
from tools.plots.results import Evaluation, Latency, Load, MethodEvaluation, Share

_SIZE_INCHES = (7.0, 3.8)
# Okabe and Ito's colours, which people with colour blindness can tell apart.
_BLUE, _ORANGE, _GREEN, _PINK, _GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#666666"
_COLOURS = (_BLUE, _ORANGE, _GREEN, _PINK, "#D55E00", "#56B4E9")
_BAR_WIDTH = 0.38
_DOT_AREA = 60  # square points


def psnr_over_steps(rows: Sequence[Evaluation]) -> plt.Figure:
    """Mean over the seeds of the PSNR of both kinds of weights, with a band from the least to the greatest seed.

    Args:
      rows: evaluations, raw, ema and input; every seed at the same steps.

    Raises:
      InputError: if the seeds were not evaluated at the same steps.
    """
    figure, axes = _axes("training step", "PSNR on 48 held-out rooms, dB")
    for weights, colour, label in (("raw", _ORANGE, "weights of the step"), ("ema", _BLUE, "running means (EMA)")):
        steps, values = _by_seed([row for row in rows if row.weights == weights])
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, values.mean(axis=0), color=colour, label=label)
    hazy_db = np.mean([row.psnr_db for row in rows if row.weights == "input"])
    axes.axhline(hazy_db, color=_GREY, linestyle="--", label="hazy input")
    seeds = len({row.seed for row in rows})
    axes.set_title(f"Quickstart: CUT on rendered rooms, mean and range of {seeds} seeds")
    axes.set_xlim(0, max(row.step for row in rows))
    axes.legend(loc="center right", bbox_to_anchor=(1.0, 0.35), frameon=False)
    return figure


def psnr_of_methods(rows: Sequence[MethodEvaluation], methods: Sequence[str], generator: str,
                    pictures: str) -> plt.Figure:
    """Mean over the seeds of each method's PSNR, with a band from the least to the greatest seed.

    Args:
      rows: evaluations; every seed of a method at the same steps. Step 0 is the hazy input's.
      methods: all of them, 6 at most, so that each has the same colour in every such picture.
      generator: its name, for the title.
      pictures: what was evaluated, for the axis.

    Raises:
      InputError: if the seeds of a method were not evaluated at the same steps.
    """
    figure, axes = _axes("training step", f"PSNR on {pictures}, dB")
    trained = [row for row in rows if row.step]
    for method, colour in zip(methods, _COLOURS):
        of_method = [row for row in trained if row.method == method]
        if not of_method:
            continue
        steps, values = _by_seed(of_method)
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, values.mean(axis=0), color=colour, label=method)
    for row in rows:
        if not row.step:
            axes.axhline(row.psnr_db, color=_GREY, linestyle="--", label=row.method)
    seeds = len({row.seed for row in trained})
    axes.set_title(f"Without pairs, {generator}: mean and range of {seeds} seeds")
    axes.set_xlim(0, max(row.step for row in rows))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _by_seed(rows: Sequence[Evaluation | MethodEvaluation]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [N] and PSNR [seeds, N]."""
    curves = {seed: sorted((row.step, row.psnr_db) for row in rows if row.seed == seed)
              for seed in sorted({row.seed for row in rows})}
    steps = {tuple(step for step, _ in curve) for curve in curves.values()}
    if len(steps) != 1:
        raise InputError("results must have all seeds at the same steps, found differing steps")
    return np.array(steps.pop()), np.array([[psnr for _, psnr in curve] for curve in curves.values()])


def latency_against_psnr(rows: Sequence[Latency]) -> plt.Figure:
    """Time a picture against the agreement with the generator, a point per .tflite file; areas grow with its MB."""
    figure, axes = _axes("milliseconds a picture, 2 threads (log scale)", "PSNR against the generator, dB")
    for number, size_px in enumerate(sorted({row.size_px for row in rows})):
        chosen = [row for row in rows if row.size_px == size_px]
        median = np.array([row.median_ms for row in chosen])
        spread = np.array([[row.median_ms - row.least_ms, row.most_ms - row.median_ms] for row in chosen]).T
        psnr = [row.psnr_db for row in chosen]
        axes.errorbar(median, psnr, xerr=spread, fmt="none", ecolor=_COLOURS[number], alpha=0.5)
        axes.scatter(median, psnr, s=[_DOT_AREA * (1 + 2 * row.megabytes) for row in chosen], color=_COLOURS[number],
                     alpha=0.8, label=f"{size_px}x{size_px} px", linewidths=0)
        for row in chosen:
            axes.annotate(f"{row.form}, {row.megabytes:.2f} MB", (row.median_ms, row.psnr_db), fontsize=8,
                          xytext=(9, 7), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    axes.minorticks_off()
    axes.set_xlim(3.0, 70.0)
    axes.set_ylim(30, 150)
    axes.set_title("Light generator as .tflite files: time against fidelity")
    legend = axes.legend(loc="center", bbox_to_anchor=(0.5, 0.75), frameon=False)
    for handle in legend.legend_handles:
        handle.set_sizes([_DOT_AREA])
    return figure


def shares_of_the_ceiling(rows: Sequence[Share]) -> plt.Figure:
    """A pair of bars a method: percent of the machine's matrix products in either precision."""
    figure, axes = _axes("", "percent of the ceiling")
    methods, precisions = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("method", "precision"))
    for number, precision in enumerate(precisions):
        percent = {row.method: row.percent for row in rows if row.precision == precision}
        places = [methods.index(method) + (number - (len(precisions) - 1) / 2) * _BAR_WIDTH for method in percent]
        bars = axes.bar(places, list(percent.values()), _BAR_WIDTH, color=_COLOURS[number], label=precision)
        axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.axhline(100, color=_GREY, linestyle="--", linewidth=1)
    axes.set_xticks(range(len(methods)), methods)
    axes.set_ylim(0, 125)
    axes.set_title("Training step at 256 px, two CPU cores: share of the rate of matrix products")
    axes.legend(loc="upper right", ncols=len(precisions), frameon=False)
    return figure


def latency_over_parallelism(rows: Sequence[Load]) -> plt.Figure:
    """Latencies over requests at a time, a line for each size from median to 99th percentile.

    They are multiples of the first row's median, which depend less on the machine and its load than milliseconds do.
    """
    unit_ms = rows[0].p50_ms
    figure, axes = _axes("requests at a time (log scale)", "latency, in multiples (log scale)")
    for number, size in enumerate(dict.fromkeys(row.size_px for row in rows)):
        chosen = sorted((row for row in rows if row.size_px == size), key=lambda row: row.parallel)
        median, high = ([getattr(row, name) / unit_ms for row in chosen] for name in ("p50_ms", "p99_ms"))
        parallel = [row.parallel for row in chosen]
        label = f"{size}x{size} px" if size.isdigit() else "both sizes in turns"
        axes.fill_between(parallel, median, high, color=_COLOURS[number], alpha=0.2, linewidth=0)
        axes.plot(parallel, median, color=_COLOURS[number], marker="o", label=label)
    ticks = sorted({row.parallel for row in rows})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks(multiples := [1, 2, 5, 10, 20, 50, 100], [str(multiple) for multiple in multiples])
    axes.minorticks_off()
    axes.set_title(f"Server under load: 1 is one {rows[0].size_px}-px picture at a time, bands end at p99")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _axes(x_label: str, y_label: str) -> tuple[plt.Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=_SIZE_INCHES, layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes
