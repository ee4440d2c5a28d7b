"""The 3x3 convolution of fewer products, against sums over windows in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.layers.convolution import Convolution
from cut_tf.layers.fast import winograd
from cut_tf.layers.portable import portable_ops

_SHAPES = pytest.mark.parametrize("shape", [(1, 6, 5, 3, 4), (3, 4, 9, 2, 3), (2, 8, 8, 5, 1)])
_BORDERS = pytest.mark.parametrize("same", [True, False])
_SPLIT = pytest.mark.parametrize("least_channels", [1, 128])


def _case(shape: tuple[int, ...], same: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise: pictures [B, H, W, C], a kernel [3, 3, C, D] and a gradient of the result."""
    batch, height, width, channels, filters = shape
    numbers = np.random.default_rng(0)
    lost = 0 if same else 2
    return tuple(numbers.normal(size=size).astype(np.float32) for size in (
        (batch, height, width, channels), (3, 3, channels, filters), (batch, height - lost, width - lost, filters)))


def _windows(pictures: np.ndarray, same: bool) -> np.ndarray:
    """[B, H', W', C, 3, 3] in float64."""
    border = 1 if same else 0
    padded = np.pad(pictures.astype(np.float64), [(0, 0), (border, border), (border, border), (0, 0)])
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))


def _expected(pictures: np.ndarray, kernel: np.ndarray, same: bool) -> np.ndarray:
    return np.einsum("bhwcij,ijcd->bhwd", _windows(pictures, same), kernel.astype(np.float64))


def _expected_input_gradient(kernel: np.ndarray, upstream: np.ndarray, shape: tuple[int, ...],
                             same: bool) -> np.ndarray:
    """Each result gives each pixel of its window its gradient times the kernel."""
    batch, height, width, channels = shape
    found = np.zeros((batch, height + 2, width + 2, channels) if same else shape)
    rows, columns = upstream.shape[1:3]
    for row in range(3):
        for column in range(3):
            found[:, row:row + rows, column:column + columns] += upstream.astype(np.float64) @ kernel[row, column].T
    return found[:, 1:-1, 1:-1] if same else found


