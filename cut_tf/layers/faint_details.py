"""Details so faint that they may be noise: the part of a gain that they do not get.

To take haze off is to multiply contrast. The noise of the camera is multiplied too. Noise is small, most details are
not: filters that tell them apart by size are called coring. Here a detail is the difference of a pixel from its
neighbourhood. Its first few levels are multiplied by `KEPT` at most, what is beyond them by the whole gain. So no edge
gets softer by more than these levels, and nothing changes where the gain is below `KEPT`.
"""

from __future__ import annotations

import tensorflow as tf

from cut_tf.layers.padding import repeat_borders

# The gain of faint details at most. At 0.8 the light generator for dehazing passes on 1.25 times the noise of six hazed
# photographs; at 1, with as many levels, 1.33 times, for 0.004 of SSIM more (ten photographs).
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
