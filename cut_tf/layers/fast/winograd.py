"""3x3 convolution with two thirds of the multiplications, on CPUs.

Winograd's F(2, 3) over pairs of rows (Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
section 4.1): two output rows of a convolution with three kernel rows are sums of four products instead of six,

    y = A^T [(G w) * (B^T x)],  with four input rows x, two output rows y and three kernel rows w,

where a product here is a whole 1x3 convolution over one row. Columns stay as they are: there the additional sums would
cost more than the saved products. The result equals an ordinary convolution's within rounding (2e-6 of the largest
value in float32).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from cut_tf.layers.kernels import are_fast_at_any_size, are_fast_on_cpu, sizes

# With fewer channels or pixels, the additional sums cost what the saved products gain. Measured on two cores with
# `python -m tools.benchmark layers` at several --size_px and --ngf.
_LEAST_CHANNELS = 128
_LEAST_CHANNELS_OF_GRADIENT = 64
_LEAST_PIXELS = 2**12
_LEAST_PIXELS_OF_FEW_CHANNELS = {tf.float32: 2**14, tf.bfloat16: 2**16}
# The sums over this many pixels still lie in the CPU's caches when they are multiplied.
_MOST_PIXELS_AT_ONCE = 2**14
_KERNEL_ROWS = 3


def is_faster(inputs: tf.Tensor, kernel: tf.Tensor, same: bool) -> bool:
    """Whether `convolution_3x3` computes this convolution, and faster than TensorFlow's kernel.

    Args:
      inputs: [B, H, W, C]; only pictures of known, even height are split into pairs of rows.
      kernel: [k, k, C, D].
      same: as for `convolution_3x3`.
    """
    batch, height, width, channels = inputs.shape
    if not are_fast_on_cpu() or None in (batch, height, width) or height % 2:
        return False
    border, fewest = 0 if same else _KERNEL_ROWS - 1, min(channels, kernel.shape[-1])
    least = _LEAST_PIXELS if fewest >= _LEAST_CHANNELS else _LEAST_PIXELS_OF_FEW_CHANNELS.get(inputs.dtype, 0)
    return (kernel.shape[:2] == (_KERNEL_ROWS, _KERNEL_ROWS) and inputs.dtype in _LEAST_PIXELS_OF_FEW_CHANNELS
            and fewest >= _LEAST_CHANNELS_OF_GRADIENT
            and batch * (height - border) * (width - border) >= least)


def convolution_3x3(inputs: tf.Tensor, kernel: tf.Tensor, same: bool, bias: tf.Tensor | None = None,
                    recompute: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
    """Convolution of stride 1: [B, H, W, C] with [3, 3, C, D] to [B, H, W, D], or [B, H - 2, W - 2, D].

    With fewer than 128 channels only the kernel's gradient is computed this way. The same holds in bfloat16, where sums
    of rows are rounded. The kernel's gradient adds up thousands of pixels, so that this rounding averages out.

    Args:
      inputs: float32 or bfloat16; H is even.
      kernel: of the same dtype.
      same: whether borders are padded with zeros, so that H and W stay.
      bias: [D] of the same dtype, if one is added.
      recompute: computes `inputs` again, for the kernel's gradient, which then does not store them.
    """
    @tf.custom_gradient
    def convolve(pixels: tf.Tensor, weights: tf.Tensor, *offsets: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            # TensorFlow would compute sums that depend on the input alone in the forward pass, and keep them.
            with tf.control_dependencies([upstream]):
                return [_input_gradient(pixels.shape, weights, upstream, same),
                        tf.cast(_kernel_gradient(recompute() if recompute else pixels, upstream, same), weights.dtype),
                        *(_sum_over_pixels(upstream) for _ in offsets)]

        output = _forward(pixels, weights, same)
        return tf.nn.bias_add(output, offsets[0]) if offsets else output, gradient

    return convolve(inputs, *(tf.convert_to_tensor(weights) for weights in (kernel, bias) if weights is not None))


def is_faster_at_any_size(inputs: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether `convolution_at_any_size` computes this convolution, and should: [B, H, W, C] with [k, k, C, D]."""
    return (are_fast_at_any_size() and kernel.shape[:2] == (_KERNEL_ROWS, _KERNEL_ROWS)
            and inputs.dtype in _LEAST_PIXELS_OF_FEW_CHANNELS and min(kernel.shape[-2:]) >= _LEAST_CHANNELS)


