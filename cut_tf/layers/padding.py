"""Reflection padding, and padding to a multiple with the crop that undoes it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from cut_tf.layers import kernels, portable


class ReflectionPadding(keras.layers.Layer):
    """[B, H, W, C] to [B, H + 2 padding, W + 2 padding, C], mirrored at the borders without repeating them."""

    def __init__(self, padding_px: int, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._padding_px = padding_px

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return mirror_borders(inputs, self._padding_px)


def mirror_borders(inputs: tf.Tensor, padding_px: int) -> tf.Tensor:
    """tf.pad(..., "REFLECT") on all four sides: [B, H, W, C] to [B, H + 2 padding, W + 2 padding, C].

    On a CPU and for known shapes, the padded pixels are gathered, and the gradient of the border is scattered back to
    the pixels that it mirrors. That takes half of the time of TensorFlow's kernels.
    """
    if portable.is_portable():
        return portable.mirror_pad(inputs, (padding_px,) * 2, (padding_px,) * 2)
    if not inputs.shape.is_fully_defined() and kernels.are_fast_at_any_size():
        return _gathered(inputs, padding_px)
    scatters = inputs.shape.is_fully_defined() and kernels.are_fast_on_cpu()
    if not scatters or min(inputs.shape[1:3]) <= padding_px:
        side = [padding_px, padding_px]
        return tf.pad(inputs, [[0, 0], side, side, [0, 0]], "REFLECT")
    batch, height, width, channels = inputs.shape

    @tf.custom_gradient
    def mirror(pictures: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            inside = tf.slice(upstream, [0, padding_px, padding_px, 0], inputs.shape)
            total, of_border = tf.reshape(inside, [-1, channels]), tf.reshape(upstream, [-1, channels])
            for border, mirrored in _borders(batch, height, width, padding_px):
                total = tf.tensor_scatter_nd_add(total, mirrored[:, None], tf.gather(of_border, border))
            return tf.reshape(total, inputs.shape)

        padded = tf.gather(tf.reshape(pictures, [-1, channels]), _shown(
            batch, _mirrored(height, padding_px), height, _mirrored(width, padding_px), width))
        return tf.reshape(padded, [batch, height + 2 * padding_px, width + 2 * padding_px, channels]), gradient

    return mirror(inputs)


def _gathered(inputs: tf.Tensor, padding_px: int) -> tf.Tensor:
    """`mirror_borders` of pictures whose size need not be known."""
    batch, height, width, channels = kernels.sizes(inputs)
    rows, columns = (side_px - 1 - abs(side_px - 1 - abs(tf.range(-padding_px, side_px + padding_px)))
                     for side_px in (height, width))
    shown = (tf.range(batch)[:, None, None] * height + rows[:, None]) * width + columns
    padded = tf.gather(tf.reshape(inputs, [-1, channels]), tf.reshape(shown, [-1]))
    return tf.reshape(padded, [batch, height + 2 * padding_px, width + 2 * padding_px, channels])


def _mirrored(side_px: int, padding_px: int) -> np.ndarray:
    """For each row or column of the padded picture, that of the picture which it shows: int32 [side + 2 padding]."""
    return np.pad(np.arange(side_px, dtype=np.int32), padding_px, "reflect")


def _shown(batch: int, rows: np.ndarray, height: int, columns: np.ndarray, width: int) -> tf.Tensor:
    """Indices of the pixels at these rows and columns of [B, H, W], int32 [B * rows * columns].

    The graph computes them at each call. Stored, they would take the memory of one channel for every size ever seen.
    """
    images = np.arange(batch, dtype=np.int32)[:, None, None] * np.int32(height * width)
    return tf.reshape(tf.constant(images + rows[:, None] * np.int32(width)) + tf.constant(columns), [-1])


def _borders(batch: int, height: int, width: int, padding_px: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Pairs of int32 vectors: pixels of the padded border, and the pixels of the picture that these show.

    One pair is for the rows above and below the picture, with the corners. The other is for the columns at its sides.
    """
    high, wide = height + 2 * padding_px, width + 2 * padding_px
    rows, columns = np.arange(high, dtype=np.int32), np.arange(wide, dtype=np.int32)
    outer_rows = np.r_[rows[:padding_px], rows[-padding_px:]]
    outer_columns = np.r_[columns[:padding_px], columns[-padding_px:]]
    pairs = []
    for some_rows, some_columns in ((outer_rows, columns), (rows[padding_px:-padding_px], outer_columns)):
        pairs.append((_shown(batch, some_rows, high, some_columns, wide),
                      _shown(batch, _mirrored(height, padding_px)[some_rows], height,
                             _mirrored(width, padding_px)[some_columns], width)))
    return pairs


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
    # TFLite loses the number of channels here, and cannot convolve without it. The reshape restores it.
    return tf.reshape(padded, [shape[0], shape[1] + bottom, shape[2] + right, images.shape[3]])


