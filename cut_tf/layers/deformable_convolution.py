"""Modulated deformable convolution (Zhu et al., "Deformable ConvNets v2", CVPR 2019, eq. 1).

Each of the nine taps of a 3x3 kernel samples the image at an offset from its grid point, by bilinear interpolation, and
multiplies the sample by a mask. Offsets and masks are predicted from the input. Outside of the image there are zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from cut_tf.layers import kernels
from cut_tf.layers.convolution import xavier_normal

TAPS = 9
# (dy, dx) of the taps in the order of a [3, 3, C, F] kernel, and of the four pixels around a place.
_GRID = np.array([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], np.int32)
_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.int32)


def deformable_convolution(inputs: tf.Tensor, offsets: tf.Tensor, mask: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """y(p) = sum_k kernel_k * mask_k(p) * x(p + p_k + offsets_k(p)), stride 1, with x = 0 outside the image.

    The taps are computed one after the other, and again in the backward pass. So the memory is that of a few copies of
    the input. With automatic gradients it would be that of 36 and more.

    Args:
      inputs: [B, H, W, C], any float type; products are of this type, their sums float32 at least.
      offsets: float32 (or float64) [B, H, W, G, 18], pixels down and right of tap 1, of tap 2, ...; each of the G
        groups of C / G channels has its own.
      mask: [B, H, W, G, 9], of the type of `offsets`.
      kernel: [3, 3, C, F].

    Returns:
      [B, H, W, F] of the inputs' type.
    """
    shape, channels = tf.shape(inputs), inputs.shape[-1]
    groups = offsets.shape[3]
    indices, weights = bilinear_places(offsets, mask)
    rows = tf.reshape(inputs, [-1, channels // groups])
    kernel = tf.cast(tf.reshape(kernel, [TAPS, channels, kernel.shape[-1]]), inputs.dtype)
    # TFLite has no use for a gradient.
    convolve = _convolve_with_gradient if kernels.are_fast() else _convolve
    output = convolve(rows, weights, kernel, indices)
    return tf.cast(tf.reshape(output, [*tf.unstack(shape)[:3], kernel.shape[-1]]), inputs.dtype)


def bilinear_places(offsets: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The four pixels around each sampled place, and the weight of each.

    Args:
      offsets: [B, H, W, G, 18].
      mask: [B, H, W, G, 9].

    Returns:
      int32 [B * H * W * G, 9, 4], rows of the image as [B * H * W * G, C / G], and weights of the same shape and of
      the type of `offsets`: the bilinear ones times the mask, zero outside the image.
    """
    shape = tf.unstack(tf.shape(offsets))
    height, width, groups = offsets.shape[1] or shape[1], offsets.shape[2] or shape[2], offsets.shape[3]
    y = tf.range(height)[:, None, None, None] + _GRID[:, 0]  # [H, 1, 1, 9]
    x = tf.range(width)[:, None, None] + _GRID[:, 1]  # [W, 1, 9]
    # No tensor of six dimensions: TensorFlow 2.15 cannot slice one for TFLite.
    down_right = (offsets[..., 0::2], offsets[..., 1::2])
    starts = [tf.floor(offset) for offset in down_right]
    fractions = [offset - start for offset, start in zip(down_right, starts)]
    # NaN becomes some number here, which is cut to the image below.
    first_row, first_column = y + tf.cast(starts[0], tf.int32), x + tf.cast(starts[1], tf.int32)
    image = tf.range(shape[0])[:, None, None, None, None] * height  # [B, 1, 1, 1, 1]
    indices, weights = [], []
    for down, right in _CORNERS:
        row, column = first_row + down, first_column + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        weight = (fractions[0] if down else 1.0 - fractions[0]) * (fractions[1] if right else 1.0 - fractions[1])
        weights.append(tf.reshape(tf.where(inside, weight, tf.zeros_like(weight)) * mask, [-1, TAPS]))
        pixel = (image + tf.clip_by_value(row, 0, height - 1)) * width + tf.clip_by_value(column, 0, width - 1)
        indices.append(tf.reshape(pixel * groups + tf.range(groups)[:, None], [-1, TAPS]))
    return tf.stack(indices, -1), tf.stack(weights, -1)


def _sum_type(dtype: tf.DType) -> tf.DType:
    return dtype if dtype == tf.float64 else tf.float32


