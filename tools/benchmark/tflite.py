"""The rows of `python -m tools.benchmark tflite`: every form of a generator, in processes of their own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cut_tf import networks
from cut_tf.common import images
from cut_tf.export.options import DEFAULTS, Size
from cut_tf.export.representative import representative_pictures
from cut_tf.export.saved_model.export import save_version
from cut_tf.export.tflite.conversion import APPLIED, convert, psnr_db
from cut_tf.metrics.temporal import noise_gain
from cut_tf.settings import Settings
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
from cut_tf.translators.run import Translator
from tools.benchmark import measuring

# Standard deviation, in levels, of the noise of a phone's sensor in daylight.
NOISE_LEVELS = 2.0
_WARM_UP = 3
_RESNET = "resnet 64x9"


def rows(run: Path, sizes_px: Sequence[int], representative: str, threads: int, repeats: int,
         with_resnet: bool = True) -> Iterator[dict]:
    """One row per size and form; for each size first the SavedModel and, for scale, CUT's ResNet as TFLite.

    Args:
      run: whose generator is measured.
      sizes_px: sides of the square pictures.
      representative: as for the export.
      threads: of the CPU.
      repeats: timed calls, after three others.
      with_resnet: whether CUT's ResNet of full width is measured too.
    """
    translator = Translator(run)
    with tempfile.TemporaryDirectory(prefix="cut_tf_benchmark_") as folder:
        saved_model = save_version(translator, Path(folder) / "model", DEFAULTS)
        for side_px in sizes_px:
            pictures = representative_pictures(representative, Size(side_px, side_px))
            base = _timed("saved_model", str(saved_model), side_px, threads, repeats)
            yield {**base, "name": "SavedModel", "megabytes": _megabytes(saved_model), "share": 1.0}
            for name, content, reference in _variants(translator, pictures, side_px, with_resnet):
                path = Path(folder) / f"{name.replace(' ', '_')}_{side_px}.tflite"
                path.write_bytes(content)
                found = _timed("tflite", str(path), side_px, threads, repeats)
                row = {**found, "name": name, "megabytes": _megabytes(path),
                       "share": found["median_sec"] / base["median_sec"]}
                if reference is not None:
                    row.update(_quality(content, reference, pictures[1::2]))
                yield row


def _variants(translator: Translator, pictures: list, side_px: int,
              with_resnet: bool) -> Iterator[tuple[str, bytes, Translator | None]]:
    """Name, content, and the generator that the pictures are compared with."""
    size = Size(side_px, side_px)
    resnet = networks.build_generator(Settings()) if with_resnet else None
    for quantize in ("none", "dynamic") if with_resnet else ():
        yield f"{_RESNET}, {quantize}", convert(resnet, size, quantize, pictures[:2])[1], None
    for quantize in APPLIED:
        yield f"TFLite, {quantize}", convert(translator.generator, size, quantize, pictures[0::2])[1], translator


def _quality(content: bytes, translator: Translator, pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """PSNR against the generator, and the factor by which sensor noise grows."""
    runner = TFLiteTranslator(content)
    psnr = psnr_db([np.asarray(translator.generator(picture, training=False)) for picture in pictures],
                   [runner.translate_floats(picture) for picture in pictures])
    gains = [noise_gain(runner, images.to_bytes(picture[0]).numpy(), NOISE_LEVELS)
             for picture in pictures[:8]]
    return {"psnr_db": psnr, "noise_gain": float(np.mean(gains))}


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def _timed(kind: str, path: str, side_px: int, threads: int, repeats: int) -> dict:
    """Measures in a new process, whose peak of memory is that of this model alone."""
    return measuring.in_own_process(_measure, kind, path, side_px, threads, repeats)


def _measure(kind: str, path: str, side_px: int, threads: int, repeats: int) -> dict:
    before = measuring.start_peak(on_cpu=kind == "tflite")
    translate = _loaded(kind, path, threads)
    picture = np.random.default_rng(0).integers(0, 256, [side_px, side_px, 3], np.uint8)
    times = []
    for number in range(_WARM_UP + repeats):
        start = time.perf_counter()
        translate(picture)
        if number >= _WARM_UP:
            times.append(time.perf_counter() - start)
    return {"size_px": side_px, **measuring.timing_of(times)._asdict(),
            "peak_mib": measuring.peak_mib(on_cpu=kind == "tflite") - before}


def _loaded(kind: str, path: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    if kind == "tflite":
        return TFLiteTranslator(path, threads)
    import tensorflow as tf  # in the process that measures

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return SavedModelTranslator(path)


def line(row: dict) -> str:
    """A row as readable text."""
    quality = f"  {row['psnr_db']:6.1f} dB  noise x {row['noise_gain']:.2f}" if "psnr_db" in row else ""
    median, least, most = (1000 * row[key] for key in ("median_sec", "least_sec", "most_sec"))
    return (f"{row['name']:22s} {row['size_px']:4d} px  {median:7.1f} ms ({least:.1f} to {most:.1f})  "
            f"x {row['share']:.3f}  {row['megabytes']:6.2f} MB  {row['peak_mib']:6.0f} MiB{quality}")
