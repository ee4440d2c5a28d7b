"""Measures of pictures without a haze-free target. They say what changed, not whether it is right.

Noise, halos and false colours raise contrast and colourfulness, as a clear view does. The dark channel is low in any
dark picture. Where targets exist, use PSNR, SSIM and CIEDE2000.
"""

from __future__ import annotations

import math

import numpy as np

from cut_tf.common.windows import box_sum, row_bands, window_minimum

PATCH_PX = 15
_REACH_PX = PATCH_PX // 2
# Luma of ITU-R BT.601 in thousandths of a level: integers, so that a flat picture has a contrast of exactly zero.
_LUMA_WEIGHTS = np.array([299, 587, 114])
_LUMA_RANGE = 255 * 1000

DEFINITIONS = {
    "dark_channel": f"Dark channel (He et al. 2009): mean over all pixels of the least of R, G and B in a patch of "
                    f"{PATCH_PX}x{PATCH_PX} px, in 0..1; haze raises it, without haze it is near 0 but in the sky.",
    "contrast_gain": f"Contrast gain: C(output) / C(input), zero or more, 1 is no change. C is the mean over all "
                     f"pixels of the local RMS contrast, the standard deviation of luma (0.299 R + 0.587 G + 0.114 B, "
                     f"in 0..1) in a patch of {PATCH_PX}x{PATCH_PX} px; noise and halos count as contrast. No finite "
                     "value where the input is flat.",
    "colourfulness": "Colourfulness (Hasler and Suesstrunk 2003): with rg = R - G and yb = (R + G) / 2 - B in levels, "
                     "sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2); 0 is grey, by the authors' scale 33 "
                     "is moderately and 82 highly colourful.",
}


def no_reference_scores(prediction: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """All measures of an output and the input it was made from.

    Args:
      prediction: uint8 [H, W, 3] RGB.
      source: uint8 [H, W, 3] RGB; of any size, but contrasts are comparable at equal scales only.

    Returns:
      `dark_channel_input`, `dark_channel_output`, `contrast_gain`, `colourfulness_input` and `colourfulness_output`,
      as `DEFINITIONS` says.

    Raises:
      ValueError: if a picture has another type or shape, or no pixels.
    """
    before, after = local_contrast(source), local_contrast(prediction)
    gain = after / before if before else math.inf if after else math.nan
    return {"dark_channel_input": dark_channel(source), "dark_channel_output": dark_channel(prediction),
            "contrast_gain": gain, "colourfulness_input": colourfulness(source),
            "colourfulness_output": colourfulness(prediction)}


def dark_channel(picture: np.ndarray) -> float:
    """Mean over all pixels of min over patch and channels of value / 255: in [0, 1]; patches are cut at the border.

    He, Sun, Tang: Single Image Haze Removal Using Dark Channel Prior, CVPR 2009, eq. 5.

    Args:
      picture: uint8 [H, W, 3] RGB.

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    total = 0
    for reads, inside, _ in row_bands(picture.shape[0], _REACH_PX):
        total += int(window_minimum(picture[reads].min(axis=-1), _REACH_PX)[inside].sum(dtype=np.int64))
    return total / (255.0 * picture.shape[0] * picture.shape[1])


def local_contrast(picture: np.ndarray) -> float:
    """Mean over all pixels of the local RMS contrast: the standard deviation of luma in the patch around the pixel.

    RMS contrast as in Peli, Contrast in complex images, JOSA A 7 (1990), of BT.601 luma in [0, 1]; patches are cut at
    the border.

    Args:
      picture: uint8 [H, W, 3] RGB.

    Returns:
      A number in [0, 0.5]; 0 for a flat picture.

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    total = 0.0
    for reads, inside, _ in row_bands(picture.shape[0], _REACH_PX):
        luma = picture[reads].astype(np.int64) @ _LUMA_WEIGHTS
        pixels = box_sum(np.ones_like(luma), _REACH_PX)
        spread = pixels * box_sum(luma * luma, _REACH_PX) - box_sum(luma, _REACH_PX) ** 2  # pixels^2 variance, exact
        total += float((np.sqrt(spread) / pixels)[inside].sum())
    return total / (_LUMA_RANGE * picture.shape[0] * picture.shape[1])


def colourfulness(picture: np.ndarray) -> float:
    """Colourfulness of Hasler and Suesstrunk, Measuring Colourfulness in Natural Images, SPIE 5007 (2003).

    Args:
      picture: uint8 [H, W, 3] RGB.

    Returns:
      sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2) with rg = R - G and yb = (R + G) / 2 - B in levels,
      population variances. 0 for grey pictures; by the authors' scale 15 is slightly, 33 moderately, 59 quite, 82
      highly and 109 extremely colourful.

    Raises:
      ValueError: if `picture` has another type or shape, or no pixels.
    """
    _check(picture)
    sums, squares = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for _, _, band in row_bands(picture.shape[0], 0):
        red, green, blue = np.moveaxis(picture[band].astype(np.int64), -1, 0)
        for index, values in enumerate((2 * (red - green), red + green - 2 * blue)):  # doubled, so whole numbers
            sums[index] += values.sum()
            squares[index] += (values * values).sum()
    pixels = picture.shape[0] * picture.shape[1]
    means = sums / (2 * pixels)
    variances = squares / (4 * pixels) - means**2
    return float(np.sqrt(max(variances.sum(), 0.0)) + 0.3 * np.hypot(*means))


def _check(picture: np.ndarray) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"expected uint8 [H, W, 3] with at least one pixel, got {picture.dtype} "
                         f"{list(picture.shape)}")
