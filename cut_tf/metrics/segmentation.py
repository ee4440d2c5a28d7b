"""Scores of label maps against true ones: pixel accuracy, class accuracy, mean IoU.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, section 5, as CUT, CycleGAN
and pix2pix report them for Cityscapes. n_ij is the number of pixels of class i that are predicted as class j, over all
pictures together:

    pixel accuracy   sum_i n_ii / sum_ij n_ij
    class accuracy   mean over classes i of n_ii / sum_j n_ij
    mean IoU         mean over classes i of n_ii / (sum_j n_ij + sum_j n_ji - n_ii)

Class accuracy counts the classes that occur in the targets, mean IoU those that occur in targets or predictions.
Pixels of the target with label 255 do not count; a prediction of 255 where the target has a class is wrong.

Labels are never mixed. A prediction of another size is resized to its target's by nearest neighbour (pixel centres). A
colour that is not in the colour table becomes the label of the nearest one (Euclidean, in RGB).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import PngImagePlugin

from cut_tf.common.errors import InputError
from cut_tf.data.haze.depth_maps import resize_nearest
from cut_tf.data.image_files import image_size, list_images, read_bytes, read_image, read_sizes
from cut_tf.metrics.reports.file_pairs import pair_files
from cut_tf.metrics.reports.files import check_report_files, finite, with_progress, write_report

IGNORED = 255
_LABELS = 256
_PNG_START = b"\x89PNG\r\n\x1a\n"
_ID_MODES = ("1", "L", "P")
# Where a PNG has its bits of a value and its type of colour. Pillow spreads greys of 2 and 4 bits over 0 to 255, in
# these steps.
_BITS_AT, _TYPE_AT, _GREY = 24, 25, 0
_STEP_OF_BITS = {2: 85, 4: 17}
# Colours at a time, which bounds the memory.
_CHUNK_COLOURS = 1 << 13
_LINE_WIDTH = 100
_PROTOCOL = (
    "Pixel accuracy, mean class accuracy and mean IoU (Long et al. 2015) over the pixels of all pictures together. "
    "Class accuracy: classes that occur in the targets; IoU: classes that occur in targets or predictions. Pixels "
    f"whose target is {IGNORED} do not count. Predictions of another size than their target are resized with nearest "
    "neighbour; colours become the label of the nearest colour in the table."
)


def confusion(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Number of pixels of each class [target] that are predicted as each label [prediction].

    Args:
      prediction: uint8 [H, W], labels.
      target: uint8 of the same shape; 255 is left out.

    Returns:
      int64 [255, 256], rows are classes of the target.

    Raises:
      ValueError: if dtype or shape differ from that.
    """
    if prediction.dtype != np.uint8 or target.dtype != np.uint8 or prediction.shape != target.shape:
        raise ValueError(f"expected uint8 [H, W] of one shape, got {prediction.dtype} {prediction.shape} and "
                         f"{target.dtype} {target.shape}")
    pairs = target.astype(np.intp) * _LABELS + prediction
    return np.bincount(pairs.ravel(), minlength=_LABELS**2).reshape(_LABELS, _LABELS)[:IGNORED]


