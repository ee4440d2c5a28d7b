"""PSNR and SSIM of a folder of predictions against a folder of targets, for each image and as mean and deviation.

How files are paired: by stem, so that `a.png` goes with `a.jpg`. A prediction without a target of its own stem goes
with the longest stem that is left when numbers behind underscores are cut off its end, as in RESIDE, where
`0012_0.8_0.2` is one of several hazy versions of `0012`. Targets without a prediction are counted in the report; they
are not an error.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import sys
import time
from pathlib import Path

import numpy as np

from cut_tf.data.image_files import image_size, list_images, read_bytes, read_image
from cut_tf.errors import InputError
from cut_tf.files import replace_file
from cut_tf.metrics import METRICS
from cut_tf.metrics.ssim import WINDOW_PX

PROTOCOL = (
    "Full-size 8-bit RGB, no crop, no luma channel. PSNR in dB with peak 255 over all pixels and channels. SSIM with "
    "an 11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, population covariance, mean over windows inside the "
    "image and over channels. Mean and standard deviation (divisor n) over the images with a finite value; identical "
    "images have no finite PSNR."
)
_LISTED_NAMES = 5
_PROGRESS_SECONDS = 10.0
_NUMBER_SUFFIX = re.compile(r"_\d+(\.\d+)?$")


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One prediction: its file name, its size in pixels, PSNR in dB (infinite if identical to the target), SSIM."""

    name: str
    width: int
    height: int
    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and population standard deviation (numpy's std, ddof=0) over `count` finite values; NaN if there is none."""

    mean: float
    std: float
    count: int


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a folder, in the order of the predictions' names.

    Attributes:
      images: one entry per prediction.
      unpaired_targets: number of targets that no prediction belongs to.
    """

    images: tuple[ImageScore, ...]
    unpaired_targets: int = 0

    @property
    def identical(self) -> int:
        """Number of predictions that equal their target in every pixel."""
        return sum(math.isinf(image.psnr) for image in self.images)

    def summary(self, metric: str) -> Summary:
        """Mean and deviation of "psnr" or "ssim" over the images whose value is finite."""
        values = np.array([getattr(image, metric) for image in self.images], np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return Summary(math.nan, math.nan, 0)
        return Summary(float(values.mean()), float(values.std()), int(values.size))

    def table(self) -> str:
        """Text to print: a row per metric with mean, standard deviation (divisor n) and number of images."""
        lines = [f"{'metric':<8} {'mean':>9} {'std':>9} {'images':>7}"]
        for metric, label, digits in (("psnr", "PSNR dB", 3), ("ssim", "SSIM", 4)):
            summary = self.summary(metric)
            lines.append(f"{label:<8} {summary.mean:>9.{digits}f} {summary.std:>9.{digits}f} {summary.count:>7}")
        lines.append("full-size RGB, 8 bits; std with divisor n")
        if self.identical:
            lines.append(f"identical to their target, so without a finite PSNR: {self.identical}")
        if self.unpaired_targets:
            lines.append(f"targets without a prediction: {self.unpaired_targets}")
        return "\n".join(lines)

    def to_csv(self) -> str:
        """A line per image under a header line; the PSNR of identical images is written as `inf`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in dataclasses.fields(ImageScore))
        writer.writerows(dataclasses.astuple(image) for image in self.images)
        return text.getvalue()

    def to_json(self) -> str:
        """The whole report; values that are not finite are null, identical images are counted in `identical`."""
        values = {"protocol": PROTOCOL, "count": len(self.images), "identical": self.identical,
                  "unpaired_targets": self.unpaired_targets}
        for metric in METRICS:
            summary = self.summary(metric)
            values[metric] = {"mean": _finite(summary.mean), "std": _finite(summary.std)}
        values["images"] = [
            {name: _finite(value) for name, value in dataclasses.asdict(image).items()} for image in self.images
        ]
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def evaluate_folders(pred_dir: Path, target_dir: Path, csv_path: Path | None = None, json_path: Path | None = None,
                     progress: bool = True) -> Report:
    """Compares every image of `pred_dir` with its target; the module's docstring says how they are paired.

    Names, sizes and output folders are checked before the first metric is computed.

    Args:
      pred_dir: folder of predictions.
      target_dir: folder of targets.
      csv_path: where to write a line per image (name, width, height, psnr, ssim), if anywhere.
      json_path: where to write the whole report, if anywhere.
      progress: whether to tell on stderr, now and then, how far it is.

    Returns:
      The report; both files are written by then, each atomically.

    Raises:
      InputError: if a folder has no images, two of its files share a stem, a prediction has no target, sizes differ
        or are below 11 px, a file is damaged, or an output cannot be written.
    """
    outputs = [path for path in (csv_path, json_path) if path is not None]
    for path in outputs:
        if not path.parent.is_dir():
            raise InputError(f"{path}: must lie in an existing folder, found none")
    if csv_path is not None and csv_path == json_path:
        raise InputError(f"{csv_path}: CSV and JSON must be two files, found one name for both")
    targets = list_images(target_dir)
    pairs = _pair_files(list_images(pred_dir), targets)
    _check_sizes(pairs)
    scores, told = [], time.monotonic()
    for pair in pairs:
        scores.append(_score(*pair))
        if progress and time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            print(f"compared {len(scores)} of {len(pairs)} images", file=sys.stderr, flush=True)
    report = Report(tuple(scores), len(targets) - len({target for _, target in pairs}))
    for path in outputs:
        text = report.to_csv() if path == csv_path else report.to_json()
        replace_file(path, text.encode("utf-8", errors="surrogateescape"))
    return report


