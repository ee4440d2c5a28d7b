"""The faster forms of layers at sizes that they are made for, and those of GPUs: values and gradients in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers import kernels, padding
from cut_tf.layers.convolution import Convolution
from cut_tf.layers.fast import few_filters, winograd
from cut_tf.layers.fast.recomputation import Recomputable
from cut_tf.layers.norm import EPSILON, InstanceNorm
from cut_tf.networks.generators import resnet

# Mirrored borders or none, then a convolution: (input side, channels, filters, kernel side, zeros around).
_CONVOLUTIONS = {"winograd": (64, 128, 128, 3, 1), "winograd, no borders": (66, 128, 128, 3, 0),
                 "winograd, kernel's gradient": (128, 64, 64, 3, 1),
                 "from three channels": (134, 3, 64, 7, 0), "to three channels": (134, 64, 3, 7, 0)}


def _noise(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def _value_and_gradients(function: Callable[..., tf.Tensor], *given: tf.Tensor) -> list[tf.Tensor]:
    """Of a function of tensors, and of the sum of its result times noise."""
    with tf.GradientTape() as tape:
        tape.watch(given)
        output = function(*given)
        loss = tf.reduce_sum(output * tf.cast(_noise(*output.shape, seed=1), output.dtype))
    return [output, *tape.gradient(loss, given)]


def _assert_near(found: list[tf.Tensor], expected: list[tf.Tensor], tolerance: float) -> None:
    """`tolerance` is a share of the largest magnitude of each tensor."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert other.dtype == tf.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def _counted(monkeypatch: pytest.MonkeyPatch, *functions: tuple[object, str]) -> list[str]:
    """The names of the functions, (module, name) each, that are called from now on."""
    calls = []
    for module, name in functions:
        original = getattr(module, name)

        def called(*given, original=original, name=name, **named):
            calls.append(name)
            return original(*given, **named)

        monkeypatch.setattr(module, name, called)
    return calls


@pytest.mark.parametrize("name", _CONVOLUTIONS)
@pytest.mark.parametrize("how", ["fast", "plain", "gpu"])
def test_convolution_is_tensorflows_in_float64(name, how, request, monkeypatch):
    if how == "gpu":
        request.getfixturevalue("gpu")
    calls = _counted(monkeypatch, (winograd, "convolution_3x3"), (few_filters, "convolution"))
    side, channels, filters, kernel_px, zeros = _CONVOLUTIONS[name]
    layer = Convolution(filters, kernel_px, seed=0, padding_px=zeros)
    layer.build([None, None, None, channels])
    pictures, kernel = _noise(1, side, side, channels), _noise(kernel_px, kernel_px, channels, filters, seed=2)
    bias = _noise(filters, seed=3)
    with kernels.plain_kernels(how == "plain"):
        found = _value_and_gradients(layer.with_kernel, pictures, kernel, bias)
    assert calls == ([] if how != "fast" else ["convolution_3x3" if name.startswith("winograd") else "convolution"])
    expected = _value_and_gradients(lambda pictures, kernel, bias: tf.nn.conv2d(
        pictures, kernel, 1, "SAME" if zeros else "VALID") + bias, *(
            tf.cast(value, tf.float64) for value in (pictures, kernel, bias)))
    _assert_near(found, expected, 2e-5)


@pytest.mark.parametrize("how", ["fast", "plain", "gpu"])
@pytest.mark.parametrize("padding_px", [1, 3])
def test_mirrored_borders_are_tensorflows_in_float64(padding_px, how, request, monkeypatch):
    if how == "gpu":
        request.getfixturevalue("gpu")
    calls = _counted(monkeypatch, (padding, "_shown"))
    pictures, side = _noise(2, 65, 34, 8), [padding_px, padding_px]
    with kernels.plain_kernels(how == "plain"):
        found = _value_and_gradients(lambda pictures: padding.mirror_borders(pictures, padding_px), pictures)
    assert bool(calls) == (how == "fast")
    expected = _value_and_gradients(lambda pictures: tf.pad(pictures, [[0, 0], side, side, [0, 0]], "REFLECT"),
                                    tf.cast(pictures, tf.float64))
    _assert_near(found, expected, 1e-6)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("how", ["fast", "plain", "gpu"])