@dataclasses.dataclass(frozen=True)
class SegmentationReport:
    """Scores of label maps.

    Attributes:
      confusion: int64 [255, 256], as of `confusion`, summed over all pictures.
      images: number of predictions.
      names: of classes, by label; may be empty.
    """

    confusion: np.ndarray
    images: int
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def pixel_accuracy(self) -> float:
        """Share of right pixels, in [0, 1]; NaN if no pixel counts."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    def class_accuracies(self) -> np.ndarray:
        """float64 [255]: share of the pixels of each class that are right; NaN where the targets have none."""
        return _ratio(np.diagonal(self.confusion), self.confusion.sum(axis=1))

    def ious(self) -> np.ndarray:
        """float64 [255]: intersection over union of each class; NaN where neither has it."""
        right = np.diagonal(self.confusion)
        return _ratio(right, self.confusion.sum(axis=1) + self.confusion.sum(axis=0)[:IGNORED] - right)

    def scores(self) -> dict[str, float]:
        """`pixel_accuracy`, `class_accuracy` and `mean_iou`, in [0, 1]; NaN if no pixel counts."""
        means = {name: values[np.isfinite(values)] for name, values in (("class_accuracy", self.class_accuracies()),
                                                                        ("mean_iou", self.ious()))}
        return {"pixel_accuracy": self.pixel_accuracy,
                **{name: float(values.mean()) if values.size else float("nan") for name, values in means.items()}}

    def rows(self) -> list[tuple[int, str, int, float, float]]:
        """(label, name, pixels in the targets, accuracy, IoU) of each class that occurs."""
        accuracies, ious, pixels = self.class_accuracies(), self.ious(), self.confusion.sum(axis=1)
        return [(label, self.names.get(label, ""), int(pixels[label]), float(accuracies[label]), float(ious[label]))
                for label in np.flatnonzero(np.isfinite(ious)).tolist()]

    def table(self) -> str:
        """Text to print: the three scores, a row per class, the protocol."""
        lines = [f"{name.replace('_', ' '):<15} {value:.4f}" for name, value in self.scores().items()]
        lines += [f"images          {self.images}",
                  f"{'label':>5} {'class':<20} {'pixels':>12} {'accuracy':>9} {'IoU':>7}"]
        lines += [f"{label:>5} {name[:20]:<20} {pixels:>12} {accuracy:>9.4f} {iou:>7.4f}"
                  for label, name, pixels, accuracy, iou in self.rows()]
        return "\n".join([*lines, textwrap.fill(_PROTOCOL, _LINE_WIDTH)])

    def to_csv(self) -> str:
        """A line per class that occurs, under a header line; what is not finite is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["label", "class", "pixels", "accuracy", "iou"])
        for label, name, pixels, accuracy, iou in self.rows():
            writer.writerow([label, name, pixels, finite(accuracy), finite(iou)])
        return text.getvalue()

    def to_json(self) -> str:
        """The whole report; what is not finite is null."""
        classes = [{"label": label, "name": name, "pixels": pixels, "accuracy": finite(accuracy), "iou": finite(iou)}
                   for label, name, pixels, accuracy, iou in self.rows()]
        scores = {name: finite(value) for name, value in self.scores().items()}
        return json.dumps({"protocol": _PROTOCOL, "count": self.images, **scores, "classes": classes}, indent=2,
                          allow_nan=False) + "\n"


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole` is zero."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


@dataclasses.dataclass(frozen=True)
class ColourTable:
    """Colours of labels.

    Attributes:
      labels: uint8 [n].
      colours: int64 [n, 3], RGB.
      names: of classes, by label.
    """

    labels: np.ndarray
    colours: np.ndarray
    names: dict[int, str]

    def labels_of(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] to uint8 [H, W]: the label of the nearest colour, the first of equally near ones."""
        packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        unique, places = np.unique(packed, return_inverse=True)
        found = np.empty(len(unique), np.uint8)
        for start in range(0, len(unique), _CHUNK_COLOURS):
            some = unique[start:start + _CHUNK_COLOURS, None].astype(np.int64) >> np.array([16, 8, 0]) & 255
            distances = ((some[:, None] - self.colours) ** 2).sum(axis=-1)
            found[start:start + _CHUNK_COLOURS] = self.labels[distances.argmin(axis=1)]
        return found[places].reshape(picture.shape[:2])


def read_colour_table(path: Path) -> ColourTable:
    """Reads a CSV file with a line `label,red,green,blue` or `label,red,green,blue,name` per colour, each 0 to 255.

    Lines that are empty or begin with # are passed over; a label may have several colours. Label 255 is ignored.

    Raises:
      InputError: naming the file and the line, if it cannot be read or is not so.
    """
    rule = "must have a line label,red,green,blue[,name] per colour, whole numbers of 0 to 255, no colour twice"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"--label_colours={path} {rule}, found {error}") from error
    colours: dict[tuple[int, ...], int] = {}
    names: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = [word.strip() for word in line.split(",", 4)]
        values = [int(word) if word.isascii() and word.isdigit() else -1 for word in words[:4]]
        if len(values) != 4 or not all(0 <= value <= 255 for value in values) or tuple(values[1:]) in colours:
            raise InputError(f"--label_colours={path} {rule}, found {line!r} in line {number}")
        colours[tuple(values[1:])] = values[0]
        names.setdefault(values[0], words[4] if len(words) > 4 else "")
    if not colours:
        raise InputError(f"--label_colours={path} {rule}, found none")
    return ColourTable(np.array(list(colours.values()), np.uint8), np.array(list(colours), np.int64), names)


def read_labels(path: Path, table: ColourTable | None = None) -> np.ndarray:
    """Reads a label map: uint8 [H, W].

    Args:
      path: without `table` a PNG, grey or palette of up to 8 bits, whose stored numbers are the labels; with it a
        picture of any format, whose colours are looked up.
      table: colours of the labels.

    Raises:
      InputError: naming the file, if it is missing, damaged or of another kind.
    """
    if table is not None:
        return table.labels_of(read_image(path))
    rule = "must be a PNG of grey levels or palette entries of up to 8 bits, the labels"
    data = read_bytes(path)
    image_size(data, str(path))  # refuses what is no picture, or too large to decode
    if not data.startswith(_PNG_START):
        raise InputError(f"{path}: {rule}, found another format; colours need --label_colours")
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        mode, labels = image.mode, np.asarray(image)
    except Exception as error:  # on damaged files Pillow raises far more types than it documents
        raise InputError(f"{path}: {rule}, found {type(error).__name__}: {error}") from error
    if mode not in _ID_MODES:
        raise InputError(f"{path}: {rule}, found mode {mode}; colours need --label_colours")
    step = _STEP_OF_BITS.get(data[_BITS_AT], 1) if data[_TYPE_AT] == _GREY else 1
    return labels.astype(np.uint8) // np.uint8(step)


def evaluate_labels(pred_dir: Path, target_dir: Path, colours: Path | None = None, csv_path: Path | None = None,
                    json_path: Path | None = None, progress: bool = True) -> SegmentationReport:
    """Compares the label maps of two folders, paired by stem.

    Args:
      pred_dir: folder of predictions.
      target_dir: folder of true label maps.
      colours: file of a colour table, or None: stored numbers are labels.
      csv_path: where to write a line per class, if anywhere.
      json_path: where to write the whole report, if anywhere.
      progress: whether to print the progress on stderr.

    Returns:
      The report; both files are written by then, each atomically.

    Raises:
      InputError: if a folder has no images, a prediction has no target, or a file is no label map.
    """
    check_report_files(csv_path, json_path, read=colours)
    table = read_colour_table(colours) if colours is not None else None
    predictions = list_images(pred_dir)
    targets = pair_files(predictions, list_images(target_dir), shorten=False)
    read_sizes([*predictions, *targets])
    total = np.zeros([IGNORED, _LABELS], np.int64)
    pairs = with_progress(zip(predictions, targets), len(predictions), "compared", progress)
    for prediction_file, target_file in pairs:
        prediction, target = read_labels(prediction_file, table), read_labels(target_file, table)
        total += confusion(resize_nearest(prediction, *target.shape), target)
    report = SegmentationReport(total, len(predictions), table.names if table else {})
    write_report(report, csv_path, json_path)
    return report
