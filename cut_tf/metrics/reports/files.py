"""The files of reports, and the progress of a long evaluation."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write, replace_file
from cut_tf.common.places import AnyPath

_PROGRESS_SECONDS = 10.0

Item = TypeVar("Item")


class Writable(Protocol):
    """A report."""

    def table(self) -> str: ...

    def to_csv(self) -> str: ...

    def to_json(self) -> str: ...


def check_report_files(csv_path: AnyPath | None, json_path: AnyPath | None, read: Path | None = None) -> None:
    """Checks, before any work, that a report can be written, and will not replace a file of another kind.

    Args:
      csv_path: of the report; None if none is written.
      json_path: the same for the JSON file.
      read: a CSV file that the report is made from, if any.

    Raises:
      InputError: if a name lacks its suffix, so that a mistyped name cannot replace a picture or weights; if the folder
        of a file is missing or cannot be written; or if `csv_path` is `read`.
    """
    for path, ending in ((csv_path, ".csv"), (json_path, ".json")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise InputError(f"--{ending[1:]} must be a file whose name ends in {ending}, found {path}")
        if not path.parent.is_dir():
            raise InputError(f"{path}: must lie in an existing folder, found none")
        if path.is_dir():
            raise InputError(f"--{ending[1:]} must be a file, found the folder {path}")
        check_can_write(path.parent, f"--{ending[1:]}={path}: its folder")
    if csv_path is not None and read is not None and read.exists() and csv_path.exists() and csv_path.samefile(read):
        raise InputError(f"--csv must be another file than the one that is read, found {csv_path} for both")


def write_report(report: Writable, csv_path: AnyPath | None, json_path: AnyPath | None) -> None:
    """Writes both files, each atomically. Raises InputError with the whole table if one cannot be written."""
    try:
        for path, text in ((csv_path, report.to_csv), (json_path, report.to_json)):
            if path is not None:
                replace_file(path, text().encode("utf-8", errors="surrogateescape"))
    except InputError as error:
        raise InputError(f"{error}. What was measured:\n{report.table()}") from error


def finite(value: float) -> float | None:
    """`value`, or None if it is a number that JSON cannot hold."""
    return value if math.isfinite(value) else None


def with_progress(items: Iterable[Item], total: int, doing: str, progress: bool = True) -> Iterator[Item]:
    """The items; prints on stderr every ten seconds how many are done, "`doing` 3 of `total` images"."""
    since = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if progress and time.monotonic() - since > _PROGRESS_SECONDS:
            since = time.monotonic()
            print(f"{doing} {number} of {total} images", file=sys.stderr, flush=True)
