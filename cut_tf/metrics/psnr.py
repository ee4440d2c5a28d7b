"""Peak signal-to-noise ratio of 8-bit RGB pictures."""

from __future__ import annotations

import tensorflow as tf

MAX_LEVEL = 255.0


def check_pair(prediction: tf.Tensor, target: tf.Tensor) -> None:
    """Raises ValueError unless both are uint8 [B, H, W, 3] of one shape (sizes unknown in a graph are not checked)."""
    for name, images in (("prediction", prediction), ("target", target)):
        if images.dtype != tf.uint8 or not images.shape.is_compatible_with([None, None, None, 3]):
            raise ValueError(f"{name}: expected uint8 [B, H, W, 3], got {images.dtype.name} {images.shape}")
    if not prediction.shape.is_compatible_with(target.shape):
        raise ValueError(f"shapes differ: prediction {prediction.shape}, target {target.shape}")


def psnr(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """10 log10(255^2 / mean squared difference), for each image over all its pixels and channels.

    Protocol: full-size RGB at 8 bits, no border cropped, no luma channel. The same number as scikit-image's
    `peak_signal_noise_ratio(target, prediction, data_range=255)`.

    Args:
      prediction: uint8 [B, H, W, 3], tensor or array.
      target: uint8 of the same shape.

    Returns:
      float32 [B], in dB; infinite where both pictures are identical.

    Raises:
      ValueError: if dtype or shape differ from that, or the shapes differ.
    """
    prediction, target = tf.convert_to_tensor(prediction), tf.convert_to_tensor(target)
    check_pair(prediction, target)
    return tf.image.psnr(prediction, target, max_val=MAX_LEVEL)
