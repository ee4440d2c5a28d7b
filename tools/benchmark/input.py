"""Rows of `python -m tools.benchmark input`: the input pipeline against Pillow, and how long a step waits for it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cut_tf.data import open_dataset
from cut_tf.data.pipeline import TrainingStream
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from cut_tf.training import distribution
from tools.benchmark import measuring, step as benchmark_step

_WARM_UP_BATCHES = 4
_PICTURES, _WIDTH_PX, _HEIGHT_PX = 24, 480, 320


def rows(folder: str, case: str, given: dict[str, Any], batches: int, repeats: int) -> Iterator[dict]:
    """Pictures per second of each way to read them, then the share of a training step that is spent waiting.

    Args:
      folder: of JPEG pictures; 24 made-up ones of 480 x 320 pixels if empty.
      case: whose step waits, a key of benchmark_step.CASES.
      given: settings by name.
      batches: pairs of pictures of one measurement.
      repeats: measurements of each.
    """
    with tempfile.TemporaryDirectory(prefix="cut_tf_benchmark_") as made:
        source = Path(folder or _make_pictures(Path(made)))
        given = {**given, "dataset": f"{source},{source}"}
        calls = {"Pillow, one by one": _pillow(source, 2 * batches),
                 "pipeline, not cached": _pipeline({**given, "cache_mb": 0}, case, batches),
                 "pipeline, cached": _pipeline({**given, "cache_mb": 1024}, case, batches)}
        times = {name: [] for name in calls}
        for number in range(repeats + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                pictures = call()
                if number:  # the first fills the cache
                    times[name].append((time.perf_counter() - start) / pictures)
        slowest = statistics.median(times["Pillow, one by one"])
        for name, per_picture in times.items():
            rate = 1 / statistics.median(per_picture)
            yield {"name": name, "images_per_sec": rate, "least": 1 / max(per_picture), "most": 1 / min(per_picture),
                   "times_pillow": rate * slowest}
        yield measuring.in_own_process(_waiting, case, given, repeats)


def _make_pictures(folder: Path) -> Path:
    """Smooth noise with some grain, which JPEG takes about as long to read as photographs."""
    random = np.random.default_rng(0)
    for index in range(_PICTURES):
        coarse = Image.fromarray(random.integers(0, 256, [20, 30, 3], np.uint8))
        pixels = np.asarray(coarse.resize((_WIDTH_PX, _HEIGHT_PX), Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-12, 13, pixels.shape)
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(folder / f"{index:02d}.jpg", quality=90)
    return folder


def _pillow(folder: Path, count: int) -> Callable[[], int]:
    """Decodes `count` pictures."""
    paths = sorted(folder.glob("*.jpg"))

    def read() -> int:
        for index in range(count):
            with Image.open(paths[index % len(paths)]) as picture:
                np.asarray(picture.convert("RGB"))
        return count

    return read


def _pipeline(given: dict[str, Any], case: str, batches: int) -> Callable[[], int]:
    """Takes `batches` batches of one picture of each domain: decoded, resized, cropped, mirrored, converted."""
    settings: Settings = benchmark_step.settings_of(case, {**given, "batch_size": 1})
    stream = TrainingStream(open_dataset(settings), settings.data, settings.train.seed)
    iterator = iter(stream.dataset(0))

    def read() -> int:
        for _ in range(batches):
            next(iterator)
        return 2 * batches

    return read


def _waiting(case: str, given: dict[str, Any], repeats: int) -> dict:
    """Steps as training takes them, with the time that each waited for its batch."""
    settings = benchmark_step.settings_of(case, given)
    devices = distribution.set_up(settings)
    stream = TrainingStream(open_dataset(settings), settings.data, settings.train.seed)
    with devices.strategy.scope():
        model = build_method(settings)
        model.compile()
    batches = iter(devices.batches(stream, first_step=0))
    step = model.make_train_function()
    seconds, waits = [], []
    for _ in range(_WARM_UP_BATCHES + repeats):
        start = time.perf_counter()
        dict(step(batches))  # reads the terms, which waits for the step
        seconds.append(time.perf_counter() - start)
        waits.append(model.input_wait_sec)
    seconds, waits = seconds[_WARM_UP_BATCHES:], waits[_WARM_UP_BATCHES:]
    return {"name": f"{case} step", "size_px": settings.data.crop_size_px, "median_sec": statistics.median(seconds),
            "wait_sec": statistics.median(waits), "most_wait_sec": max(waits),
            "wait_share": statistics.median(waits) / statistics.median(seconds)}


def line(row: dict) -> str:
    """A row as readable text."""
    if "wait_share" in row:
        return (f"{row['name']:22s} {row['size_px']} px: {row['median_sec']:.3f} s, of which "
                f"{1000 * row['wait_sec']:.1f} ms wait for the batch: {100 * row['wait_share']:.2f} %")
    return (f"{row['name']:22s} {row['images_per_sec']:8.1f} images/s ({row['least']:.1f} to {row['most']:.1f})  x "
            f"{row['times_pillow']:.2f}")

