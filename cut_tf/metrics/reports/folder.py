"""Metrics of a folder of predictions, for each image and as mean and deviation.

Against a folder of targets: PSNR, SSIM, CIEDE2000, MSE. Against the folder of the inputs that they were made from: the
measures of `no_reference`.

Files are paired by stem, so that `a.png` belongs to `a.jpg`. If a prediction has no target of its own stem, numbers
behind underscores are cut off its end until there is one. In RESIDE, `0012_0.8_0.2` is one of several hazy versions of
`0012`. Its input must have its own stem. Targets without a prediction are counted in the report; they are no error.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.common.places import AnyPath
from cut_tf.data.image_files import list_images, read_image
from cut_tf.metrics import METRICS, NO_REFERENCE, QUALITY
from cut_tf.metrics.brisque import brisque_scorer
from cut_tf.metrics.moments import ExactMoments, Summary
from cut_tf.metrics.no_reference import no_reference_scores
from cut_tf.metrics.reports.file_pairs import check_sizes, pair_files
from cut_tf.metrics.reports.files import check_report_files, finite, with_progress, write_report
from cut_tf.metrics.reports.protocol import decoder, protocol
from cut_tf.metrics.ssim import WINDOW_PX

_LINE_WIDTH = 100
_MEASURES = {**METRICS, **NO_REFERENCE, **QUALITY}


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One prediction: its file name, its size in pixels, its measures by their names in `METRICS` and `NO_REFERENCE`.

    Measures may be infinite or NaN: PSNR of identical pictures, contrast gain of a flat input.
    """

    name: str
    width: int
    height: int
    values: dict[str, float]


