"""The guided filter with a colour guide (He, Sun, Tang: Guided Image Filtering, ECCV 2010 and TPAMI 2013)."""

from __future__ import annotations

import numpy as np

from cut_tf.common.windows import box_sum

# Row and column of the six different elements of a symmetric 3x3 matrix.
_UPPER = np.triu_indices(3)


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Smooths `values` and keeps the edges of `guide`: in each window the result is an affine function of the colour.

    Equations 14 to 16 of the ECCV paper. Windows are cut off at the border of the picture. The time does not depend on
    the radius; the result of a pixel depends on pixels up to 2 radius away.

    Args:
      guide: float [H, W, 3] in [0, 1].
      values: float [H, W].
      radius: window radius in pixels, zero or more.
      eps: what is added to the variances of the guide; the greater, the smoother. Above zero.

    Returns:
      float64 [H, W].
    """
    guide, values = np.asarray(guide, np.float64), np.asarray(values, np.float64)
    pixels = box_sum(np.ones(values.shape), radius)[..., None]

    def mean(channels: np.ndarray) -> np.ndarray:
        return box_sum(channels, radius) / pixels

    guide_mean, values_mean = mean(guide), mean(values[..., None])
    covariance = mean(guide * values[..., None]) - guide_mean * values_mean
    row, column = _UPPER
    variances = mean(guide[..., row] * guide[..., column]) - guide_mean[..., row] * guide_mean[..., column]
    matrix = np.empty([*values.shape, 3, 3])
    matrix[..., row, column] = matrix[..., column, row] = variances
    matrix += eps * np.eye(3)
    slope = np.linalg.solve(matrix, covariance[..., None])[..., 0]  # eq. 14
    offset = values_mean - np.sum(slope * guide_mean, axis=-1, keepdims=True)  # eq. 15
    return np.sum(mean(slope) * guide, axis=-1) + mean(offset)[..., 0]  # eq. 16
