"""Enlarges a translation by what it does to contrast: the fast guided filter, channel by channel.

He, Sun: Fast Guided Filter, arXiv 1505.00996; He, Sun, Tang: Guided Image Filtering, ECCV 2010, equations 5, 6 and 8.
Around each place a gain and an offset are fitted that make the small translation of the small picture. Enlarged, they
are applied to the picture itself. So every detail that it has stays, in step with the contrast around it, and textures
of the small translation that are none of the picture's do not reach the output.

`cut_tf.baselines.guided_filter` is the exact filter with a colour guide, in NumPy. This one has gradients, and the
operations that phones compute fast.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.layers.blur_pool import BlurUp
from cut_tf.layers.faint_details import faint_excess

# Pixels of the small picture for a fit, in each direction, and the reach of a window of fits.
_STEP_PX = 4
_REACH = 2
# Differences from the mean are measured in 1/16: where phones compute in float16, their squares would be denormals.
_CONTRAST = 16.0


class LocalAffine(keras.layers.Layer):
    """A translation of the size of `picture` that is, in each channel, gain * picture + offset around each place.

    Args:
      scale: side of `picture` as a multiple of that of the small ones.
      epsilon: what is added to the variance of the small picture, in squares of its values, above zero. Where it varies
        less, the gain falls to 0.
      faint_levels: details of so many levels of 255 get no more than a part of the gain, see `faint_excess`; 0: all get
        all of it.
    """

    def __init__(self, scale: int, epsilon: float, name: str, dtype: str = "float32",
                 faint_levels: float = 0.0) -> None:
        super().__init__(name=name, dtype=dtype)
        self._faint_levels = faint_levels
        self._epsilon = epsilon * _CONTRAST**2
        self._enlarge_means = BlurUp(_STEP_PX, name=f"{name}_means", dtype=dtype)
        self._enlarge_fits = BlurUp(_STEP_PX * scale, name=f"{name}_fits", dtype=dtype)

    def call(self, small: tf.Tensor, translated: tf.Tensor, picture: tf.Tensor) -> tf.Tensor:
        """Fits and enlarges.

        Args:
          small: float32 [B, h, w, C]; h and w are multiples of 4.
          translated: its translation, of the same shape.
          picture: [B, scale h, scale w, C].

        Returns:
          float32, of the shape of `picture`.
        """
        both = tf.concat([small, translated], -1)
        means = self._window_means(both)
        # Differences first, then their squares: squares of values would lose small variances.
        from_mean, moved = tf.split(_CONTRAST * (both - self._enlarge_means(means)), 2, -1)
        variance, covariance = tf.split(
            self._window_means(tf.concat([from_mean * from_mean, from_mean * moved], -1)), 2, -1)
        gain = covariance / (variance + self._epsilon)  # eq. 5
        mean, moved_mean = tf.split(means, 2, -1)
        fits = tf.concat([gain, moved_mean - gain * mean], -1)  # eq. 6
        gain, offset = tf.split(self._enlarge_fits(self._box(fits)), 2, -1)
        enlarged = gain * picture + offset  # eq. 8
        return enlarged - faint_excess(picture, gain, self._faint_levels) if self._faint_levels else enlarged

    def _window_means(self, values: tf.Tensor) -> tf.Tensor:
        return self._box(tf.nn.avg_pool2d(values, _STEP_PX, _STEP_PX, "VALID"))

    @staticmethod
    def _box(values: tf.Tensor) -> tf.Tensor:
        """Means of windows, which are cut off at the borders."""
        return tf.nn.avg_pool2d(values, 2 * _REACH + 1, 1, "SAME")