class Comparison(NamedTuple):
    """A prediction, and the target and the input that it belongs to, if any."""

    prediction: AnyPath
    target: AnyPath | None = None
    source: AnyPath | None = None


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What is measured, and how.

    Attributes:
      target_border_px: pixels to cut off each side of the targets.
      brisque: whether BRISQUE of predictions and inputs is measured too.
    """

    target_border_px: int = 0
    brisque: bool = False

    def check_sizes(self, comparisons: Sequence[Comparison]) -> None:
        """Reads the headers of all files. Raises InputError if sizes differ or are too small."""
        predictions, targets, sources = zip(*comparisons)
        if targets[0] is not None:
            check_sizes(predictions, targets, "target", self.target_border_px, WINDOW_PX)
        if sources[0] is not None:
            check_sizes(predictions, sources, "input")

    def scorer(self) -> Callable[[Comparison], ImageScore]:
        """What measures one prediction. Raises InputError if a package is missing that it needs."""
        quality = brisque_scorer() if self.brisque else None
        return lambda comparison: _score(comparison, self.target_border_px, quality)


class Scored(NamedTuple):
    """Scores in the order of the comparisons, and the moments of each measure."""

    images: list[ImageScore]
    moments: dict[str, ExactMoments]


def add_score(moments: dict[str, ExactMoments], score: ImageScore) -> None:
    """Adds the values of a picture to the moments by measure."""
    for name, value in score.values.items():
        moments.setdefault(name, ExactMoments()).add(value)


def score_here(comparisons: Sequence[Comparison], measuring: Measuring, progress: bool = True) -> Scored:
    """Scores in this process, after the sizes of all. Raises InputError for the first that cannot be scored."""
    scorer, images, moments = measuring.scorer(), [], {}
    measuring.check_sizes(comparisons)
    for comparison in with_progress(comparisons, len(comparisons), "compared", progress):
        images.append(scorer(comparison))
        add_score(moments, images[-1])
    return Scored(images, moments)


@dataclasses.dataclass(frozen=True)
class Report:
    """The scores of a folder, in the order of the predictions' names.

    Attributes:
      images: one entry per prediction, one at least, all with the same measures.
      unpaired_targets: number of targets that no prediction belongs to.
      target_border_px: what was cut off each side of the targets.
      moments: of each measure, if they are known already.
    """

    images: tuple[ImageScore, ...]
    unpaired_targets: int = 0
    target_border_px: int = 0
    moments: dict[str, ExactMoments] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.moments:
            for image in self.images:
                add_score(self.moments, image)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, in the order in which they are shown."""
        return tuple(name for name in _MEASURES if name in self.images[0].values)

    @property
    def identical(self) -> int:
        """Number of predictions that equal their target in every pixel."""
        return sum(math.isinf(image.values.get("psnr", 0.0)) for image in self.images)

    def summary(self, measure: str) -> Summary:
        """Mean and deviation of a measure over the images whose value is finite."""
        return self.moments[measure].summary()

    def table(self) -> str:
        """Text to print: a row per measure with mean, standard deviation and number of images, and the protocol."""
        lines = [f"{'measure':<21} {'mean':>9} {'std':>9} {'images':>7} {'better':>7}"]
        for name in self.measures:
            summary, measure = self.summary(name), _MEASURES[name]
            lines.append(f"{measure.label:<21} {summary.mean:>9.{measure.digits}f} {summary.std:>9.{measure.digits}f} "
                         f"{summary.count:>7} {measure.better:>7}")
        if self.identical:
            lines.append(f"identical to their target, so without a finite PSNR: {self.identical}")
        if self.unpaired_targets:
            lines.append(f"targets without a prediction: {self.unpaired_targets}")
        lines += [textwrap.fill(text, _LINE_WIDTH) for text in protocol(self.measures, self.target_border_px)]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """A line per image under a header line; values that are not finite are written as `inf` and `nan`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", "width", "height", *self.measures])
        for image in self.images:
            writer.writerow([image.name, image.width, image.height, *(image.values[name] for name in self.measures)])
        return text.getvalue()

    def to_json(self) -> str:
        """The whole report; values that are not finite are null, identical images are counted in `identical`."""
        values: dict[str, object] = {"protocol": " ".join(protocol(self.measures, self.target_border_px)),
                                     "decoder": decoder(), "count": len(self.images)}
        if "psnr" in self.measures:
            values.update(identical=self.identical, unpaired_targets=self.unpaired_targets)
        for name in self.measures:
            summary = self.summary(name)
            values[name] = {"mean": finite(summary.mean), "std": finite(summary.std), "count": summary.count}
        values["images"] = [{"name": image.name, "width": image.width, "height": image.height,
                             **{name: finite(image.values[name]) for name in self.measures}}
                            for image in self.images]
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def evaluate_folders(pred_dir: AnyPath, target_dir: AnyPath | None, csv_path: AnyPath | None = None,
                     json_path: AnyPath | None = None, progress: bool = True, input_dir: AnyPath | None = None,
                     target_border_px: int = 0, brisque: bool = False,
                     score: Callable[[list[Comparison], Measuring], Scored] | None = None) -> Report:
    """Measures every image of `pred_dir`; the module's docstring says how files are paired.

    Names, sizes and output folders are checked before the first metric is computed.

    Args:
      pred_dir: folder of predictions.
      target_dir: folder of targets, or None: no metric of pairs then.
      csv_path: where to write a line per image (name, width, height, measures), if anywhere.
      json_path: where to write the whole report, if anywhere.
      progress: whether to print the progress on stderr.
      input_dir: folder of the predictions' inputs, or None: no measure without a target then.
      target_border_px: pixels to cut off each side of the targets, which must have the predictions' size then.
      brisque: whether BRISQUE of predictions and inputs is measured too, which takes about a second a picture.
      score: what scores all comparisons, or raises InputError for the whole of them; `score_here` if None.

    Returns:
      The report; both files are written by then, each atomically.

    Raises:
      InputError: if there is neither target nor input, a folder has no images, two of its files share a stem, a
        prediction has no target or input, sizes differ or are below 11 px with targets, a file is damaged, an output
        cannot be written, or BRISQUE is asked for and its package is not installed.
    """
    _check_arguments(target_dir, input_dir, csv_path, json_path, target_border_px)
    measuring = Measuring(target_border_px, brisque)
    measuring.scorer()  # a missing package is found before the files are listed
    predictions = list_images(pred_dir)
    none: list[AnyPath | None] = [None] * len(predictions)
    targets, sources, unpaired = none, none, 0
    if target_dir is not None:
        files = list_images(target_dir)
        targets = pair_files(predictions, files, shorten=True)
        unpaired = len(files) - len(set(targets))
    if input_dir is not None:
        sources = pair_files(predictions, list_images(input_dir), shorten=False)
    comparisons = [Comparison(*files) for files in zip(predictions, targets, sources)]
    scored = score(comparisons, measuring) if score else score_here(comparisons, measuring, progress)
    report = Report(tuple(scored.images), unpaired, target_border_px, scored.moments)
    write_report(report, csv_path, json_path)
    return report


def _check_arguments(target_dir: AnyPath | None, input_dir: AnyPath | None, csv_path: AnyPath | None,
                     json_path: AnyPath | None, target_border_px: int) -> None:
    if target_dir is None and input_dir is None:
        raise InputError("--target or --input must be a folder, found neither")
    if target_border_px < 0 or (target_border_px and target_dir is None):
        raise InputError(f"--target_border_px must be zero or more, and zero without --target, found "
                         f"{target_border_px}")
    check_report_files(csv_path, json_path)


def _score(comparison: Comparison, border_px: int, quality: Callable[[np.ndarray], float] | None) -> ImageScore:
    prediction_file, target_file, source_file = comparison
    prediction, values = read_image(prediction_file), {}
    height, width = prediction.shape[:2]
    if target_file is not None:
        target = read_image(target_file)[border_px:border_px + height, border_px:border_px + width]
        for name, metric in METRICS.items():
            values[name] = float(metric(prediction[None], target[None])[0])
    if source_file is not None:
        source = read_image(source_file)
        values.update(no_reference_scores(prediction, source))
        if quality:
            values["brisque_input"] = quality(source)
    if quality:
        values["brisque_output"] = quality(prediction)
    return ImageScore(prediction_file.name, width, height, values)
