"""Convolutions against explicit loops with symmetric padding, and the papers' initialisation."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from cut_tf import compat
from cut_tf.layers.convolution import Convolution, TransposedConvolution, seeds_from, xavier_normal


def _randomise(layer: Convolution | TransposedConvolution, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gives a built layer large random weights, its bias too, and returns them as float64."""
    kernel = rng.normal(size=layer.convolution.kernel.shape)
    bias = rng.normal(size=layer.convolution.bias.shape)
    layer.convolution.kernel.assign(kernel)
    layer.convolution.bias.assign(bias)
    return kernel, bias


def _explicit(inputs: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """Zeros on all four sides, correlation at every place, then every `stride`-th of them."""
    padded = np.pad(inputs, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    images = []
    for image in padded:
        filters = [sum(signal.correlate2d(image[..., channel], kernel[..., channel, number], "valid")
                       for channel in range(kernel.shape[2])) for number in range(kernel.shape[3])]
        images.append(np.stack(filters, -1)[::stride, ::stride] + bias)
    return np.stack(images)


@pytest.mark.parametrize("size", [(16, 16), (17, 12), (13, 19)])
@pytest.mark.parametrize("kernel_px, stride_px, padding_px", [(3, 1, 1), (3, 2, 1), (4, 1, 1), (4, 2, 1), (7, 1, 0),
                                                              (3, 1, 0), (3, 1, 2)])
def test_padding_is_the_same_on_all_four_sides(size, kernel_px, stride_px, padding_px):
    rng = np.random.default_rng(kernel_px * 10 + stride_px)
    inputs = rng.normal(size=(2, *size, 3))
    layer = Convolution(5, kernel_px, seed=0, stride_px=stride_px, padding_px=padding_px)
    layer(tf.constant(inputs, tf.float32))
    kernel, bias = _randomise(layer, rng)
    found = layer(tf.constant(inputs, tf.float32))
    expected_size = [(side + 2 * padding_px - kernel_px) // stride_px + 1 for side in size]
    assert found.shape == [2, *expected_size, 5]
    np.testing.assert_allclose(found, _explicit(inputs, kernel, bias, stride_px, padding_px), atol=2e-4)


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 6)])
def test_transposed_convolution_drops_first_row_and_column_of_the_full_result(size):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, *size, 3))
    layer = TransposedConvolution(4, seed=0)
    layer(tf.constant(inputs, tf.float32))
    kernel, bias = _randomise(layer, rng)  # kernel [3, 3, filters, C]
    full = np.zeros((2, 2 * size[0] + 1, 2 * size[1] + 1, 4))
    for row, column in itertools.product(range(size[0]), range(size[1])):
        spread = np.einsum("bc,yxfc->byxf", inputs[:, row, column], kernel)
        full[:, 2 * row:2 * row + 3, 2 * column:2 * column + 3] += spread
    found = layer(tf.constant(inputs, tf.float32))
    assert found.shape == [2, 2 * size[0], 2 * size[1], 4]
    np.testing.assert_allclose(found, full[:, 1:, 1:] + bias, atol=1e-4)


@pytest.mark.parametrize("layer", [Convolution(4, 3, seed=0, stride_px=2, padding_px=1, dtype="mixed_bfloat16"),
                                   TransposedConvolution(4, seed=0, dtype="mixed_bfloat16")], ids=["down", "up"])
def test_mixed_precision_keeps_float32_weights(layer):
    assert layer(tf.zeros([1, 8, 8, 3])).dtype == tf.bfloat16
    assert all("float32" in str(weight.dtype) for weight in layer.weights)


def test_without_bias_there_is_one_weight():
    layer = Convolution(4, 3, seed=0, use_bias=False)
    layer(tf.zeros([1, 8, 8, 3]))
    assert len(layer.weights) == 1