def crop_to(output: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Cuts [B, H', W', C] to the height and width of `images`, from the top left corner."""
    if output.shape[1:3].is_fully_defined() and output.shape[1:3] == images.shape[1:3]:
        return output
    if images.shape[1:3].is_fully_defined():
        return output[:, :images.shape[1], :images.shape[2], :]
    shape = tf.shape(images)
    return output[:, :shape[1], :shape[2], :]


def repeat_borders(inputs: tf.Tensor, padding_px: int) -> tf.Tensor:
    """Repeats the outermost pixels on all four sides: [B, H, W, C] to [B, H + 2 padding, W + 2 padding, C].

    Zeros instead would tell a convolution where the border is, and it would draw a frame. Mirroring needs more pixels
    than are left of a small picture at a fraction of its resolution.

    Args:
      inputs: H and W of 2 at least, static or not.
      padding_px: pixels, of 2 at most in files for phones, whose delegate joins five parts.
    """
    if portable.is_portable():
        return _with_repeated(_with_repeated(inputs, 1, padding_px), 2, padding_px)

    @tf.custom_gradient
    def repeat(pixels: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _folded(_folded(upstream, 2, padding_px), 1, padding_px)

        return _with_repeated(_with_repeated(pixels, 1, padding_px), 2, padding_px), gradient

    return repeat(inputs)


def _part(inputs: tf.Tensor, axis: int, start: int | None, stop: int | None) -> tf.Tensor:
    """Rows (axis 1) or columns (axis 2)."""
    return inputs[:, start:stop] if axis == 1 else inputs[:, :, start:stop]


def _with_repeated(inputs: tf.Tensor, axis: int, count: int) -> tf.Tensor:
    first, last = _part(inputs, axis, 0, 1), _part(inputs, axis, -1, None)
    return tf.concat([first] * count + [inputs] + [last] * count, axis)


def _folded(upstream: tf.Tensor, axis: int, count: int) -> tf.Tensor:
    """The gradient of `_with_repeated`: the outermost pixel gets what its repetitions got too.

    The gradient that TensorFlow derives adds up a tensor of zeros of full size for each repetition.
    """
    ends = [tf.reduce_sum(part, axis, keepdims=True) for part in
            (_part(upstream, axis, 0, count + 1), _part(upstream, axis, -count - 1, None))]
    return tf.concat([ends[0], _part(upstream, axis, count + 1, -count - 1), ends[1]], axis)


def fit_to(output: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """`crop_to`, or if [B, H', W', C] is smaller than `images`, its last row and column repeated."""
    if output.shape[1:3].is_fully_defined() and output.shape[1:3] == images.shape[1:3]:
        return output
    shape, size = tf.shape(output), tf.shape(images)
    rows, columns = (tf.minimum(tf.range(size[axis]), shape[axis] - 1) for axis in (1, 2))
    return tf.gather(tf.gather(output, rows, axis=1), columns, axis=2)


def repeat_to(images: tf.Tensor, side_px: int) -> tf.Tensor:
    """Repeats the last row and the last column of [B, H, W, C] until both sides have `side_px` at least.

    `crop_to` undoes it. `pad_to_multiple` mirrors instead, which needs pictures larger than the padding.
    """
    height, width = images.shape[1], images.shape[2]
    if height is not None and width is not None and min(height, width) >= side_px:
        return images
    shape = tf.shape(images)
    rows = tf.minimum(tf.range(tf.maximum(shape[1], side_px)), shape[1] - 1)
    columns = tf.minimum(tf.range(tf.maximum(shape[2], side_px)), shape[2] - 1)
    return tf.gather(tf.gather(images, rows, axis=1), columns, axis=2)
