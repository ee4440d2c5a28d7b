"""Where reports of folders are written, and how far a long evaluation is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from cut_tf.errors import InputError
from cut_tf.files import replace_file

_PROGRESS_SECONDS = 10.0

Item = TypeVar("Item")


class Writable(Protocol):
    """A report."""

    def to_csv(self) -> str: ...

    def to_json(self) -> str: ...


def check_report_files(csv_path: Path | None, json_path: Path | None) -> None:
    """Raises InputError if the folder of a file is missing, or both are one file. None means that none is written."""
    for path in (csv_path, json_path):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path}: must lie in an existing folder, found none")
    if csv_path is not None and csv_path == json_path:
        raise InputError(f"{csv_path}: CSV and JSON must be two files, found one name for both")


def write_report(report: Writable, csv_path: Path | None, json_path: Path | None) -> None:
    """Writes both files, each atomically. Raises InputError if one cannot be written."""
    for path, text in ((csv_path, report.to_csv), (json_path, report.to_json)):
        if path is not None:
            replace_file(path, text().encode("utf-8", errors="surrogateescape"))


def finite(value: float) -> float | None:
    """`value`, or None if it is a number that JSON cannot hold."""
    return value if math.isfinite(value) else None


def told(items: Iterable[Item], total: int, doing: str, progress: bool = True) -> Iterator[Item]:
    """The items, telling on stderr now and then how many of `total` images are done: `doing` is "compared" or so."""
    since = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if progress and time.monotonic() - since > _PROGRESS_SECONDS:
            since = time.monotonic()
            print(f"{doing} {number} of {total} images", file=sys.stderr, flush=True)
