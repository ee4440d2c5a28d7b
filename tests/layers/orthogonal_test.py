"""Stiefel projection, retraction and layer against float64 NumPy, scipy's polar factor, and over thousands of steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg

from cut_tf import compat
from cut_tf.layers.orthogonal import OnStiefel, OrthogonalDense, orthogonality_error, retraction, tangent_projection
from cut_tf.methods.optimizers import Adam

SHAPES = [(8, 8), (16, 5), (5, 16), (3, 3), (256, 64), (128, 256)]


def _orthonormal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return linalg.polar(rng.normal(size=shape), side="right" if shape[0] >= shape[1] else "left")[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_projection_is_the_papers_gradient(shape):
    rng = np.random.default_rng(0)
    kernel, gradient = _orthonormal(rng, shape), rng.normal(size=shape)
    found = tangent_projection(tf.constant(kernel, tf.float32), tf.constant(gradient, tf.float32)).numpy()
    wide = shape[0] < shape[1]
    theta, d = (kernel.T, gradient.T) if wide else (kernel, gradient)
    expected = d - 0.5 * theta @ theta.T @ d - 0.5 * theta @ d.T @ theta  # eq. 3 in float64
    np.testing.assert_allclose(found.T if wide else found, expected, atol=2e-5)
    # Tangent: theta^T X + X^T theta = 0.
    across = theta.T @ (found.T if wide else found)
    np.testing.assert_allclose(across + across.T, 0.0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_retraction_is_the_polar_factor(shape, scale):
    point = np.random.default_rng(1).normal(size=shape) * scale
    expected = linalg.polar(point, side="right" if shape[0] >= shape[1] else "left")[0]
    found = retraction(tf.constant(point, tf.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert float(orthogonality_error(found)) < 1e-5


@pytest.mark.parametrize("shape", [(12, 4), (4, 12), (6, 6)])
def test_retraction_of_a_tangent_step_is_equation_5(shape):
    rng = np.random.default_rng(2)
    kernel, gradient = _orthonormal(rng, shape), rng.normal(size=shape)
    theta, d = (kernel.T, gradient.T) if shape[0] < shape[1] else (kernel, gradient)
    step = -0.1 * (d - 0.5 * theta @ theta.T @ d - 0.5 * theta @ d.T @ theta)  # eq. 4
    expected = (theta + step) @ linalg.inv(linalg.sqrtm(np.eye(theta.shape[1]) + step.T @ step))  # eq. 5
    expected = expected.T if shape[0] < shape[1] else expected
    moved = kernel + (step.T if shape[0] < shape[1] else step)
    np.testing.assert_allclose(retraction(tf.constant(moved, tf.float32)), expected, atol=1e-5)


def _tf32(values: tf.Tensor) -> tf.Tensor:
    """float32 rounded to 10 bits of mantissa, as newer GPUs do before they multiply; others as they are."""
    if values.dtype != tf.float32:
        return values
    bits = tf.bitcast(values, tf.uint32)
    rounded = tf.bitwise.bitwise_and(bits + tf.constant(0x1000, tf.uint32), tf.constant(0xFFFFE000, tf.uint32))
    return values + tf.stop_gradient(tf.bitcast(rounded, tf.float32) - values)


@pytest.mark.parametrize("shape", SHAPES)
def test_retraction_keeps_its_digits_where_products_are_tf32(shape, monkeypatch):
    point = _orthonormal(np.random.default_rng(3), shape) + 1e-3 * np.random.default_rng(4).normal(size=shape)
    matmul = tf.matmul
    for module in (tf, tf.linalg):
        monkeypatch.setattr(module, "matmul", lambda a, b, **named: matmul(_tf32(a), _tf32(b), **named))
    found = retraction(tf.constant(point, tf.float32)).numpy().astype(np.float64)
    gram = found.T @ found if shape[0] >= shape[1] else found @ found.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=5e-7)
    expected = linalg.polar(point, side="right" if shape[0] >= shape[1] else "left")[0]
    np.testing.assert_allclose(found, expected, atol=5e-7)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_gpu_never_rounds_the_layers_products(allowed, gpu, monkeypatch):
    """Value, gradients and error; where TF32 is not allowed, products are float32, which it would spoil here."""
    layer = OrthogonalDense(16, seed=1)
    layer.build((None, 48))
    rng = np.random.default_rng(0)
    inputs, slope = rng.normal(size=(2, 10, 48)), rng.normal(size=(2, 10, 16))
    matmul, tensordot = tf.matmul, tf.tensordot
    monkeypatch.setattr(tf, "matmul", lambda a, b, **named: matmul(_tf32(a), _tf32(b), **named))
    monkeypatch.setattr(tf, "tensordot", lambda a, b, axes: tensordot(_tf32(a), _tf32(b), axes))
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(allowed)
    try:
        with tf.GradientTape() as tape:
            output = layer(tf.constant(inputs, tf.float32))
            loss = tf.reduce_sum(output * tf.constant(slope, tf.float32))
        gradient = tape.gradient(loss, compat.raw_variable(layer.kernel)).numpy()
        error = orthogonality_error(tf.convert_to_tensor(layer.kernel))
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
    theta = tf.convert_to_tensor(layer.kernel).numpy().astype(np.float64)
    d = np.einsum("bpc,bpd->cd", inputs, slope)
    expected = d - 0.5 * theta @ theta.T @ d - 0.5 * theta @ d.T @ theta
    assert output.dtype == error.dtype == tf.float32 and gradient.dtype == np.float32
    errors = (np.abs(output - inputs @ theta).max(), np.abs(gradient - expected).max() / np.abs(expected).max(),
              float(error))
    assert max(errors) < 3e-6 if allowed else min(errors) > 5e-5, errors


def test_orthogonality_error_of_a_known_matrix():
    assert float(orthogonality_error(tf.constant([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))) == 3.0
    assert float(orthogonality_error(tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]]))) == 0.25


def test_layer_is_a_dense_layer_with_an_orthonormal_start():
    layer = OrthogonalDense(6, seed=1, activation="relu", name="dense")
    inputs = np.random.default_rng(0).normal(size=(2, 5, 9)).astype(np.float32)
    found = layer(inputs)
    kernel, bias = (weight.numpy() for weight in compat.named_weights(keras.Sequential([layer])).values())
    np.testing.assert_allclose(found, np.maximum(inputs @ kernel + bias, 0), atol=1e-5)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-6)
    again = OrthogonalDense(6, seed=1)
    again.build((None, 9))
    np.testing.assert_array_equal(tf.convert_to_tensor(again.kernel), kernel)


def test_gradient_of_the_layer_is_the_projected_one():
    layer = OrthogonalDense(4, seed=1)
    layer.build((None, 7))
    rng = np.random.default_rng(0)
    inputs, slope = rng.normal(size=(10, 7)), rng.normal(size=(10, 4))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant(inputs, tf.float32)) * tf.constant(slope, tf.float32))
    found = tape.gradient(loss, compat.raw_variable(layer.kernel)).numpy()
    theta, d = tf.convert_to_tensor(layer.kernel).numpy().astype(np.float64), inputs.T @ slope
    np.testing.assert_allclose(found, d - 0.5 * theta @ theta.T @ d - 0.5 * theta @ d.T @ theta, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_layer_stays_float32_under_mixed_precision(policy):
    before = keras.mixed_precision.global_policy() if not compat.KERAS_3 else keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = OrthogonalDense(4, seed=1)
        assert layer(tf.ones([1, 4], tf.bfloat16 if "bf" in policy else tf.float16)).dtype == tf.float32
    finally:
        keras.mixed_precision.set_global_policy(before)


def _stepper(optimizer: keras.optimizers.Optimizer, layer: OrthogonalDense) -> object:
    compat.build_optimizer(optimizer, layer.trainable_variables)

    @tf.function
    def step(seed: tf.Tensor) -> None:
        gradient = tf.random.stateless_normal(layer.kernel.shape, [seed, 0])
        compat.apply_summed_gradients(optimizer, [gradient, tf.zeros_like(layer.bias)], layer.trainable_variables)

    return step


@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40)])
@pytest.mark.parametrize("make", [lambda: keras.optimizers.SGD(0.05), lambda: Adam(1e-3)], ids=["sgd", "adam"])
def test_two_thousand_steps_stay_on_the_manifold(shape, make):
    layer = OrthogonalDense(shape[1], seed=0)
    layer.build((None, shape[0]))
    start = tf.convert_to_tensor(layer.kernel).numpy()
    step = _stepper(make(), layer)
    worst = 0.0
    for number in range(2_000):
        step(tf.constant(number))
        if number % 100 == 99:
            worst = max(worst, float(orthogonality_error(tf.convert_to_tensor(layer.kernel))))
    assert worst < 1e-5
    assert np.abs(tf.convert_to_tensor(layer.kernel).numpy() - start).max() > 0.05


@pytest.mark.parametrize("make", [lambda: keras.optimizers.SGD(0.005), lambda: Adam(0.01)], ids=["sgd", "adam"])
def test_steps_find_the_rotation_between_two_point_sets(make):
    """The quadratic |X K - Y|^2 with Y = X K* falls from step to step (SGD), and to nearly 0."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(64, 6)).astype(np.float32) / 8.0
    layer = OrthogonalDense(6, seed=0)
    layer.build((None, 6))
    turn = rng.normal(size=(6, 6))
    wanted = tf.convert_to_tensor(layer.kernel).numpy() @ linalg.expm(0.4 * (turn - turn.T))
    target = (points @ wanted).astype(np.float32)
    optimizer = make()
    compat.build_optimizer(optimizer, layer.trainable_variables)
    losses = []
    for _ in range(400):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(points) - target))
        variables = [compat.raw_variable(weight) for weight in layer.trainable_variables]
        compat.apply_summed_gradients(optimizer, tape.gradient(loss, variables), layer.trainable_variables)
        losses.append(float(loss))
    if isinstance(optimizer, keras.optimizers.SGD):
        assert all(later <= earlier + 1e-6 for earlier, later in zip(losses, losses[1:]))
    assert losses[-1] < 0.05 * losses[0]


def test_constraint_is_the_retraction():
    point = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(OnStiefel()(tf.constant(point)), linalg.polar(point)[0], atol=1e-5)