def _sample(rows: tf.Tensor, weights: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Weighted sums of rows: [M, C / G], [N, 4], [N, 4] to [N, C / G]."""
    weights = tf.cast(weights, rows.dtype)
    return tf.add_n([tf.gather(rows, indices[:, corner]) * weights[:, corner, None] for corner in range(len(_CORNERS))])


def _convolve(rows: tf.Tensor, weights: tf.Tensor, kernel: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Samples and multiplies, tap by tap: [M, C / G], [M, 9, 4], [9, C, F], [M, 9, 4] to [B * H * W, F]."""
    output = None
    for tap in range(TAPS):
        with tf.control_dependencies([] if output is None else [output]):
            sampled = _sample(rows, weights[:, tap], indices[:, tap])
        product = tf.matmul(tf.reshape(sampled, [-1, kernel.shape[1]]), kernel[tap])
        product = tf.cast(product, _sum_type(product.dtype))
        output = product if output is None else output + product
    return output


@tf.custom_gradient
def _convolve_with_gradient(rows: tf.Tensor, weights: tf.Tensor, kernel: tf.Tensor,
                            indices: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """`_convolve`, whose gradient samples again instead of keeping what was sampled."""

    def back(upstream: tf.Tensor) -> tuple:
        upstream = tf.cast(upstream, rows.dtype)
        to_rows, to_weights, to_kernel = None, [], []
        for tap in range(TAPS):
            with tf.control_dependencies([] if to_rows is None else [to_rows, to_weights[-1], to_kernel[-1]]):
                found = tf.gather(rows, indices[:, tap])  # [M, 4, C / G]
                to_sampled = tf.reshape(tf.matmul(upstream, kernel[tap], transpose_b=True), tf.shape(rows))
            weight = tf.cast(weights[:, tap], rows.dtype)
            sampled = tf.reshape(tf.matmul(weight[:, None], found), [-1, kernel.shape[1]])
            to_kernel.append(tf.matmul(sampled, upstream, transpose_a=True))
            to_weights.append(tf.cast(tf.matmul(found, to_sampled[..., None])[..., 0], weights.dtype))
            # Many places may share a pixel, so their gradients are summed in float32 at least.
            parts = tf.cast(weight[..., None] * to_sampled[:, None], _sum_type(rows.dtype))
            parts = tf.math.unsorted_segment_sum(tf.reshape(parts, [-1, rows.shape[1]]),
                                                 tf.reshape(indices[:, tap], [-1]), tf.shape(rows)[0])
            to_rows = parts if to_rows is None else to_rows + parts
        return tf.cast(to_rows, rows.dtype), tf.stack(to_weights, 1), tf.stack(to_kernel), None

    return _convolve(rows, weights, kernel, indices), back


class DeformableConvolution(keras.layers.Layer):
    """3x3 deformable convolution, stride 1, with offsets and mask of its own: [B, H, W, C] to [B, H, W, filters].

    A 3x3 convolution predicts both, in float32 whatever the precision: 2 * 9 * groups offsets as (down, right) per tap,
    then 9 * groups masks. It starts at zero. The mask is 2 * sigmoid, so that the layer starts as an ordinary
    convolution. In DCNv2 the mask is sigmoid alone, so a kernel of DCNv2 is twice the one here.

    Args:
      filters: output channels.
      seed: seed of the Xavier initialisation.
      groups: deformable groups, into which the channels are split; each has its own offsets and masks.
      gain: of the Xavier initialisation.

    Raises:
      ValueError: when built, if `groups` does not divide the channels.
    """

    def __init__(self, filters: int, *, seed: int, groups: int = 1, gain: float = 1.0, name: str | None = None,
                 dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._filters, self._groups = filters, groups
        self._initializer = xavier_normal(seed, gain)
        self.places = keras.layers.Conv2D(3 * TAPS * groups, 3, padding="same", kernel_initializer="zeros",
                                          name=f"{self.name}_places", dtype="float32")

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        if channels % self._groups:
            raise ValueError(f"groups must divide the {channels} channels, found {self._groups}")
        self.places.build((None, None, None, channels))
        self.kernel = self.add_weight(name="kernel", shape=(3, 3, channels, self._filters),
                                      initializer=self._initializer)
        self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        places, groups = self.places(tf.cast(inputs, tf.float32)), self._groups
        shape = tf.unstack(tf.shape(places))[:3]
        offsets = tf.reshape(places[..., :2 * TAPS * groups], [*shape, groups, 2 * TAPS])
        mask = tf.reshape(2.0 * tf.sigmoid(places[..., 2 * TAPS * groups:]), [*shape, groups, TAPS])
        output = deformable_convolution(inputs, offsets, mask, tf.convert_to_tensor(self.kernel))
        return output + tf.cast(self.bias, output.dtype)
