"""What a translation adds where its input is smooth and bright: colour and structure that may be invented.

Overcast skies and dense haze look alike. A model that takes the one for the other paints blue bands and clouds into
skies. No truth is needed to see that something was added, only to say whether it was right: in a hazy distance some of
it is. So compare models with each other, and look at the pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cut_tf.common.windows import box_sum
from cut_tf.metrics.ciede2000 import lab_of_rgb

# A place counts if luma is at least so many levels and varies by at most so many in the window around it.
BRIGHT_LEVELS, SMOOTH_LEVELS = 120.0, 4.0
_REACH_PX = 4
_LUMA = np.array([0.299, 0.587, 0.114])


class AddedToSkies(NamedTuple):
    """Of one picture.

    Attributes:
      share: of the pixels that are smooth and bright in the input, in [0, 1].
      colour: mean over these of how much chroma (CIELAB) grew, zero or more; NaN without such pixels.
      structure: mean over these of how much the gradient of luma grew, in levels per pixel; NaN without such pixels.
    """

    share: float
    colour: float
    structure: float


def added_to_skies(source: np.ndarray, output: np.ndarray) -> AddedToSkies:
    """Colour and structure of `output` beyond those of `source` where that one is smooth and bright.

    Both pictures are averaged over windows of 9x9 px first, so that neither noise nor its removal counts.

    Args:
      source: uint8 [H, W, 3].
      output: uint8 of the same shape.

    Raises:
      ValueError: if shapes or types are not these.
    """
    if source.dtype != np.uint8 or output.dtype != np.uint8 or source.shape != output.shape or source.ndim != 3:
        raise ValueError(f"expected uint8 [H, W, 3] twice, got {source.dtype} {list(source.shape)} and {output.dtype} "
                         f"{list(output.shape)}")
    luma = source @ _LUMA
    mean = _averaged(luma)
    spread = np.sqrt(np.maximum(_averaged(luma * luma) - mean * mean, 0.0))
    smooth = (mean >= BRIGHT_LEVELS) & (spread <= SMOOTH_LEVELS)
    if not smooth.any():
        return AddedToSkies(0.0, float("nan"), float("nan"))
    chroma, slope = zip(*(_chroma_and_slope(picture) for picture in (source, output)))
    grown = [np.maximum(after - before, 0.0)[smooth].mean() for before, after in (chroma, slope)]
    return AddedToSkies(float(smooth.mean()), float(grown[0]), float(grown[1]))


def _averaged(values: np.ndarray) -> np.ndarray:
    """Means over windows, cut at the borders: [H, W] to the same."""
    return box_sum(values, _REACH_PX) / box_sum(np.ones_like(values), _REACH_PX)


def _chroma_and_slope(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chroma, and length of the gradient of luma in levels per pixel, of the averaged picture: [H, W] each."""
    averaged = np.stack([_averaged(picture[..., channel].astype(np.float64)) for channel in range(3)], -1)
    _, a, b = np.moveaxis(lab_of_rgb(np.rint(averaged).astype(np.uint8)), -1, 0)
    return np.hypot(a, b), np.hypot(*np.gradient(averaged @ _LUMA))
