"""Dehazing by the dark channel prior, the baseline that needs no training. NumPy alone.

He, Sun, Tang: Single Image Haze Removal Using Dark Channel Prior, CVPR 2009 (equation numbers are those of that
paper) and TPAMI 2011. Haze-free outdoor pictures have, in most small patches but the sky, a pixel that is almost black
in some channel (eq. 5). What is not black there is the haze, so it tells the transmission (eq. 12), and with it the
picture without haze (eq. 16).

Patch, omega, t0 and the share of bright pixels are those of the paper. It refines the transmission by soft matting; as
the authors did later, the guided filter does it here, with the hazy colour picture as its guide. Its radius is that of
the authors' example with a colour guide (feathering), its eps a common one for this purpose.
"""

from __future__ import annotations

import numpy as np

from cut_tf.baselines.guided_filter import guided_filter
from cut_tf.common.windows import row_bands, window_minimum

PATCH_PX = 15
OMEGA = 0.95  # share of the haze that is removed: a little of it tells distance
LEAST_TRANSMISSION = 0.1  # t0: below, noise would be amplified more than tenfold
BRIGHT_SHARE = 0.001  # of all pixels, those brightest in the dark channel
GUIDED_RADIUS_PX = 60
GUIDED_EPS = 1e-4  # for a guide in [0, 1]
_LEVELS = 255.0


def dehaze(picture: np.ndarray) -> np.ndarray:
    """Removes haze: J = (I - A) / max(t, t0) + A (eq. 16), on the sRGB values as the paper does.

    Args:
      picture: hazy picture I, uint8 [H, W, 3] RGB, of any size from one pixel on.

    Returns:
      uint8 [H, W, 3] RGB, rounded to nearest and cut to [0, 255].

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    airlight = atmospheric_light(picture)
    coarse = coarse_transmission(picture, airlight)
    clear = np.empty_like(picture)
    # The guided filter needs some forty floats per pixel at a time. In bands, big photographs need not that much.
    for reads, inside, band in row_bands(picture.shape[0], 2 * GUIDED_RADIUS_PX, rows=512):
        share = refine_transmission(picture[reads], coarse[reads])[inside]
        shown = np.maximum(share, LEAST_TRANSMISSION)[..., None]
        radiance = (picture[band] / _LEVELS - airlight) / shown + airlight
        clear[band] = np.rint(np.clip(radiance, 0.0, 1.0) * _LEVELS)
    return clear


def atmospheric_light(picture: np.ndarray) -> np.ndarray:
    """The colour A of the haze itself (section 4.4): where the haze hides everything, it is all there is to see.

    Of the 0.1 % of pixels that are brightest in the dark channel, at least one and all that are as bright as the least
    of them, the colour of the pixel with the greatest sum of R, G and B; of equals, the topmost, then leftmost one.

    Args:
      picture: uint8 [H, W, 3] RGB.

    Returns:
      float64 [3] in [1/255, 1]: a black channel counts as one level, since A is divided by.

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    dark = window_minimum(picture.min(axis=-1), PATCH_PX // 2)
    count = max(1, round(BRIGHT_SHARE * dark.size))
    threshold = np.partition(dark, dark.size - count, axis=None)[dark.size - count]
    candidates = picture[dark >= threshold]
    colour = candidates[np.argmax(candidates.sum(axis=-1))]
    return np.maximum(colour, 1) / _LEVELS


def coarse_transmission(picture: np.ndarray, airlight: np.ndarray) -> np.ndarray:
    """Transmission of each patch: 1 - omega min over patch and channels of I / A (eq. 12).

    Args:
      picture: uint8 [H, W, 3] RGB.
      airlight: float [3] in (0, 1].

    Returns:
      float32 [H, W], at most 1; negative where a whole patch is brighter than the airlight.

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    darkest = np.full(picture.shape[:2], np.inf, np.float32)
    for channel in range(3):
        ratio = picture[..., channel] * np.float32(1.0 / (_LEVELS * airlight[channel]))
        darkest = np.minimum(darkest, ratio)
    return 1.0 - np.float32(OMEGA) * window_minimum(darkest, PATCH_PX // 2)


def refine_transmission(picture: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Makes the edges of the patches follow those of the picture.

    Args:
      picture: the guide, uint8 [H, W, 3] RGB.
      coarse: float [H, W].

    Returns:
      float64 [H, W], cut to [0, 1].
    """
    refined = guided_filter(picture / _LEVELS, coarse, GUIDED_RADIUS_PX, GUIDED_EPS)
    return np.clip(refined, 0.0, 1.0)


def _check(picture: np.ndarray) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"picture must be uint8 [H, W, 3] with at least one pixel, got {picture.dtype} "
                         f"{list(picture.shape)}")
