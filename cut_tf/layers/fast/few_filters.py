"""Convolutions to or from pictures of three channels, on CPUs.

TensorFlow's CPU kernels compute 16 filters at a time, so 3 filters take as long as 16. Here the columns of the kernel
become additional filters, which are computed together and then added up. The kernel's gradient is computed by the
convolution in which input and output change places.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cut_tf.layers import kernels

# Meant for layers between a picture's channels, 3 or 4, and wide features, as CUT's 7x7 layers. On pictures of fewer
# pixels the additional operations cost more than they save.
_FEW, _MANY = 4, 32
_LEAST_PIXELS = 2**14


def is_faster(inputs: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether `convolution` computes this convolution, and faster than TensorFlow's kernel.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, C, D].
    """
    if not kernels.are_fast_on_cpu() or not inputs.shape.is_fully_defined():
        return False
    batch, height, width, _ = inputs.shape
    return (min(kernel.shape[2:]) <= _FEW and max(kernel.shape[2:]) >= _MANY
            and batch * height * width >= _LEAST_PIXELS)


def is_faster_at_any_size(kernel: tf.Tensor) -> bool:
    """Whether `convolution_at_any_size` computes convolutions with this kernel, [k, k, C, D], and should."""
    return kernels.are_fast_at_any_size() and kernel.shape[3] <= _FEW and kernel.shape[2] >= _MANY


def convolution_at_any_size(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`convolution` to few filters of pictures whose size need not be known; its gradient is TensorFlow's."""
    return _valid(inputs, tf.convert_to_tensor(kernel))


def convolution(inputs: tf.Tensor, kernel: tf.Tensor, recompute: Callable[[], tf.Tensor] | None = None) -> tf.Tensor:
    """Convolution of stride 1 without padding: [B, H, W, C] with [k, k, C, D] to [B, H - k + 1, W - k + 1, D].

    Args:
      inputs: of known shape.
      kernel: of the same dtype.
      recompute: computes `inputs` again, for the kernel's gradient, which then does not store them.
    """
    @tf.custom_gradient
    def convolve(pixels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, object]:
        channels, filters = weights.shape[2:]

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.control_dependencies([upstream]):
                seen, kernel_gradient = recompute() if recompute else pixels, (
                    _swapped_gradient if filters < channels else _kernel_gradient)
                return _input_gradient(pixels.shape, weights, upstream), kernel_gradient(seen, upstream)

        return _valid(pixels, weights), gradient

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _valid(pixels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    if weights.shape[-1] > _FEW:
        return tf.nn.conv2d(pixels, weights, 1, "VALID")
    side, _, channels, filters = weights.shape
    of_columns = tf.reshape(tf.transpose(weights, [0, 2, 1, 3]), [side, 1, channels, side * filters])
    products = tf.cast(tf.nn.conv2d(pixels, of_columns, 1, "VALID"), tf.float32)
    batch, height, width, _ = kernels.sizes(products)
    products, kept = tf.reshape(products, [batch, height, width, side, filters]), width - side + 1
    return tf.cast(tf.add_n([products[:, :, column:column + kept, column] for column in range(side)]), pixels.dtype)


def _input_gradient(shape: tf.TensorShape, weights: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The convolution's transpose. To few channels it convolves the padded gradient with the turned kernel."""
    if weights.shape[2] > _FEW:
        return tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=weights, out_backprop=upstream,
                                              strides=[1] * 4, padding="VALID")
    return _valid(_with_zeros(upstream, weights.shape[0] - 1), _turned(weights))


def _kernel_gradient(pixels: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    side = pixels.shape[1] - upstream.shape[1] + 1
    return tf.raw_ops.Conv2DBackpropFilter(
        input=pixels, filter_sizes=[side, side, pixels.shape[-1], upstream.shape[-1]], out_backprop=upstream,
        strides=[1] * 4, padding="VALID")


def _swapped_gradient(pixels: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The same, as the gradient of a convolution from `upstream` to `pixels`, whose kernel is the turned one."""
    return _turned(_kernel_gradient(_with_zeros(upstream, pixels.shape[1] - upstream.shape[1]), pixels))


def _turned(weights: tf.Tensor) -> tf.Tensor:
    """[k, k, C, D] turned by half a circle, with the channels exchanged: [k, k, D, C]."""
    return tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])


def _with_zeros(pictures: tf.Tensor, border_px: int) -> tf.Tensor:
    side = [border_px, border_px]
    return tf.pad(pictures, [[0, 0], side, side, [0, 0]])
