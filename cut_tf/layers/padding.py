"""Reflection padding, and padding to a multiple with the crop that undoes it."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

from cut_tf.layers import portable


class ReflectionPadding(keras.layers.Layer):
    """[B, H, W, C] to [B, H + 2 padding, W + 2 padding, C], mirrored at the borders without repeating them."""

    def __init__(self, padding_px: int, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._padding_px = padding_px

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return mirror_borders(inputs, self._padding_px)


def mirror_borders(inputs: tf.Tensor, padding_px: int) -> tf.Tensor:
    """tf.pad(..., "REFLECT") on all four sides: [B, H, W, C] to [B, H + 2 padding, W + 2 padding, C].

    On a CPU, batches of known shape are gathered pixel by pixel, and what the border adds to the gradient of the pixels
    that it mirrors is scattered back: half of the time of TensorFlow's kernels.
    """
    if portable.is_portable():
        return portable.mirror_pad(inputs, (padding_px,) * 2, (padding_px,) * 2)
    scatters = inputs.shape.is_fully_defined() and not tf.config.list_physical_devices("GPU")
    if not scatters or min(inputs.shape[1:3]) <= padding_px:
        side = [padding_px, padding_px]
        return tf.pad(inputs, [[0, 0], side, side, [0, 0]], "REFLECT")
    batch, height, width, channels = inputs.shape
    seen, border, mirrored = _indices(batch, height, width, padding_px)

    @tf.custom_gradient
    def mirror(pictures: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            inside = tf.slice(upstream, [0, padding_px, padding_px, 0], inputs.shape)
            total = tf.tensor_scatter_nd_add(tf.reshape(inside, [-1, channels]), mirrored,
                                             tf.gather(tf.reshape(upstream, [-1, channels]), border))
            return tf.reshape(total, inputs.shape)

        padded = tf.gather(tf.reshape(pictures, [-1, channels]), seen)
        return tf.reshape(padded, [batch, height + 2 * padding_px, width + 2 * padding_px, channels]), gradient

    return mirror(inputs)


@functools.lru_cache(maxsize=32)
def _indices(batch: int, height: int, width: int, padding_px: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which of the B * H * W pixels each pixel of the padded picture shows, int32, row by row.

    Made once and given to the graph from outside, since it would keep a copy for each of its layers.

    Returns:
      Of all padded pixels, [B (H + 2 padding) (W + 2 padding)]; which of them are in the border, [M]; and what those
      show, [M, 1].
    """
    pixels = np.arange(batch * height * width, dtype=np.int32).reshape(batch, height, width)
    side = (padding_px, padding_px)
    seen = np.pad(pixels, ((0, 0), side, side), "reflect")
    is_border = np.ones(seen.shape, bool)
    is_border[:, padding_px:-padding_px, padding_px:-padding_px] = False
    with tf.init_scope():
        return (tf.constant(seen.reshape(-1)), tf.constant(np.flatnonzero(is_border).astype(np.int32)),
                tf.constant(seen[is_border][:, None]))


def pad_to_multiple(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Mirrors rows at the bottom and columns at the right until H and W are multiples of `multiple`.

    Args:
      images: [B, H, W, C] with H and W above `multiple`, static or not.
      multiple: pixels.

    Returns:
      [B, H', W', C]; `crop_to` undoes it.
    """
    height, width = images.shape[1], images.shape[2]
    if height is not None and width is not None and height % multiple == 0 and width % multiple == 0:
        return images
    if portable.is_portable() and height is not None and width is not None:
        return portable.mirror_pad(images, (-height % multiple, -width % multiple))
    shape = tf.shape(images)
    bottom, right = -shape[1] % multiple, -shape[2] % multiple
    padded = tf.pad(images, [[0, 0], [0, bottom], [0, right], [0, 0]], "REFLECT")
    # TFLite forgets the number of channels here, without which it cannot convolve; a reshape reminds it.
    return tf.reshape(padded, [shape[0], shape[1] + bottom, shape[2] + right, images.shape[3]])


def crop_to(output: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Cuts [B, H', W', C] to the height and width of `images`, from the top left corner."""
    if output.shape[1:3].is_fully_defined() and output.shape[1:3] == images.shape[1:3]:
        return output
    if images.shape[1:3].is_fully_defined():
        return output[:, :images.shape[1], :images.shape[2], :]
    shape = tf.shape(images)
    return output[:, :shape[1], :shape[2], :]


def repeat_to(images: tf.Tensor, side_px: int) -> tf.Tensor:
    """Repeats the last row and the last column of [B, H, W, C] until both sides have `side_px` at least.

    `crop_to` undoes it. Mirroring, as `pad_to_multiple` does, needs pictures larger than what is added.
    """
    height, width = images.shape[1], images.shape[2]
    if height is not None and width is not None and min(height, width) >= side_px:
        return images
    shape = tf.shape(images)
    rows = tf.minimum(tf.range(tf.maximum(shape[1], side_px)), shape[1] - 1)
    columns = tf.minimum(tf.range(tf.maximum(shape[2], side_px)), shape[2] - 1)
    return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
