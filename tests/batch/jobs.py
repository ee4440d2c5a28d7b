"""What the tests of batch translation share: tiny pictures, and a job done part by part without any runner."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from cut_tf.batch.inputs import find_inputs
from cut_tf.batch.plan import Plan, Totals, conclude, settle
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.batch.units import results_in
from cut_tf.batch.worker import Target, Worker

PRIOR = TranslatorChoice(method="dark_channel_prior")


def picture(seed: int, height: int = 18, width: int = 20) -> np.ndarray:
    """uint8 [height, width, 3] of random values."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(folder: Path, count: int, first: int = 0) -> dict[str, np.ndarray]:
    """Writes PNGs of three sizes. Returns them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {f"{number:03d}.png": picture(number, 18 + number % 3) for number in range(first, first + count)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / name)
    return pictures


def encoded(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def inverted(pixels: np.ndarray, where: str = "") -> np.ndarray:
    """A translation whose result is known."""
    del where
    return 255 - pixels


def all_inverted(pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `inverted` makes of pictures, by name."""
    return {name: inverted(pixels) for name, pixels in pictures.items()}


def settled(source: Path, output: Path, kind: str = "files", per_shard: int = 2, **keywords: bool) -> Plan:
    """The plan of a job of the dark channel prior, which `done` replaces by `inverted`."""
    inputs = find_inputs(str(source), None if keywords.get("overwrite") else results_in(str(output)))
    return settle(inputs, Target(str(output), kind), PRIOR, per_shard, **keywords)


def done(plan: Plan, translate: Callable = inverted, most_parts: int = 10**9, batch_size: int = 1) -> Totals:
    """Does what is pending, or only some parts of it, and sums up."""
    worker = Worker(translate, plan.target, 2**20, batch_size)
    units, reported = plan.pending()
    for number, part in enumerate(part for unit in units for part in unit.parts(reported)):
        if number == most_parts:
            break
        worker.do(part)
    return conclude(plan)


def results(output: Path) -> list[tuple[str, np.ndarray]]:
    """Name and pixels of every picture in an output of any format, in no order, doubled ones too."""
    found = [(path.relative_to(output).as_posix(), path.read_bytes()) for path in output.rglob("*.png")]
    for path in output.glob("*.tar"):
        with tarfile.open(path) as archive:
            found += [(member.name, archive.extractfile(member).read()) for member in archive
                      if member.name.endswith(".png")]
    for path in output.glob("*.tfrecord"):
        found += list(_pictures_of_examples(path))
    return [(name, np.asarray(Image.open(io.BytesIO(data)))) for name, data in found]


def _pictures_of_examples(path: Path) -> Iterable[tuple[str, bytes]]:
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        yield features["image/filename"].bytes_list.value[0].decode(), features["image/encoded"].bytes_list.value[0]


def assert_results(output: Path, expected: dict[str, np.ndarray]) -> None:
    """Every picture once, nothing lost and nothing doubled, and its pixels."""
    found = results(output)
    assert sorted(name for name, _ in found) == sorted(expected)
    for name, pixels in found:
        np.testing.assert_array_equal(pixels, expected[name], err_msg=name)