@pytest.mark.parametrize("layer, fan_in, fan_out", [
    (Convolution(128, 3, seed=3), 9 * 64, 9 * 128),
    (Convolution(16, 7, seed=4), 49 * 64, 49 * 16),
    (TransposedConvolution(96, seed=5), 9 * 96, 9 * 64),
], ids=["3x3", "7x7", "transposed"])
def test_kernels_are_xavier_normal_with_gain_002_and_not_truncated(layer, fan_in, fan_out):
    layer.build((1, 8, 8, 64))
    kernel = np.asarray(layer.convolution.kernel, np.float64)
    deviation = 0.02 * np.sqrt(2 / (fan_in + fan_out))
    assert kernel.std() == pytest.approx(deviation, rel=0.03)
    assert abs(kernel.mean()) < 4 * deviation / np.sqrt(kernel.size)
    # 0.27 % of a normal distribution lie beyond 3 deviations; truncation at 2, rescaled, ends at 2.27.
    assert 0.0015 < np.mean(np.abs(kernel) > 3 * deviation) < 0.0045
    np.testing.assert_array_equal(layer.convolution.bias, np.zeros(layer.convolution.bias.shape))


def test_dense_kernels_are_xavier_normal_too():
    kernel = np.asarray(xavier_normal(1)((300, 500)), np.float64)
    assert kernel.std() == pytest.approx(0.02 * np.sqrt(2 / 800), rel=0.03)


def test_the_seed_decides_the_weights():
    def kernel(seed: int) -> np.ndarray:
        layer = Convolution(4, 3, seed=seed)
        layer.build((1, 8, 8, 3))
        return np.asarray(layer.convolution.kernel)

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert np.abs(kernel(1) - kernel(2)).max() > 1e-3


def test_seeds_differ_between_layers_and_between_networks():
    streams = [list(itertools.islice(seeds_from(seed), 60)) for seed in (0, 1, 2, 10, 11, 12, 2**31)]
    seeds = [seed for stream in streams for seed in stream]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert list(itertools.islice(seeds_from(1), 60)) == streams[1]


def _spectral(dtype: str = "float32") -> Convolution:
    layer = Convolution(6, 4, seed=3, padding_px=1, spectral_norm=True, name="conv", dtype=dtype)
    layer(tf.zeros([1, 8, 8, 3]))
    return layer


def _weights(layer: Convolution) -> dict[str, np.ndarray]:
    return {name: weight.numpy() for name, weight in compat.named_weights(keras.Sequential([layer])).items()}


def test_spectral_norm_is_one_step_of_power_iteration_per_training_call():
    layer = _spectral()
    before = _weights(layer)
    assert set(before) == {"conv/kernel", "conv/bias", "conv/vector_u"}
    layer(tf.ones([1, 8, 8, 3]), training=True)
    matrix = before["conv/kernel"].astype(np.float64).reshape(-1, 6)
    left = before["conv/vector_u"].astype(np.float64) @ matrix.T
    left /= np.linalg.norm(left)
    right = left @ matrix
    sigma = np.linalg.norm(right)
    after = _weights(layer)
    np.testing.assert_allclose(after["conv/vector_u"], right / sigma, atol=1e-5)
    np.testing.assert_allclose(after["conv/kernel"], before["conv/kernel"] / sigma, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_spectral_norm_makes_the_largest_singular_value_one(dtype):
    layer = _spectral(dtype)
    for _ in range(50):
        output = layer(tf.ones([1, 8, 8, 3], tf.bfloat16 if "b" in dtype else tf.float32), training=True)
    assert output.dtype == ("bfloat16" if "b" in dtype else "float32")
    kernel = _weights(layer)["conv/kernel"]
    np.testing.assert_allclose(np.linalg.norm(kernel.reshape(-1, 6), ord=2), 1.0, atol=1e-4)
    layer(tf.ones([1, 8, 8, 3]), training=False)
    np.testing.assert_array_equal(_weights(layer)["conv/kernel"], kernel)


def test_spectral_norm_starts_from_the_seed():
    first, second = _weights(_spectral()), _weights(_spectral())
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_replicas_keep_the_same_spectral_norm(two_replicas):
    with two_replicas.scope():
        layer = _spectral()
    before = _weights(layer)["conv/kernel"]

    @tf.function
    def step():
        return two_replicas.run(lambda: tf.reduce_sum(layer(tf.ones([1, 8, 8, 3]), training=True)))

    step()
    for name, weight in compat.named_weights(keras.Sequential([layer])).items():
        copies = [copy.numpy() for copy in two_replicas.experimental_local_results(weight)]
        np.testing.assert_array_equal(copies[0], copies[-1], err_msg=name)
    assert np.abs(_weights(layer)["conv/kernel"] - before).max() > 0.01
