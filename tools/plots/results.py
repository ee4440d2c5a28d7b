"""Recorded results: CSV files with a header line. Every failure names its file and line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

from cut_tf.common.errors import InputError


class Evaluation(NamedTuple):
    """PSNR of a run's output on its test pairs, at one step, in dB.

    `weights` is ema or raw; or input, at step 0, for the PSNR of the hazy input itself.
    """

    seed: int
    step: int
    weights: str
    psnr_db: float


class MethodEvaluation(NamedTuple):
    """PSNR in dB of a method's output on test pairs, EMA weights at one step; `method` is a label.

    Or, at step 0, of the hazy input itself.
    """

    method: str
    seed: int
    step: int
    psnr_db: float


class Latency(NamedTuple):
    """A .tflite file: milliseconds a picture, MB, and PSNR in dB of its output against the generator's."""

    form: str
    size_px: int
    median_ms: float
    least_ms: float
    most_ms: float
    megabytes: float
    psnr_db: float


class Share(NamedTuple):
    """A training step: its rate of computation as percent of what the machine's matrix products reach."""

    method: str
    precision: str
    percent: float


class Load(NamedTuple):
    """A server under load: so many requests at a time of square JPEG pictures of a side, or of all in turns (mixed).

    `errors` of `requests` were not answered; the rest is about those that were.
    """

    size_px: str
    parallel: int
    requests: int
    errors: int
    images_per_sec: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


def read_rows(path: Path, row_type: type) -> list:
    """Reads a CSV file whose columns are the fields of `row_type`.

    Args:
      path: the file.
      row_type: a NamedTuple of str, int and float; numbers must be finite.

    Returns:
      One object a line, one at least.

    Raises:
      InputError: naming the file and, where it applies, the line, if it is missing or not like that.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: must be a readable CSV file, found: {error}") from error
    header, *rest = lines or [[]]
    if header != list(row_type._fields) or not rest:
        raise InputError(f"{path}: must begin with the line {','.join(row_type._fields)} and have a line for each "
                         f"result, found {len(rest)} lines after {','.join(header)!r}")
    return [_row(path, number, values, row_type) for number, values in enumerate(rest, 2)]


def _row(path: Path, number: int, values: Sequence[str], row_type: type) -> NamedTuple:
    kinds = get_type_hints(row_type).values()
    try:
        if len(values) != len(kinds):
            raise ValueError("another number of columns")
        row = row_type(*(kind(value) for kind, value in zip(kinds, values)))
        if not all(math.isfinite(value) for value in row if not isinstance(value, str)):
            raise ValueError("not a finite number")
    except ValueError as error:
        raise InputError(f"{path}: line {number} must be {','.join(row_type._fields)} with finite numbers, found "
                         f"{','.join(values)!r}: {error}") from error
    return row


def to_csv(rows: Sequence[NamedTuple]) -> str:
    """The text that `read_rows` reads; floats with four decimals. `rows` are of one type, one at least."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows([f"{value:.4f}" if isinstance(value, float) else value for value in row] for row in rows)
    return text.getvalue()
