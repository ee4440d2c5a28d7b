"""Tables of `python -m tools.benchmark report`, in Markdown: those of docs/speed.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

# What the naive forms of `benchmark_naive` and `benchmark_layers` are.
NAIVE = {"3x3 convolution": "TensorFlow's convolution", "7x7 convolution to 3 filters": "TensorFlow's convolution",
         "instance norm": "moments and differences",
         "mirrored border": "`tf.pad`", "blur up": "zeros between pixels, depthwise convolution",
         "blur down": "`tf.pad`, depthwise convolution", "patch sampling": "project everything, then gather",
         "PatchNCE": "query by query", "Stiefel step": "polar factor by SVD",
         "deformable": "an ordinary convolution of the same shape"}


def steps(rows: Iterable[dict]) -> Iterator[str]:
    """Lines for rows of train_step."""
    yield from _head("step", "precision", "seconds, median (range)", "images/s", "peak GiB", "work, GFLOP",
                     "share of the ceiling")
    for row in rows:
        what = ", ".join([row["name"], f"{row['size_px']} px", f"batch {row['batch_size']}",
                          *(["`--recompute_blocks`"] if row["recompute_blocks"] else [])])
        yield _line(what, row["precision"],
                    f"{row['median_sec']:.2f} ({row['least_sec']:.2f} to {row['most_sec']:.2f})",
                    f"{row['images_per_sec']:.2f}", f"{row['peak_gib']:.2f}", f"{row['reference_gflop']:,.0f}",
                    f"{100 * row['ceiling_share']:.0f} % of {row['ceiling_gflops']:.0f} GFLOP/s")


def layers(rows: Iterable[dict]) -> Iterator[str]:
    """Lines for rows of layers: ours and the naive form in milliseconds, of each precision."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        if "share_of_naive" in row:
            form, name = row["form"], row["name"]
        elif row["pass"] == "forward+backward":
            form, name = "ours" if row["name"] == "deformable" else "naive", "deformable"
        else:
            continue
        case = found.setdefault((name, "x".join(map(str, row["shape"]))), {})
        case.setdefault(row["precision"], {})[form] = 1000 * row["median_sec"]
    precisions = list(dict.fromkeys(itertools.chain.from_iterable(found.values())))
    yield from _head("layer", *(f"{precision}: ours, naive, ms" for precision in precisions), "naive form")
    for (name, shape), times in found.items():
        yield _line(f"{name}, {shape}", *(_two(times.get(precision)) for precision in precisions), NAIVE[name])


def _two(times: dict[str, float] | None) -> str:
    return f"{times['ours']:.1f}, {times['naive']:.1f}" if times else ""


def translations(rows: Iterable[dict]) -> Iterator[str]:
    """Lines for rows of translate: a line per form, a column per size."""
    found: dict[str, dict[int, dict]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["size_px"]] = row
    sizes_px = sorted({size_px for of_form in found.values() for size_px in of_form})
    yield from _head("form", *(f"{size_px} px: ms, peak MiB" for size_px in sizes_px), "share of the ceiling")
    for name, of_form in found.items():
        shares = [100 * row["ceiling_share"] for row in of_form.values()]
        yield _line(name, *(f"{1000 * of_form[size_px]['median_sec']:,.0f}, {of_form[size_px]['peak_mib']:,.0f}"
                            for size_px in sizes_px), f"{min(shares):.0f} to {max(shares):.0f} %")


def _head(*titles: str) -> Iterator[str]:
    yield _line(*titles)
    yield "|".join(["", *("---" for _ in titles), ""])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