def convolution_at_any_size(inputs: tf.Tensor, kernel: tf.Tensor, same: bool) -> tf.Tensor:
    """The same convolution, whose gradient is TensorFlow's.

    Args:
      inputs: [B, H, W, C], float32 or bfloat16, of any height, known or not.
      kernel: of the same dtype.
      same: as for `convolution_3x3`.
    """
    height = sizes(inputs)[1]
    border = 1 if same else 0
    rows = [[0, 0], [border, border + height % 2], [0, 0], [0, 0]]
    if same:
        padded = tf.pad(inputs, rows)
    else:
        padded = tf.cond(height % 2 > 0, lambda: tf.pad(inputs, rows), lambda: inputs)
        padded = tf.ensure_shape(padded, [*inputs.shape[:1], None, *inputs.shape[2:]])
    kernels = _four_kernels(kernel)
    output = _two_rows_of_four(padded, lambda four, number: tf.nn.conv2d(
        four, kernels[number][None], 1, "SAME" if same else "VALID"))
    return output[:, :height - _KERNEL_ROWS + 1 + 2 * border]


def _sum_over_pixels(gradient: tf.Tensor) -> tf.Tensor:
    """[B, H, W, D] to [D], as a product with ones: TensorFlow's own gradient of a bias is slow in bfloat16."""
    flat = tf.reshape(gradient, [-1, gradient.shape[-1]])
    return tf.matmul(tf.ones([1, flat.shape[0]], flat.dtype), flat)[0]


def _splits(weights: tf.Tensor) -> bool:
    """Whether the convolution itself and its transpose are computed by pairs of rows."""
    return weights.dtype == tf.float32 and min(weights.shape[-2:]) >= _LEAST_CHANNELS


def _forward(pixels: tf.Tensor, weights: tf.Tensor, same: bool) -> tf.Tensor:
    padding = "SAME" if same else "VALID"
    if not _splits(weights):
        return tf.nn.conv2d(pixels, weights, 1, padding)
    kernels = _four_kernels(weights)
    return _two_rows_of_four(_with_zero_rows(pixels, 1 if same else 0), lambda rows, number: tf.nn.conv2d(
        rows, kernels[number][None], 1, padding))


def _input_gradient(shape: tf.TensorShape, weights: tf.Tensor, upstream: tf.Tensor, same: bool) -> tf.Tensor:
    """The convolution's transpose, which is a convolution with the kernel's rows in reverse order."""
    padding = "SAME" if same else "VALID"
    batch, height, width, channels = shape
    if not _splits(weights):
        return tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=weights, out_backprop=upstream,
                                              strides=[1] * 4, padding=padding)
    first, plus, minus, last = _four_kernels(weights)
    kernels = (last, plus, minus, first)  # G of the reversed rows
    return _two_rows_of_four(
        _with_zero_rows(upstream, 1 if same else 2), lambda rows, number: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[batch, height // 2, width, channels], filter=kernels[number][None], out_backprop=rows,
            strides=[1] * 4, padding=padding))