def _finite(value: object) -> object:
    """`value`, or None if it is a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _raise_if_any(findings: list[str], rule: str) -> None:
    if findings:
        more = f" and {len(findings) - _LISTED_NAMES} more" if len(findings) > _LISTED_NAMES else ""
        raise InputError(f"{rule}, found {', '.join(findings[:_LISTED_NAMES])}{more}")


def _by_stem(files: list[Path]) -> dict[str, Path]:
    stems: dict[str, list[Path]] = {}
    for file in files:
        stems.setdefault(file.stem, []).append(file)
    shared = [" and ".join(file.name for file in same) for same in stems.values() if len(same) > 1]
    _raise_if_any(shared, f"{files[0].parent}: file names must differ in more than their suffix")
    return {stem: same[0] for stem, same in stems.items()}


def _target_stem(stem: str, targets: dict[str, Path]) -> str | None:
    """The stem of the target that a prediction belongs to, None if there is none."""
    while stem not in targets:
        shorter = _NUMBER_SUFFIX.sub("", stem)
        if shorter == stem:
            return None
        stem = shorter
    return stem


def _pair_files(predictions: list[Path], targets: list[Path]) -> list[tuple[Path, Path]]:
    """(prediction, target) for each prediction, in order. Raises InputError for shared stems and missing targets."""
    target_of = _by_stem(targets)
    stems = [(file, _target_stem(stem, target_of)) for stem, file in _by_stem(predictions).items()]
    missing = [file.name for file, stem in stems if stem is None]
    _raise_if_any(missing, f"{predictions[0].parent}: every image must have one of the same stem in "
                           f"{targets[0].parent}, which has none for {len(missing)} of {len(stems)}")
    return [(file, target_of[stem]) for file, stem in stems if stem is not None]


def _check_sizes(pairs: list[tuple[Path, Path]]) -> None:
    different, small = [], []
    for prediction, target in pairs:
        (width, height), expected = (image_size(read_bytes(file), str(file)) for file in (prediction, target))
        if (width, height) != expected:
            different.append(f"{prediction.name} {width}x{height} with {target.name} {expected[0]}x{expected[1]}")
        elif min(width, height) < WINDOW_PX:
            small.append(f"{prediction.name} {width}x{height}")
    folder = pairs[0][0].parent
    _raise_if_any(different, f"{folder}: every image must have the size of its target")
    _raise_if_any(small, f"{folder}: sides must be at least {WINDOW_PX} px for SSIM")


def _score(prediction_file: Path, target_file: Path) -> ImageScore:
    prediction, target = read_image(prediction_file), read_image(target_file)
    height, width = prediction.shape[:2]
    values = {name: float(metric(prediction[None], target[None])[0]) for name, metric in METRICS.items()}
    return ImageScore(prediction_file.name, width, height, **values)