@_SHAPES
@_BORDERS
@_SPLIT
def test_equals_the_sums_over_windows(shape, same, least_channels, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", least_channels)
    pictures, kernel, _ = _case(shape, same)
    found = winograd.convolution_3x3(tf.constant(pictures), tf.constant(kernel), same)
    np.testing.assert_allclose(found, _expected(pictures, kernel, same), atol=1e-5)


@_SHAPES
@_BORDERS
@_SPLIT
@pytest.mark.parametrize("precision,tolerance", [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_gradients_equal_the_sums_over_windows(shape, same, precision, tolerance, least_channels, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", least_channels)
    pictures, kernel, upstream = (tf.cast(value, precision) for value in _case(shape, same))
    with tf.GradientTape() as tape:
        tape.watch([pictures, kernel])
        output = winograd.convolution_3x3(pictures, kernel, same)
    of_pictures, of_kernel = tape.gradient(output, [pictures, kernel], upstream)
    pictures, kernel, upstream = (tf.cast(value, "float32").numpy() for value in (pictures, kernel, upstream))
    expected_kernel = np.einsum("bhwcij,bhwd->ijcd", _windows(pictures, same), upstream.astype(np.float64))
    expected_pictures = _expected_input_gradient(kernel, upstream, pictures.shape, same)
    for found, expected in ((of_pictures, expected_pictures), (of_kernel, expected_kernel)):
        np.testing.assert_allclose(tf.cast(found, "float32"), expected, atol=tolerance * np.abs(expected).max())


@_SPLIT
@pytest.mark.parametrize("precision,tolerance", [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_bias_and_its_gradient(precision, tolerance, least_channels, monkeypatch):
    """Added to all pixels, so that its gradient is the sum over them."""
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", least_channels)
    pictures, kernel, upstream = (tf.cast(value, precision) for value in _case((2, 8, 9, 3, 4), True))
    bias = tf.constant([1.0, -2.0, 0.5, 8.0], precision)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        output = winograd.convolution_3x3(pictures, kernel, True, bias)
    found = tf.cast(tape.gradient(output, bias, upstream), "float32")
    added = tf.cast(output - winograd.convolution_3x3(pictures, kernel, True), "float32")
    np.testing.assert_allclose(added, np.broadcast_to([1.0, -2.0, 0.5, 8.0], added.shape), atol=60 * tolerance)
    expected = tf.cast(upstream, "float32").numpy().astype(np.float64).sum((0, 1, 2))
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@_BORDERS
@pytest.mark.parametrize("at_once", [1, 50, 90])
def test_kernel_gradient_of_strips(same, at_once, monkeypatch):
    """Strips of two rows, of some and a rest, and of whole pictures: the same sums over windows."""
    monkeypatch.setattr(winograd, "_MOST_PIXELS_AT_ONCE", at_once)
    pictures, kernel, upstream = _case((2, 10, 9, 3, 4), same)
    variable = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        output = winograd.convolution_3x3(tf.constant(pictures), variable, same)
    found = tape.gradient(output, variable, tf.constant(upstream))
    expected = np.einsum("bhwcij,bhwd->ijcd", _windows(pictures, same), upstream.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@_BORDERS
def test_fewer_products_in_wide_layers(same, monkeypatch):
    """Four products of one kernel row each instead of six: in the graph, two thirds of the work."""
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 1)
    pictures, kernel, _ = _case((1, 8, 9, 3, 4), same)
    found = winograd.convolution_3x3(tf.constant(pictures), tf.constant(kernel), same)
    np.testing.assert_allclose(found, _expected(pictures, kernel, same), atol=1e-5)
    graph = tf.function(lambda given: winograd.convolution_3x3(given, tf.constant(kernel), same)).get_concrete_function(
        tf.TensorSpec(pictures.shape)).graph
    products = [operation for operation in graph.get_operations() if operation.type == "Conv2D"]
    assert len(products) == 4
    assert all(product.inputs[1].shape[0] == 1 and product.outputs[0].shape[1] == (4 if same else 3)
               for product in products)


@_BORDERS
@_SPLIT
def test_second_derivative(same, least_channels, monkeypatch):
    """Of ||dL/dx||^2, as a gradient penalty takes it: linear in the upstream gradient, quadratic in the kernel."""
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", least_channels)
    pictures, kernel, upstream = (tf.constant(value) for value in _case((1, 4, 6, 2, 3), same))
    with tf.GradientTape() as outer:
        outer.watch(kernel)
        with tf.GradientTape() as inner:
            inner.watch(pictures)
            output = winograd.convolution_3x3(pictures, kernel, same)
        penalty = tf.reduce_sum(tf.square(inner.gradient(output, pictures, upstream)))
    found = outer.gradient(penalty, kernel).numpy()
    expected = np.zeros(kernel.shape)
    of_pictures = _expected_input_gradient(kernel.numpy(), upstream.numpy(), pictures.shape, same)
    for place in np.ndindex(*kernel.shape):
        moved = np.zeros(kernel.shape)
        moved[place] = 1.0
        expected[place] = 2.0 * np.sum(
            of_pictures * _expected_input_gradient(moved, upstream.numpy(), pictures.shape, same))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_is_taken_where_it_pays():
    kernel = tf.zeros([3, 3, 128, 256])
    assert winograd.is_faster(tf.zeros([1, 64, 64, 128]), kernel, same=True)
    assert winograd.is_faster(tf.zeros([4, 34, 34, 128], tf.bfloat16), tf.cast(kernel, tf.bfloat16), same=False)
    assert not winograd.is_faster(tf.zeros([1, 64, 64, 128]), kernel, same=False)  # 62 x 62 are too few pixels
    assert not winograd.is_faster(tf.zeros([1, 65, 64, 128]), kernel, same=True)  # no pairs of rows
    assert not winograd.is_faster(tf.zeros([1, 64, 64, 128]), kernel[:2], same=True)
    assert winograd.is_faster(tf.zeros([1, 128, 128, 64]), kernel[:, :, :64], same=True)  # kernel's gradient alone
    assert not winograd.is_faster(tf.zeros([1, 126, 128, 64]), kernel[:, :, :64], same=True)
    assert not winograd.is_faster(tf.zeros([1, 128, 128, 64], tf.bfloat16), kernel[:, :, :64], same=True)
    assert not winograd.is_faster(tf.zeros([1, 128, 128, 32]), kernel[:, :, :32], same=True)
    assert not winograd.is_faster(tf.zeros([1, 64, 64, 128], tf.float16), kernel, same=True)
    with portable_ops():
        assert not winograd.is_faster(tf.zeros([1, 64, 64, 128]), kernel, same=True)
    seen = []
    tf.function(lambda pictures: seen.append(winograd.is_faster(pictures, kernel, same=True))).get_concrete_function(
        tf.TensorSpec([1, None, None, 128]))
    assert seen == [False]


@_BORDERS
@pytest.mark.parametrize("adds_bias", [True, False])
def test_a_wide_layer_convolves_as_any_other(same, adds_bias, monkeypatch):
    calls = []
    original = winograd.convolution_3x3
    monkeypatch.setattr(winograd, "convolution_3x3", lambda *given: calls.append(given) or original(*given))
    layer = Convolution(128, 3, seed=1, padding_px=1 if same else 0, gain=1.0)
    pictures = np.random.default_rng(1).normal(size=(1, 66, 66, 128)).astype(np.float32)
    layer(pictures[:, :4, :4])
    layer.convolution.bias.assign(np.arange(128.0) / 128.0)
    assert not calls
    found = layer(pictures, adds_bias=adds_bias)
    assert len(calls) == 1
    expected = _expected(pictures, layer.convolution.kernel.numpy(), same) + adds_bias * np.arange(128.0) / 128.0
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
