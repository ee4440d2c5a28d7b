"""StyleGAN2 layers against scipy and against what their equations promise."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from cut_tf.layers.stylegan2 import EqualisedConvolution, EqualisedDense, ResidualBlock, StyledUpConvolution, blur

_TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64.0


def _leaky(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.2 * values)


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _set(layer: keras.layers.Layer, name: str, seed: int) -> np.ndarray:
    value = _random(*getattr(layer, name).shape, seed=seed)
    getattr(layer, name).assign(value)
    return value.astype(np.float64)


def _correlate(picture: np.ndarray, kernel: np.ndarray, padding: int, stride: int = 1) -> np.ndarray:
    """[H, W, C] with kernel [h, w, C, F], zeros around: the definition, by scipy, channel by channel."""
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)))
    full = np.stack([sum(signal.correlate2d(padded[..., one], kernel[..., one, other], "valid")
                         for one in range(kernel.shape[2])) for other in range(kernel.shape[3])], -1)
    return full[::stride, ::stride]


def _blurred(picture: np.ndarray, padding: int) -> np.ndarray:
    return np.concatenate([_correlate(picture[..., [channel]], _TAPS[:, :, None, None], padding)
                           for channel in range(picture.shape[-1])], -1)


@pytest.mark.parametrize("padding, stride", [(1, 1), (2, 1), (1, 2)])
def test_blur_is_that_of_the_1331_kernel(padding, stride):
    picture = _random(9, 12, 2)
    expected = _blurred(picture.astype(np.float64), padding)[::stride, ::stride]
    np.testing.assert_allclose(blur(picture[None], padding, stride)[0], expected, atol=1e-5)


@pytest.mark.parametrize("kernel_px, downsample, activate, gain", [
    (1, False, True, math.sqrt(2)), (3, False, True, math.sqrt(2)), (3, True, True, 1.0), (1, True, False, 0.5)])
def test_equalised_convolution(kernel_px, downsample, activate, gain):
    layer = EqualisedConvolution(5, kernel_px, seed=0, name="conv", downsample=downsample, activate=activate, gain=gain)
    picture = _random(8, 10, 4)
    layer(picture[None])
    kernel = _set(layer, "kernel", 1) / math.sqrt(4 * kernel_px**2)
    inputs = picture.astype(np.float64)
    if downsample:
        expected = _correlate(_blurred(inputs, (kernel_px + 1) // 2), kernel, 0, 2)
        assert expected.shape == (4, 5, 5)
    else:
        expected = _correlate(inputs, kernel, kernel_px // 2)
    if activate:
        expected = _leaky(expected + _set(layer, "bias", 2))
    np.testing.assert_allclose(layer(picture[None])[0], gain * expected, atol=1e-5)


def test_residual_block_is_the_scaled_sum_of_branch_and_skip():
    """With branch kernels of zero only sqrt(2) leaky(bias) / sqrt(2) and the skip are left."""
    block = ResidualBlock(4, 4, (1, 2, 3), "block", "float32")
    picture = _random(6, 6, 4)
    block(picture[None])
    for conv in (block.conv1, block.conv2):
        conv.kernel.assign(tf.zeros_like(conv.kernel))
    bias = _set(block.conv2, "bias", 5)
    np.testing.assert_allclose(block(picture[None])[0], _leaky(bias) + picture / math.sqrt(2), atol=1e-6)
    block = ResidualBlock(4, 6, (1, 2, 3), "block", "float32", downsample=True)
    assert block(picture[None]).shape == (1, 3, 3, 6) and block.skip.bias is None


def test_styled_up_convolution():
    layer = StyledUpConvolution(3, seed=0, name="up")
    picture, noise = _random(5, 4, 2), _random(10, 8, 1, seed=9)
    layer(picture[None])
    assert float(layer.noise_strength[0]) == 0
    kernel, bias = _set(layer, "kernel", 1), _set(layer, "bias", 2)
    layer.noise_strength.assign([0.7])
    # Each output channel's kernels have length 1 whatever they were, up to the epsilon.
    lengths = np.sqrt((kernel**2).sum((0, 1, 3), keepdims=True))
    np.testing.assert_allclose(layer.folded_kernel(), kernel / lengths, rtol=1e-4)
    spread = np.zeros((9, 7, 2))
    spread[::2, ::2] = picture  # a transposed convolution: zeros in between, then the flipped kernel
    flipped = (kernel / lengths)[::-1, ::-1].transpose(0, 1, 3, 2)
    full = _correlate(spread, flipped, 2)
    expected = math.sqrt(2) * _leaky(4 * _blurred(full, 1) + 0.7 * noise + bias)
    np.testing.assert_allclose(layer(picture[None], noise=noise[None])[0], expected, atol=1e-4)
    without = math.sqrt(2) * _leaky(4 * _blurred(full, 1) + bias)
    np.testing.assert_allclose(layer(picture[None])[0], without, atol=1e-4)


@pytest.mark.parametrize("activate", [False, True])
def test_equalised_dense(activate):
    layer = EqualisedDense(3, seed=0, name="dense", activate=activate)
    values = _random(2, 7)
    layer(values)
    kernel, bias = _set(layer, "kernel", 1), _set(layer, "bias", 2)
    expected = values @ kernel / math.sqrt(7) + bias
    np.testing.assert_allclose(layer(values), math.sqrt(2) * _leaky(expected) if activate else expected, atol=1e-5)


def test_new_weights_keep_the_size_of_signals():
    """Equalised N(0, 1) weights: unit variance in, about unit variance out, for any width."""
    for channels in (8, 128):
        layer = EqualisedConvolution(256, 3, seed=3, name="conv")
        output = layer(_random(4, 16, 16, channels)).numpy()[:, 1:-1, 1:-1]
        assert np.sqrt((output**2).mean()) == pytest.approx(1.0, rel=0.05)
        assert float(tf.math.reduce_std(layer.kernel)) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_features_have_float32_weights(policy):
    layer = StyledUpConvolution(16, seed=0, name="up", dtype=policy)
    exact = StyledUpConvolution(16, seed=0, name="up")
    picture = _random(1, 8, 8, 16)
    output = layer(tf.cast(picture, policy.replace("mixed_", "")))
    assert output.dtype == policy.replace("mixed_", "") and layer.kernel.dtype in (tf.float32, "float32")
    np.testing.assert_allclose(tf.cast(output, tf.float32), exact(picture), atol=0.1)
    np.testing.assert_array_equal(layer.folded_kernel(), exact.folded_kernel())
