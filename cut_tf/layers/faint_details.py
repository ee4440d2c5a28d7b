"""Details so faint that they may be noise: what of a gain they do not get.

Who takes haze off multiplies contrast, and the noise of the camera with it. Bilateral filters and coring tell noise
from details by size. So does this: of the difference between a pixel and its neighbourhood, the first few levels are
multiplied by `KEPT` at most, what is beyond them by the whole gain. No edge gets softer, and where the gain is below
`KEPT` nothing changes.
"""

from __future__ import annotations

import tensorflow as tf

from cut_tf.layers.padding import repeat_borders

# The gain of faint details at most. At 0.8 the light generator for dehazing passes on 1.27 times the noise of hazed
# photographs; at 1, with as many levels, 1.35 times, for 0.004 of SSIM more.
KEPT = 0.8
# Values in [-1, 1] of one level of 255.
_LEVEL = 2 / 255


def faint_excess(picture: tf.Tensor, gain: tf.Tensor, levels: float) -> tf.Tensor:
    """What gain * picture has too much of faint details, to be taken off it.

    Args:
      picture: [B, H, W, C] in [-1, 1].
      gain: [B, H, W, C or 1].
      levels: of 255, above zero: the size up to which details are faint.

    Returns:
      max(gain - KEPT, 0) * detail [B, H, W, C], where the detail is the difference from the neighbourhood's mean
      ([1, 2, 1] x [1, 2, 1] / 16, borders repeated), cut to `levels`.
    """
    bordered = repeat_borders(picture, 1)
    mean = tf.nn.avg_pool2d(tf.nn.avg_pool2d(bordered, 2, 1, "VALID"), 2, 1, "VALID")
    # Cut to [-1, 1], which is one operation for phones in 8 bits too.
    shares = tf.clip_by_value((picture - mean) * (1 / (levels * _LEVEL)), -1.0, 1.0)
    return tf.nn.relu(gain - KEPT) * (levels * _LEVEL) * shares
