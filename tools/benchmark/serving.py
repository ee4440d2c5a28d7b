"""A server under load: latency percentiles and pictures per second, over parallelism and sizes, errors counted."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cut_tf.client.grpc_client import GrpcClient
from cut_tf.client.rest_client import RestClient
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.export.options import Size
from cut_tf.export.saved_model.warm_up import warm_up_picture
from tools.plots.results import Load, to_csv

PROTOCOLS = {"grpc": GrpcClient, "rest": RestClient}
_PERCENTILES = (50, 90, 99)
_MIXED = "mixed"


class Client(Protocol):
    """What is called: one of PROTOCOLS."""

    def translate(self, picture: bytes, what: str) -> bytes: ...


def rows(client: Client, sizes_px: Sequence[int], parallels: Sequence[int], requests: int) -> Iterator[dict[str, Any]]:
    """One row per size and parallelism, and, with several sizes, per parallelism with all of them in turns.

    Args:
      client: sends one picture a request. It must not try again by itself, since errors are counted.
      sizes_px: sides of the square JPEG pictures.
      parallels: requests that are under way at the same time.
      requests: of a row. One for each size goes before, uncounted.
    """
    pictures = {size_px: _jpeg(size_px) for size_px in sizes_px}
    for picture in pictures.values():
        _timed(client, picture)
    groups = {str(size_px): [picture] for size_px, picture in pictures.items()}
    if len(pictures) > 1:
        groups[_MIXED] = list(pictures.values())
    for name, group in groups.items():
        for parallel in parallels:
            yield {"size_px": name, "parallel": parallel, **measure(client, group, parallel, requests)}


def measure(client: Client, pictures: Sequence[bytes], parallel: int, requests: int,
            clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Sends `requests` pictures, in turns those given, and waits for all answers.

    Returns:
      `requests`, `errors`, `first_error`, `images_per_sec` of those answered, and `p50_ms`, `p90_ms`, `p99_ms` of
      their latencies, None if there are none.
    """
    start = clock()
    with ThreadPoolExecutor(parallel) as pool:
        found = list(pool.map(lambda index: _timed(client, pictures[index % len(pictures)], clock), range(requests)))
    wall_sec = clock() - start
    latencies = [seconds for seconds, error in found if not error]
    errors = [error for _, error in found if error]
    values = np.percentile(latencies, _PERCENTILES) * 1000 if latencies else [None] * len(_PERCENTILES)
    return {"requests": requests, "errors": len(errors), "first_error": errors[0] if errors else "",
            "images_per_sec": len(latencies) / wall_sec,
            **{f"p{percent}_ms": value if value is None else float(value)
               for percent, value in zip(_PERCENTILES, values)}}


def _timed(client: Client, picture: bytes, clock: Callable[[], float] = time.perf_counter) -> tuple[float, str]:
    """Seconds until the answer, and why there was none."""
    start = clock()
    try:
        client.translate(picture, "picture")
    except InputError as error:
        return clock() - start, str(error)
    return clock() - start, ""


def _jpeg(size_px: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(warm_up_picture(Size(size_px, size_px))).save(encoded, "JPEG")
    return encoded.getvalue()


def recorded(rows: Iterable[dict[str, Any]], path: Path) -> Iterator[dict[str, Any]]:
    """The same rows. After the last one they are in a CSV file of `tools.plots.results.Load`, without the unanswered.

    Raises:
      InputError: if nothing was answered at all, or the file cannot be written.
    """
    answered = []
    for row in rows:
        if row["p50_ms"] is not None:
            answered.append(Load(**{name: row[name] for name in Load._fields}))
        yield row
    if not answered:
        raise InputError(f"--csv={path} must hold what was answered, found that all requests failed")
    replace_file(path, to_csv(answered).encode())


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    shown = "   ".join(f"p{percent} {row[f'p{percent}_ms']:8.1f} ms" for percent in _PERCENTILES) if (
        row["p50_ms"] is not None) else "no answer"
    errors = f"   {row['errors']} of {row['requests']} failed: {row['first_error']}" if row["errors"] else ""
    return f"{row['size_px']:>6s} px, {row['parallel']:3d} at a time: {row['images_per_sec']:8.2f} pictures/s   " \
           f"{shown}{errors}"