def test_instance_norm_is_its_formula_in_float64(how, relu, request, monkeypatch):
    """A mean of 3 deviations, as after a ReLU; on GPUs the fused kernel, whose sums round more on a CPU."""
    if how == "gpu":
        request.getfixturevalue("gpu")
    calls = _counted(monkeypatch, *((tf.raw_ops, name) for name in ("FusedBatchNormV3", "FusedBatchNormGradV3")))
    layer, pictures = InstanceNorm(), _noise(2, 96, 64, 32) + 3.0
    layer.build(pictures.shape)
    with kernels.plain_kernels(how == "plain"):
        found = _value_and_gradients(lambda pictures: layer(pictures, relu=relu), pictures)
    assert calls.count("FusedBatchNormV3") == (2 if how == "gpu" else 0)
    assert calls.count("FusedBatchNormGradV3") == (0 if how == "plain" else 2)

    def formula(pictures: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(pictures, [1, 2], keepdims=True)
        normed = (pictures - mean) * tf.math.rsqrt(variance + EPSILON)
        return tf.nn.relu(normed) if relu else normed

    expected = _value_and_gradients(formula, tf.cast(pictures, tf.float64))
    # A pixel within rounding of the mean may lie on the other side of the ReLU's kink, where its gradient jumps.
    clear = np.abs(pictures - np.mean(pictures, (1, 2), np.float64, keepdims=True)) > 1e-4
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=5e-5)
    assert clear.mean() > 0.999
    largest = np.abs(expected[1]).max()
    np.testing.assert_allclose(np.where(clear, found[1], expected[1]), expected[1], rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_residual_block_is_its_formula_in_float64(recompute, monkeypatch):
    """With a ReLU of a round corner: next to a kink, rounding decides about the slope."""
    monkeypatch.setattr(resnet, "norm_relu", lambda norm, pixels, training: tf.nn.softplus(
        norm(pixels, training=training)))
    calls = _counted(monkeypatch, (winograd, "convolution_3x3"), (resnet, "recomputed"), (Recomputable, "recompute"))
    block = resnet.ResidualBlock(128, "instance", (0, 1), "block", "float32", recompute)
    pictures = _noise(1, 64, 64, 128)
    block.build(pictures.shape)
    kernels_of_block = [tf.convert_to_tensor(conv.convolution.kernel) for conv in (block.conv1, block.conv2)]
    variables = [conv.convolution.kernel for conv in (block.conv1, block.conv2)]

    def value_and_gradients(function: Callable[..., tf.Tensor], pictures: tf.Tensor, sources: list) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([pictures, *(each for each in sources if tf.is_tensor(each))])
            output = function(pictures)
            loss = tf.reduce_sum(output * tf.cast(_noise(*output.shape, seed=1), output.dtype))
        return [output, *tape.gradient(loss, [pictures, *sources])]

    found = value_and_gradients(lambda pictures: block(pictures, training=True), pictures,
                                [compat.raw_variable(variable) for variable in variables])
    # A second forward pass, or the input of the second convolution alone, is made again.
    assert sorted(calls) == (["convolution_3x3"] * 4 + ["recomputed"] if recompute else
                             ["convolution_3x3"] * 2 + ["recompute"])
    exact = [tf.cast(kernel, tf.float64) for kernel in kernels_of_block]

    def norm(pixels: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(pixels, [1, 2], keepdims=True)
        return (pixels - mean) * tf.math.rsqrt(variance + EPSILON)

    def convolved(pixels: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return norm(tf.nn.conv2d(tf.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), kernel, 1, "VALID"))

    expected = value_and_gradients(lambda pictures: pictures + convolved(tf.nn.softplus(convolved(
        pictures, exact[0])), exact[1]), tf.cast(pictures, tf.float64), exact)
    _assert_near(found, expected, 5e-5)


def test_indices_of_borders_are_not_kept(monkeypatch):
    """4K pictures: 25 million numbers for each size seen would stay in memory; nothing but the graph holds them."""
    constants = []
    original = tf.constant
    monkeypatch.setattr(tf, "constant", lambda value, *given, **named: constants.append(np.size(value)) or original(
        value, *given, **named))
    graph = tf.function(lambda pictures: padding.mirror_borders(pictures, 3)).get_concrete_function(
        tf.TensorSpec([1, 2160, 3840, 3])).graph
    assert constants and max(constants) <= 3846 and not graph.captures
    sizes = [int(np.prod(operation.outputs[0].shape)) for operation in graph.get_operations()
             if operation.type == "Const"]
    assert max(sizes) <= 3846


def test_plain_kernels_end_with_their_block():
    with kernels.plain_kernels():
        assert not kernels.are_fast()
        with kernels.plain_kernels(False):
            assert kernels.are_fast()
        assert not kernels.are_fast()
    assert kernels.are_fast() and kernels.are_fast_on_cpu() is not kernels.on_gpu()


def test_layers_of_a_gpu_are_chosen_by_the_device_list(gpu):
    assert kernels.on_gpu() and kernels.are_fast() and not kernels.are_fast_on_cpu()