def _kernel_gradient(pixels: tf.Tensor, upstream: tf.Tensor, same: bool) -> tf.Tensor:
    """[3, 3, C, D], float32: the sum of the gradients of strips of the pictures."""
    if same:
        pixels = _with_zero_columns(_with_zero_rows(pixels, 1), 1, 1)
    batch, height, width, _ = upstream.shape
    strips = [(slice(None), slice(0, height))]
    if batch * height * width > _MOST_PIXELS_AT_ONCE:
        rows = min(height, max(2, _MOST_PIXELS_AT_ONCE // width // 2 * 2))
        strips = [(slice(image, image + 1), slice(first, min(first + rows, height)))
                  for image in range(batch) for first in range(0, height, rows)]
    of_strips = [_four_products(pixels[images, rows.start:rows.stop + _KERNEL_ROWS - 1], upstream[images, rows])
                 for images, rows in strips]
    first, plus, minus, last = (tf.add_n(products) for products in zip(*of_strips))
    half = 0.5 * (plus + minus)
    return tf.stack([first + half, 0.5 * (plus - minus), half - last])


def _four_products(pixels: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
    """Four float32 [3, C, D]: products of all pixels of B^T x, shifted by 0, 1 and 2 columns, with those of A dy.

    Each row of `upstream` gets two zeros at its end, and the rows lie one after the other. So a shift by a column is a
    shift by a pixel of all rows at once, without a copy.
    """
    even, odd = tf.unstack(_pairs_of_rows(_with_zero_columns(upstream, 0, _KERNEL_ROWS - 1)), axis=2)
    count = math.prod(even.shape[:3]) - _KERNEL_ROWS + 1
    # The slices share these constants. Constants of their own would be a third of all operations of a step.
    begins, size = [tf.constant([column, 0]) for column in range(_KERNEL_ROWS)], tf.constant([count, -1])
    products = []
    for rows, sums in zip(_sums_of_four(pixels), (even, even + odd, even - odd, odd)):
        rows, sums = tf.reshape(rows, [-1, rows.shape[-1]]), tf.reshape(sums, [-1, sums.shape[-1]])
        sums = tf.slice(sums, begins[0], size)
        products.append(tf.cast(tf.stack([tf.matmul(tf.slice(rows, begin, size), sums, transpose_a=True)
                                          for begin in begins]), tf.float32))
    return products


def _four_kernels(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """G w: four [3, C, D] of the three rows of [3, 3, C, D]."""
    first, middle, last = tf.unstack(weights)
    outer, inner = 0.5 * (first + last), 0.5 * middle
    return first, outer + inner, outer - inner, last


def _pairs_of_rows(pictures: tf.Tensor) -> tf.Tensor:
    batch, height, width, channels = sizes(pictures)
    return tf.reshape(pictures, [batch, height // 2, 2, width, channels])


def _sums_of_four(pictures: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """B^T x: four [B, H / 2 - 1, W, C] of the rows 2i to 2i + 3 of [B, H, W, C]."""
    pairs = _pairs_of_rows(pictures)
    rows = (pairs[:, :-1, 0], pairs[:, :-1, 1], pairs[:, 1:, 0], pairs[:, 1:, 1])
    return rows[0] - rows[2], rows[1] + rows[2], rows[2] - rows[1], rows[1] - rows[3]


def _two_rows_of_four(pictures: tf.Tensor, product: Callable[[tf.Tensor, int], tf.Tensor]) -> tf.Tensor:
    """A^T m: [B, H - 2, W', D] of the four products m_i = product(rows, i)."""
    first, plus, minus, last = (product(rows, number) for number, rows in enumerate(_sums_of_four(pictures)))
    pairs = tf.stack([tf.add_n([first, plus, minus]), plus - minus - last], 2)
    batch, half, _, width, channels = sizes(pairs)
    return tf.reshape(pairs, [batch, 2 * half, width, channels])


def _with_zero_rows(pictures: tf.Tensor, count: int) -> tf.Tensor:
    """`count` rows of zeros above and below [B, H, W, C]. Joining is faster than tf.pad."""
    if not count:
        return pictures
    zeros = tf.zeros([pictures.shape[0], count, *pictures.shape[2:]], pictures.dtype)
    return tf.concat([zeros, pictures, zeros], 1)


def _with_zero_columns(pictures: tf.Tensor, left: int, right: int) -> tf.Tensor:
    batch, height, _, channels = pictures.shape
    zeros = [tf.zeros([batch, height, count, channels], pictures.dtype) for count in (left, right)]
    return tf.concat([zeros[0], pictures, zeros[1]], 2)
