"""Layers for pictures of unknown size, as servers compute them on CPUs, against formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.layers import kernels
from cut_tf.layers.convolution import Convolution
from cut_tf.layers.fast import winograd
from cut_tf.layers.norm import InstanceNorm
from cut_tf.layers.padding import mirror_borders
from cut_tf.layers.portable import portable_ops
from cut_tf.networks import build_generator
from cut_tf.settings import Settings

_SIZES = pytest.mark.parametrize("size", [(6, 5), (7, 9), (3, 3)])


def _traced(function, channels: int, batch: int | None, dtype: tf.DType = tf.float32):
    """The function's graph for pictures of any size, and the types of the operations in it and its branches."""
    with kernels.fast_at_any_size():
        graph = tf.function(function).get_concrete_function(tf.TensorSpec([batch, None, None, channels], dtype))
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    return graph, [node.op for node in nodes]


def _sums_over_windows(pictures: np.ndarray, kernel: np.ndarray, border: int) -> np.ndarray:
    padded = np.pad(pictures.astype(np.float64), [(0, 0), (border, border), (border, border), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], (1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows, kernel.astype(np.float64))


@_SIZES
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("batch, dtype, tolerance", [(None, "float32", 1e-6), (1, "float32", 1e-6),
                                                     (None, "bfloat16", 2e-2)])
def test_a_convolution_of_fewer_products(size, same, batch, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 3)
    rng = np.random.default_rng(0)
    layer = Convolution(4, 3, seed=0, padding_px=int(same), dtype="float32" if dtype == "float32" else "mixed_bfloat16")
    layer.build((None, None, None, 3))
    kernel, bias = rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)
    layer.convolution.kernel.assign(tf.cast(tf.cast(kernel, dtype), tf.float32))
    layer.convolution.bias.assign(tf.cast(tf.cast(bias, dtype), tf.float32))
    pictures = tf.cast(rng.normal(size=(batch or 2, *size, 3)), dtype)
    graph, operations = _traced(layer, 3, batch, pictures.dtype)
    assert operations.count("Conv2D") == 4  # of one row each
    kernel, bias, exact = (tf.cast(tf.cast(value, dtype), tf.float64).numpy() for value in (kernel, bias, pictures))
    expected = _sums_over_windows(exact, kernel, int(same)) + bias
    np.testing.assert_allclose(tf.cast(graph(pictures), tf.float64), expected, atol=tolerance * np.abs(expected).max())


@_SIZES
def test_a_convolution_to_few_filters(size):
    rng = np.random.default_rng(0)
    layer = Convolution(3, 7, seed=0, use_bias=False)
    layer.build((None, None, None, 32))
    kernel = rng.normal(size=(7, 7, 32, 3)).astype(np.float32)
    layer.convolution.kernel.assign(kernel)
    pictures = rng.normal(size=(2, size[0] + 6, size[1] + 6, 32)).astype(np.float32)
    graph, operations = _traced(layer, 32, None)
    assert "AddN" in operations  # of the kernel's columns
    expected = _sums_over_windows(pictures, kernel, 0)
    np.testing.assert_allclose(graph(tf.constant(pictures)), expected, atol=2e-6 * np.abs(expected).max())


@_SIZES
@pytest.mark.parametrize("padding_px", [1, 2])
def test_mirrored_borders(size, padding_px):
    pictures = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    graph, operations = _traced(lambda given: mirror_borders(given, padding_px), 3, None)
    assert "MirrorPad" not in operations
    side = (padding_px, padding_px)
    np.testing.assert_array_equal(graph(tf.constant(pictures)), np.pad(pictures, [(0, 0), side, side, (0, 0)],
                                                                       "reflect"))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("side_px, tolerance", [(5, 1e-6), (512, 3e-6)])
def test_the_norm_of_one_picture_is_as_exact_as_in_training(relu, side_px, tolerance):
    """The sum of 262,144 pixels one after the other would be wrong in the fourth digit."""
    pictures = (np.random.default_rng(0).normal(size=(1, side_px, side_px, 2)) * 2 + 5).astype(np.float32)
    layer = InstanceNorm()
    graph, operations = _traced(lambda given: layer(given, relu=relu), 2, 1)
    assert "FusedBatchNormV3" in operations
    exact = pictures.astype(np.float64)
    expected = (exact - exact.mean((1, 2))) / np.sqrt(exact.var((1, 2)) + 1e-5)
    np.testing.assert_allclose(graph(tf.constant(pictures)), np.maximum(expected, 0) if relu else expected,
                               atol=tolerance)


@pytest.mark.parametrize("given", [{}, {"antialias_down": False, "antialias_up": False}, {"generator": "gunet"},
                                   {"generator": "mobile", "generator_norm": "none"}])
def test_generators_draw_the_same_pictures(given, monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 8)
    generator = build_generator(Settings.of(ngf=8, generator_blocks=2, **given))
    for weight in generator.weights:
        weight.assign(weight * 5.0)
    for batch, size in ((1, (33, 46)), (2, (32, 24))):
        pictures = tf.constant(np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3)), tf.float32)
        with kernels.plain_kernels():
            expected = generator(pictures, training=False).numpy()
        assert expected.std() > 0.01
        graph, _ = _traced(lambda shown: generator(shown, training=False), 3, batch)
        np.testing.assert_allclose(graph(pictures), expected, atol=2e-5)


def test_nothing_changes_in_training_and_for_phones():
    assert not kernels.are_fast_at_any_size()
    with kernels.fast_at_any_size():
        assert kernels.are_fast_at_any_size()
        with kernels.plain_kernels():
            assert not kernels.are_fast_at_any_size()
        with portable_ops():
            assert not kernels.are_fast_at_any_size()
    with kernels.fast_at_any_size(False):
        assert not kernels.are_fast_at_any_size()
