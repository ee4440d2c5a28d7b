"""Reflection padding, and padding to a multiple with the crop that undoes it."""

from __future__ import annotations

import keras
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

    Pictures of known size are joined from slices, forward and backward, in half of the time of TensorFlow's kernels.
    """
    if portable.is_portable():
        return portable.mirror_pad(inputs, (padding_px,) * 2, (padding_px,) * 2)
    height, width = inputs.shape[1:3]
    if height is None or width is None or min(height, width) < 2 * padding_px + 2:
        side = [padding_px, padding_px]
        return tf.pad(inputs, [[0, 0], side, side, [0, 0]], "REFLECT")

    @tf.custom_gradient
    def mirror(pictures: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _fold_borders(_fold_borders(upstream, padding_px, 2), padding_px, 1)

        return _add_borders(_add_borders(pictures, padding_px, 1), padding_px, 2), gradient

    return mirror(inputs)


def _part(pictures: tf.Tensor, axis: int, first: int, end: int) -> tf.Tensor:
    """Rows (axis 1) or columns (axis 2) from `first` up to before `end`."""
    return pictures[:, first:end] if axis == 1 else pictures[:, :, first:end]


def _add_borders(pictures: tf.Tensor, padding_px: int, axis: int) -> tf.Tensor:
    size = pictures.shape[axis]
    first = tf.reverse(_part(pictures, axis, 1, padding_px + 1), [axis])
    last = tf.reverse(_part(pictures, axis, size - padding_px - 1, size - 1), [axis])
    return tf.concat([first, pictures, last], axis)


def _fold_borders(gradient: tf.Tensor, padding_px: int, axis: int) -> tf.Tensor:
    """The transpose of `_add_borders`: adds each border to what it mirrors."""
    pad, size = padding_px, gradient.shape[axis]
    first = _part(gradient, axis, pad + 1, 2 * pad + 1) + tf.reverse(_part(gradient, axis, 0, pad), [axis])
    last = (_part(gradient, axis, size - 2 * pad - 1, size - pad - 1)
            + tf.reverse(_part(gradient, axis, size - pad, size), [axis]))
    return tf.concat([_part(gradient, axis, pad, pad + 1), first,
                      _part(gradient, axis, 2 * pad + 1, size - 2 * pad - 1), last,
                      _part(gradient, axis, size - pad - 1, size - pad)], axis)


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
