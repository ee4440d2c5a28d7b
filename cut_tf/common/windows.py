"""Sums and minima over square windows, and the bands of rows that bound the memory for big pictures. NumPy alone.

A window of radius r is the square of 2 r + 1 px around a pixel, cut off where the picture ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Rows of a band: enough that its neighbours add little work, few enough that a band of a wide photograph is small.
_BAND_ROWS = 256


def box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """Sum over the window of every pixel, in a time that does not depend on the radius.

    Args:
      values: integers or floats [H, W] or [H, W, C]; at least one pixel. Sums of integers are exact in int64.
      radius: zero or more, in pixels; it may exceed the picture.

    Returns:
      Same shape; float64 for floats, int64 for integers.
    """
    kind = np.float64 if np.asarray(values).dtype.kind == "f" else np.int64
    sums = _sum_down(np.asarray(values, kind), radius)
    return _sum_down(np.ascontiguousarray(sums.swapaxes(0, 1)), radius).swapaxes(0, 1)


def _sum_down(values: np.ndarray, radius: int) -> np.ndarray:
    """The sum over the existing rows from y - radius to y + radius, of [H, ...]."""
    rows = values.shape[0]
    sums, running = np.empty_like(values), values[:radius].sum(axis=0)
    # Faster than numpy.cumsum and a difference, which go through memory several times.
    for row in range(rows):
        if row + radius < rows:
            running += values[row + radius]
        if row > radius:
            running -= values[row - radius - 1]
        sums[row] = running
    return sums


def window_minimum(values: np.ndarray, radius: int) -> np.ndarray:
    """Minimum over the window of every pixel.

    Args:
      values: [H, W] of any ordered type; at least one pixel.
      radius: zero or more, in pixels; it may exceed the picture.

    Returns:
      Same shape and type.
    """
    minima = _minimum_down(np.asarray(values), radius)
    return _minimum_down(minima.swapaxes(0, 1), radius).swapaxes(0, 1)


def _minimum_down(values: np.ndarray, radius: int) -> np.ndarray:
    """The minimum over the existing rows from y - radius to y + radius, of [H, W]."""
    # Repeating the border rows changes no minimum: every window that reaches them contains the border row already.
    minima = np.pad(values, ((radius, radius), (0, 0)), mode="edge")
    length, wanted = 1, 2 * radius + 1
    while length < wanted:  # two windows of `length` rows together cover one of up to twice that length
        step = min(length, wanted - length)
        minima = np.minimum(minima[:-step], minima[step:])
        length += step
    return minima


def row_bands(height: int, reach: int, rows: int = _BAND_ROWS) -> Iterator[tuple[slice, slice, slice]]:
    """Splits a picture into bands of rows, each with the neighbours that windows of its pixels reach.

    `result[band] = filtered(picture[with_neighbours])[inside]` gives what `filtered(picture)` gives.

    Args:
      height: rows of the picture.
      reach: how many rows up and down the result of a pixel depends on.
      rows: rows of a band; the last one may have fewer.

    Yields:
      (with_neighbours, inside, band): the rows to read; where the band lies among them; where it lies in the picture.
    """
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first = max(top - reach, 0)
        yield slice(first, min(bottom + reach, height)), slice(top - first, bottom - first), slice(top, bottom)
