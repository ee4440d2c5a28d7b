"""FID and KID of a folder of predictions against a folder of targets, which need not be pairs, or against a file."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Callable, Sequence

from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write
from cut_tf.common.places import AnyPath
from cut_tf.data.image_files import list_images, read_image, read_sizes
from cut_tf.metrics import DISTANCES
from cut_tf.metrics.distances import (
    DEFINITIONS,
    Distance,
    FeatureStatistics,
    check_count,
    load_statistics,
    statistics_of,
    subset_size,
)
from cut_tf.metrics.features import FeatureExtractor
from cut_tf.metrics.reports.files import check_report_files, finite, with_progress, write_report
from cut_tf.metrics.reports.protocol import decoder

_LINE_WIDTH = 100


@dataclasses.dataclass(frozen=True)
class DistributionReport:
    """Distances of two sets of pictures.

    Attributes:
      distances: by name, in the order asked for.
      predictions: number of pictures.
      targets: number of pictures.
      description: of the extractor, as in `FeatureExtractor.description`.
    """

    distances: dict[str, Distance]
    predictions: int
    targets: int
    description: dict[str, str]

    @property
    def warnings(self) -> list[str]:
        """Reasons why the numbers are less reliable than they look."""
        dimension, found = int(self.description["dimension"]), []
        if "fid" in self.distances and min(self.predictions, self.targets) < dimension:
            found.append(f"FID is biased upwards: {min(self.predictions, self.targets)} images are fewer than the "
                         f"{dimension} dimensions of the features, so a covariance has not full rank. Compare it only "
                         "with figures of as many images; KID has no such bias.")
        return found

    def table(self) -> str:
        """Text to print: a row per distance, the protocol, the warnings."""
        lines = [f"{'measure':<8} {'value':>12} {'std':>10} {'better':>7}"]
        lines += [f"{name.upper():<8} {distance.value:>12.6f} {_spread(distance):>10} {'lower':>7}"
                  for name, distance in self.distances.items()]
        rows = {"images": f"{self.predictions} predictions, {self.targets} targets",
                **{name: self.description[name] for name in ("extractor", "layer", "resize")}}
        lines += [f"{name + ':':<11}{text}" for name, text in rows.items()]
        return "\n".join(lines + [textwrap.fill(text, _LINE_WIDTH) for text in [
            *self._protocol(), *(f"warning: {text}" for text in self.warnings)]])

    def _protocol(self) -> list[str]:
        used = f" Here: subsets of {subset_size(self.predictions, self.targets)}."
        return [*(DEFINITIONS[name] + (used if name == "kid" else "") for name in self.distances),
                f"Full 8-bit RGB pictures as decoded by {decoder()}. Figures of other extractors or weights, another "
                "layer, another resize filter or another number of images are other figures."]

    def to_csv(self) -> str:
        """A line per distance under a header line; without a spread, `std` is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["measure", "value", "std", "predictions", "targets", *self.description])
        for name, distance in self.distances.items():
            writer.writerow([name, distance.value, finite(distance.std), self.predictions, self.targets,
                             *self.description.values()])
        return text.getvalue()

    def to_json(self) -> str:
        """The whole report; a spread that there is not is null."""
        values = {"protocol": " ".join(self._protocol()), "warnings": self.warnings, **self.description,
                  "predictions": self.predictions, "targets": self.targets,
                  **{name: {"value": distance.value, "std": finite(distance.std)}
                     for name, distance in self.distances.items()}}
        return json.dumps(values, indent=2, allow_nan=False) + "\n"


def _spread(distance: Distance) -> str:
    return "-" if finite(distance.std) is None else f"{distance.std:.6f}"


def check_distribution(pred_dir: AnyPath, target_dir: AnyPath | None, names: Sequence[str], reference: AnyPath | None,
                       csv_path: AnyPath | None, json_path: AnyPath | None) -> None:
    """Checks all that can be checked before the extractor is loaded. Arguments as for `evaluate_distribution`.

    Raises:
      InputError: if a name is unknown, there is neither target nor reference, `reference` is there and there is a
        target, a folder has under 2 images, the reference to read is missing, or an output cannot be written.
    """
    unknown = [name for name in names if name not in DISTANCES]
    if unknown or not names or len(set(names)) < len(names):
        raise InputError(f"--distribution must be {' or '.join(DISTANCES)} or {','.join(DISTANCES)}, found "
                         f"{','.join(names)!r}")
    if target_dir is None and reference is None:
        raise InputError("--target must be a folder or --reference_statistics a file, found neither")
    if target_dir is not None and reference is not None and (reference.exists() or not reference.parent.is_dir()):
        found = "it there" if reference.exists() else "no such folder"
        raise InputError(f"--reference_statistics={reference} is written from --target, so it must be a new file in an "
                         f"existing folder, found {found}; without --target it is read")
    if target_dir is None and not reference.is_file():
        raise InputError(f"--reference_statistics={reference} must be a file unless there is a --target, found none")
    if reference is not None and reference.suffix.lower() != ".npz":
        raise InputError(f"--reference_statistics must be a file whose name ends in .npz, found {reference}")
    for folder in (pred_dir, target_dir):
        if folder is not None:
            check_count(len(list_images(folder)), str(folder))
    check_report_files(csv_path, json_path)
    if target_dir is not None and reference is not None:
        check_can_write(reference.parent, f"--reference_statistics={reference}: its folder")


def evaluate_distribution(pred_dir: AnyPath, target_dir: AnyPath | None, names: Sequence[str],
                          extractor: FeatureExtractor, reference: AnyPath | None = None,
                          csv_path: AnyPath | None = None, json_path: AnyPath | None = None, progress: bool = True,
                          statistics: Callable[[list[AnyPath]], FeatureStatistics] | None = None
                          ) -> DistributionReport:
    """Distances between the pictures of two folders, read one at a time; files need not be pairs.

    Args:
      pred_dir: folder of predictions.
      target_dir: folder of targets, or None: the reference is read then.
      names: out of `DISTANCES`.
      extractor: of the features.
      reference: file with the statistics of the targets: written if there is a `target_dir`, else read.
      csv_path: where to write a line per distance, if anywhere.
      json_path: where to write the whole report, if anywhere.
      progress: whether to print the progress on stderr.
      statistics: of the extractor's features of files of one folder; computed in this process if None.

    Returns:
      The report; all files are written by then, each atomically.

    Raises:
      InputError: as `check_distribution`, or if a folder has under 2 images, a file is damaged, the reference does not
        fit the extractor, or an output cannot be written.
    """
    check_distribution(pred_dir, target_dir, names, reference, csv_path, json_path)
    predictions = list_images(pred_dir)
    target_files = list_images(target_dir) if target_dir is not None else []

    if statistics is None:  # pipelines read headers with the pictures, on their workers
        read_sizes([*predictions, *target_files])

    def statistics_here(files: list[AnyPath]) -> FeatureStatistics:
        pictures = with_progress(map(read_image, files), len(files), "looked at", progress)
        return statistics_of(extractor, pictures, str(files[0].parent))

    statistics = statistics or statistics_here
    targets = statistics(target_files) if target_files else load_statistics(reference, extractor)
    if target_files and reference is not None:
        targets.save(reference)
    outputs = statistics(predictions)
    report = DistributionReport({name: DISTANCES[name](outputs, targets) for name in names}, outputs.count,
                                targets.count, extractor.description)
    write_report(report, csv_path, json_path)
    return report
