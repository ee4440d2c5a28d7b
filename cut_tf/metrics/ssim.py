"""Structural similarity of 8-bit RGB pictures (Wang et al. 2004)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cut_tf.metrics.psnr import MAX_LEVEL, check_pair

WINDOW_PX = 11
_SIGMA_PX = 1.5
_C1 = (0.01 * MAX_LEVEL) ** 2
_C2 = (0.03 * MAX_LEVEL) ** 2
# Rows of the result computed at a time, which bounds the memory for photographs of many megapixels.
_BAND_ROWS = 256


def ssim(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean structural similarity, for each image over all windows that lie inside it and over the three channels.

    Protocol: full-size RGB at 8 bits, no luma channel, Gaussian window of 11x11 px with sigma 1.5 px, K1 0.01,
    K2 0.03, population covariance. The same number as scikit-image's `structural_similarity(target, prediction,
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=255)`.

    Computed in float64. In float32, as in `tf.image.ssim`, rounding loses the variance of bright, flat regions such as
    a hazy sky, and the result is wrong by up to 2e-3. scikit-image has the same function, and tests compare with it; it
    is no run-time package because of its size, and training computes SSIM in TensorFlow.

    Args:
      prediction: uint8 [B, H, W, 3], tensor or array; both sides at least 11 px.
      target: uint8 of the same shape.

    Returns:
      float32 [B], in [-1, 1]; 1 where both pictures are identical.

    Raises:
      ValueError: if dtype or shape differ from that, the shapes differ, or a side is below 11 px.
    """
    prediction, target = tf.convert_to_tensor(prediction), tf.convert_to_tensor(target)
    check_pair(prediction, target)
    height, width = prediction.shape[1:3]
    if min(side for side in (height, width, WINDOW_PX) if side is not None) < WINDOW_PX:
        raise ValueError(f"SSIM needs sides of at least {WINDOW_PX} px, found {width}x{height}")
    if height is None:
        return tf.cast(tf.reduce_mean(_similarity(prediction, target), axis=[1, 2, 3]), tf.float32)
    rows = height - WINDOW_PX + 1
    total = tf.zeros(tf.shape(prediction)[:1], tf.float64)
    for top in range(0, rows, _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS + WINDOW_PX - 1)
        row_means = tf.reduce_mean(_similarity(prediction[:, band], target[:, band]), axis=[2, 3])
        total += tf.reduce_sum(row_means, axis=1)
    return tf.cast(total / rows, tf.float32)


def _similarity(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """uint8 [B, H, W, 3] twice to float64 [B, H - 10, W - 10, 3], the similarity of each window."""
    x, y = tf.cast(prediction, tf.float64), tf.cast(target, tf.float64)
    moments = _window_mean(tf.concat([x, y, x * x + y * y, x * y], axis=-1))
    mean_x, mean_y, mean_squares, mean_product = tf.split(moments, 4, axis=-1)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = mean_product - product, mean_squares - squares
    return (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))


def _window_mean(values: tf.Tensor) -> tf.Tensor:
    """float64 [B, H, W, C] to [B, H - 10, W - 10, C]: Gaussian mean of the window, along rows and then columns."""
    offset = np.arange(WINDOW_PX) - WINDOW_PX // 2
    weight = np.exp(-0.5 * (offset / _SIGMA_PX) ** 2)
    kernel = np.tile((weight / weight.sum())[:, None, None, None], (1, 1, values.shape[-1], 1))
    values = tf.nn.depthwise_conv2d(values, kernel, strides=[1, 1, 1, 1], padding="VALID")
    return tf.nn.depthwise_conv2d(values, kernel.transpose(1, 0, 2, 3), strides=[1, 1, 1, 1], padding="VALID")
