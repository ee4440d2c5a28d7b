"""Convolutions to and from few channels, against sums over windows in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.layers.convolution import Convolution
from cut_tf.layers.fast import few_filters
from cut_tf.layers.portable import portable_ops

_SHAPES = pytest.mark.parametrize("shape", [(2, 9, 12, 5, 6, 3), (1, 8, 7, 7, 40, 1), (2, 10, 9, 3, 3, 6),
                                            (1, 7, 9, 4, 1, 33), (1, 9, 9, 7, 3, 3)])


def _case(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise: pictures [B, H, W, C], a kernel [k, k, C, D] and a gradient of the result."""
    batch, height, width, side, channels, filters = shape
    numbers = np.random.default_rng(0)
    return tuple(numbers.normal(size=size).astype(np.float32) for size in (
        (batch, height, width, channels), (side, side, channels, filters),
        (batch, height - side + 1, width - side + 1, filters)))


def _windows(pictures: np.ndarray, side: int) -> np.ndarray:
    """[B, H', W', C, k, k] in float64."""
    return np.lib.stride_tricks.sliding_window_view(pictures.astype(np.float64), (side, side), (1, 2))


def _expected(pictures: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.einsum("bhwcij,ijcd->bhwd", _windows(pictures, len(kernel)), kernel.astype(np.float64))


@_SHAPES
@pytest.mark.parametrize("precision,tolerance", [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_result_and_gradients_equal_the_sums_over_windows(shape, precision, tolerance):
    pictures, kernel, upstream = (tf.cast(value, precision) for value in _case(shape))
    with tf.GradientTape() as tape:
        tape.watch([pictures, kernel])
        output = few_filters.convolution(pictures, kernel)
    found = [output, *tape.gradient(output, [pictures, kernel], upstream)]
    pictures, kernel, upstream = (tf.cast(value, "float32").numpy() for value in (pictures, kernel, upstream))
    side = len(kernel)
    border = [(0, 0), (side - 1, side - 1), (side - 1, side - 1), (0, 0)]
    expected = [_expected(pictures, kernel),
                _expected(np.pad(upstream, border), kernel[::-1, ::-1].transpose(0, 1, 3, 2)),
                np.einsum("bhwcij,bhwd->ijcd", _windows(pictures, side), upstream.astype(np.float64))]
    for one, other in zip(found, expected):
        assert one.dtype == precision
        np.testing.assert_allclose(tf.cast(one, "float32"), other, atol=tolerance * np.abs(other).max())


def test_columns_of_a_kernel_are_filters_of_one_convolution():
    """7 x 1 pixels and 7 times the filters: 21 of them, where 3 would take the time of 16."""
    graph = tf.function(few_filters.convolution).get_concrete_function(
        tf.TensorSpec([1, 12, 12, 64]), tf.TensorSpec([7, 7, 64, 3])).graph
    product, = (operation for operation in graph.get_operations() if operation.type == "Conv2D")
    assert product.inputs[1].shape == [7, 1, 64, 21]


def test_is_taken_where_it_pays():
    kernel = tf.zeros([7, 7, 64, 3])
    assert few_filters.is_faster(tf.zeros([1, 128, 128, 64]), kernel)
    assert few_filters.is_faster(tf.zeros([1, 128, 128, 3]), tf.zeros([7, 7, 3, 64]))
    assert not few_filters.is_faster(tf.zeros([1, 127, 128, 64]), kernel)
    assert not few_filters.is_faster(tf.zeros([1, 128, 128, 64]), tf.zeros([7, 7, 64, 8]))
    assert not few_filters.is_faster(tf.zeros([1, 128, 128, 16]), kernel[:, :, :16])
    with portable_ops():
        assert not few_filters.is_faster(tf.zeros([1, 128, 128, 64]), kernel)
    seen = []
    tf.function(lambda pictures: seen.append(few_filters.is_faster(pictures, kernel))).get_concrete_function(
        tf.TensorSpec([1, None, None, 64]))
    assert seen == [False]


def test_the_last_layer_of_a_generator_convolves_as_any_other(monkeypatch):
    calls = []
    original = few_filters.convolution
    monkeypatch.setattr(few_filters, "convolution", lambda *given: calls.append(given) or original(*given))
    layer = Convolution(3, 7, seed=1, gain=1.0)
    pictures = np.random.default_rng(1).normal(size=(1, 128, 130, 32)).astype(np.float32)
    layer(pictures[:, :9, :9])
    layer.convolution.bias.assign([1.0, 2.0, 3.0])
    assert not calls
    expected = _expected(pictures, layer.convolution.kernel.numpy()) + [1.0, 2.0, 3.0]
    np.testing.assert_allclose(layer(pictures), expected, atol=2e-6 * np.abs(expected).max())
    assert len(calls) == 1
