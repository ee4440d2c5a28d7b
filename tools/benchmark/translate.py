"""Rows of `python -m tools.benchmark translate`: a generator's forms at growing sizes."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cut_tf.export.options import DEFAULTS, Size
from cut_tf.export.saved_model.export import save_version
from cut_tf.export.tflite.conversion import convert
from cut_tf.methods import build_method
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
from cut_tf.translators.run import Translator
from tools.benchmark import measuring, step

FORMS = ("Keras float32", "Keras bfloat16", "SavedModel float32", "SavedModel bfloat16", "TFLite float32")


def rows(forms: Sequence[str], sizes_px: Sequence[int], given: dict[str, Any], threads: int,
         repeats: int) -> Iterator[dict]:
    """One row per form and size. Each form has a process of its own, which translates all sizes.

    Args:
      forms: of FORMS.
      sizes_px: sides of the square pictures.
      given: settings of the generator by name, such as ngf; its weights are random.
      threads: of the CPU, for TFLite.
      repeats: timed calls of each size, after one other.
    """
    for form in forms:
        yield from measuring.in_own_process(_rows_of, form, sizes_px, given, threads, repeats)


def _rows_of(form: str, sizes_px: Sequence[int], given: dict[str, Any], threads: int, repeats: int) -> list[dict]:
    kind, precision = form.split()
    settings = step.settings_of("paired", {**given, "precision": precision})
    model = build_method(settings)
    model.compile()
    found = []
    with tempfile.TemporaryDirectory(prefix="cut_tf_benchmark_") as folder:
        model.save(Path(folder) / "run")
        translator = Translator(Path(folder) / "run")
        saved = SavedModelTranslator(save_version(translator, Path(folder) / "model", DEFAULTS)) if (
            kind == "SavedModel") else None
        del model
        for size_px in sorted(sizes_px):
            content = convert(translator.generator, Size(size_px, size_px), "none", [])[1] if kind == "TFLite" else None
            before = measuring.start_peak(on_cpu=kind == "TFLite")
            translate = saved or (TFLiteTranslator(content, threads) if kind == "TFLite" else translator)
            picture = np.random.default_rng(0).integers(0, 256, [size_px, size_px, 3], np.uint8)
            product, product_gflop = measuring.matrix_product(precision)
            calls = {"picture": functools.partial(translate, picture), "product": product}
            times = measuring.interleaved(calls, repeats, warm_up=1)
            seconds = times["picture"]
            work = step.forward_gflop(translator.generator, [1, size_px, size_px, 3])
            ceiling = product_gflop / times["product"].median_sec
            found.append({"name": form, "size_px": size_px, **seconds._asdict(),
                          "peak_mib": measuring.peak_mib(on_cpu=kind == "TFLite") - before, "gflop": work,
                          "ceiling_share": work / seconds.median_sec / ceiling,
                          "traces": translator.traces if kind == "Keras" else None})
    return found


def line(row: dict) -> str:
    """A row as readable text."""
    traces = "" if row["traces"] is None else f"  traces {row['traces']}"
    return (f"{row['name']:20s} {row['size_px']:4d} px  {1000 * row['median_sec']:9.1f} ms ("
            f"{1000 * row['least_sec']:.1f} to {1000 * row['most_sec']:.1f})  {row['peak_mib']:6.0f} MiB  "
            f"{100 * row['ceiling_share']:5.1f} % of the ceiling{traces}")
