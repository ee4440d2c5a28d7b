"""Depthwise convolution with repeated borders, and its gradients, against sums over windows in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.depthwise import DepthwiseConvolution
from cut_tf.layers.kernels import plain_kernels
from cut_tf.layers.padding import repeat_borders
from cut_tf.layers.portable import portable_ops


def _windows(pictures: np.ndarray, side: int) -> np.ndarray:
    """[B, H, W, C, k, k] of pictures whose borders are repeated, in float64."""
    around = (side // 2, side // 2)
    padded = np.pad(pictures.astype(np.float64), ((0, 0), around, around, (0, 0)), "edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))


def _layer(side: int, channels: int, dtype: str = "float32") -> DepthwiseConvolution:
    layer = DepthwiseConvolution(side, seed=1, name="depthwise", dtype=dtype)
    layer.build((None, None, None, channels))
    layer.bias.assign(np.linspace(-1, 1, channels))
    return layer


@pytest.mark.parametrize("side, size", [(5, (9, 12)), (5, (2, 2)), (3, (7, 5)), (7, (8, 9))])
@pytest.mark.parametrize("plain", [False, True])
def test_result_and_gradients_equal_the_sums_over_windows(side, size, plain):
    layer, rng = _layer(side, 6), np.random.default_rng(0)
    pictures, upstream = (rng.normal(size=(2, *size, 6)).astype(np.float32) for _ in range(2))
    kernel = np.asarray(layer.kernel)[..., 0]
    with plain_kernels(plain), tf.GradientTape() as tape:
        pixels = tf.constant(pictures)
        tape.watch(pixels)
        output = layer(pixels)
    found = tape.gradient(output, [pixels, *layer.trainable_variables], upstream)
    windows = _windows(pictures, side)
    np.testing.assert_allclose(output, np.einsum("bhwcij,ijc->bhwc", windows, kernel) + np.linspace(-1, 1, 6),
                               atol=1e-5)
    np.testing.assert_allclose(found[1][..., 0], np.einsum("bhwcij,bhwc->ijc", windows, upstream), atol=1e-4)
    np.testing.assert_allclose(found[2], upstream.sum((0, 1, 2)), atol=1e-4)
    # The gradient of the pixels is the transpose: <y, A x> = <A^T y, x> for other pixels too.
    other = rng.normal(size=pictures.shape).astype(np.float32)
    forward = np.einsum("bhwcij,ijc->bhwc", _windows(other, side), kernel)
    np.testing.assert_allclose((upstream * forward).sum(), (np.asarray(found[0], np.float64) * other).sum(), rtol=1e-4)


@pytest.mark.parametrize("size", [(2, 2), (3, 7), (16, 9)])
@pytest.mark.parametrize("padding_px", [1, 2])
def test_borders_are_repeated_and_their_gradient_is_the_transpose(size, padding_px):
    pictures = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    sides = [(0, 0), (padding_px, padding_px), (padding_px, padding_px), (0, 0)]
    expected = np.pad(pictures, sides, "edge")
    with tf.GradientTape() as tape:
        pixels = tf.constant(pictures)
        tape.watch(pixels)
        padded = repeat_borders(pixels, padding_px)
    np.testing.assert_array_equal(padded, expected)
    with portable_ops():
        np.testing.assert_array_equal(repeat_borders(pixels, padding_px), expected)
    came_from = np.pad(np.arange(size[0] * size[1]).reshape(size), padding_px, "edge").ravel()
    upstream = np.random.default_rng(1).normal(size=(2, came_from.size, 3)).astype(np.float32)
    total = np.zeros((2, size[0] * size[1], 3))
    np.add.at(total, (slice(None), came_from), upstream)
    found = tape.gradient(padded, pixels, upstream.reshape(padded.shape))
    np.testing.assert_allclose(found, total.reshape(pictures.shape), rtol=1e-5, atol=1e-5)


def test_groups_of_channels_for_phones_give_the_same():
    layer, pictures = _layer(5, 192), np.random.default_rng(0).normal(size=(1, 6, 5, 192)).astype(np.float32)
    with portable_ops():
        found = layer(pictures)
        graph = tf.function(layer.call).get_concrete_function(tf.TensorSpec([1, 6, 5, 192])).graph
    np.testing.assert_allclose(found, layer(pictures), atol=1e-5)
    kernels = [operation.inputs[1].shape for operation in graph.get_operations() if "Depthwise" in operation.type]
    assert all(np.prod(shape) < 1024 for shape in kernels) and sum(shape[2] for shape in kernels) == 192


def test_training_on_a_cpu_takes_gradients_of_three_columns():
    layer = _layer(5, 8)

    @tf.function
    def gradient(pictures: tf.Tensor) -> tf.Tensor:
        return tf.gradients(layer(pictures), [compat.raw_variable(layer.kernel)])[0]

    graph = gradient.get_concrete_function(tf.TensorSpec([2, 8, 8, 8])).graph
    widths = [operation.outputs[0].shape[1] for operation in graph.get_operations()
              if operation.type == "DepthwiseConv2dNativeBackpropFilter"]
    assert widths == [3, 3]


def test_half_precision_and_unknown_sizes():
    layer, pictures = _layer(5, 4, "mixed_bfloat16"), np.random.default_rng(0).normal(size=(1, 6, 7, 4))
    found = layer(tf.cast(pictures, tf.bfloat16))
    assert found.dtype == tf.bfloat16
    exact = _layer(5, 4)
    traced = tf.function(exact.call, input_signature=[tf.TensorSpec([None, None, None, 4])])
    np.testing.assert_allclose(traced(pictures.astype(np.float32)), exact(pictures.astype(np.float32)), atol=1e-6)
    np.testing.assert_allclose(tf.cast(found, tf.float32), exact(pictures.astype(np.float32)), atol=0.05)
