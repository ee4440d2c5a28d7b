"""Dehazing by the dark channel prior, the baseline that needs no training. NumPy alone.

He, Sun, Tang: Single Image Haze Removal Using Dark Channel Prior, CVPR 2009 (equation numbers are those of that
paper) and TPAMI 2011. In a haze-free outdoor picture, most small patches outside of the sky have a pixel that is almost
black in some channel (eq. 5). In a hazy picture, the brightness of such a pixel comes from the haze. It gives the
transmission (eq. 12), and with it the picture without haze (eq. 16).

Patch size, omega, t0 and the share of bright pixels are those of the paper. The paper refines the transmission by soft
matting. Here the guided filter does that, as in the authors' later work, with the hazy colour picture as its guide. Its
radius is that of the authors' example with a colour guide (feathering). Its eps is a common value for this purpose.
"""

from __future__ import annotations

import numpy as np

from cut_tf.baselines.guided_filter import guided_filter
from cut_tf.common.windows import row_bands, window_minimum

PATCH_PX = 15
OMEGA = 0.95  # share of the haze that is removed: a little remains, so that distant objects still look distant
LEAST_TRANSMISSION = 0.1  # t0: a smaller value would amplify noise more than tenfold
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
    # The guided filter needs about forty floats per pixel at a time. Bands of rows bound that for big photographs.
    for reads, inside, band in row_bands(picture.shape[0], 2 * GUIDED_RADIUS_PX, rows=512):
        share = refine_transmission(picture[reads], coarse[reads])[inside]
        shown = np.maximum(share, LEAST_TRANSMISSION)[..., None]
        radiance = (picture[band] / _LEVELS - airlight) / shown + airlight
        clear[band] = np.rint(np.clip(radiance, 0.0, 1.0) * _LEVELS)
    return clear


def atmospheric_light(picture: np.ndarray) -> np.ndarray:
    """The colour A of the haze itself (section 4.4), which is what one sees where the haze hides everything.

    The candidates are the 0.1 % of pixels that are brightest in the dark channel: at least one, and all ties with the
    last of them. The result is the colour of the candidate with the greatest sum of R, G and B. Of equal ones it is
    the topmost, then the leftmost.

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
