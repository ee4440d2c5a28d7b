"""Instance norm against float64 NumPy, also far from zero and in half precision; the table of norms."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.norm import NORMS, InstanceNorm, build_norm, conv_has_bias, norm_relu


def _explicit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    mean = values.mean((1, 2), keepdims=True)
    return (values - mean) / np.sqrt(values.var((1, 2), keepdims=True) + 1e-5)


@pytest.mark.parametrize("size", [(8, 8), (5, 11), (1, 2)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_equals_numpy_per_image_and_channel(size, scale):
    values = np.random.default_rng(0).normal(size=(3, *size, 4)) * scale * np.array([1, 2, 3, 4]) + scale
    found = InstanceNorm()(tf.constant(values, tf.float32))
    np.testing.assert_allclose(found, _explicit(values), atol=2e-5)


def test_variance_is_biased():
    found = InstanceNorm()(tf.constant([[[[1.0]], [[3.0]]]]))  # mean 2, biased variance 1, unbiased variance 2
    np.testing.assert_allclose(np.ravel(found), [-1.0 / np.sqrt(1.00001), 1.0 / np.sqrt(1.00001)], rtol=1e-6)


def test_large_mean_and_small_deviation_in_float32():
    values = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32) + np.float32(1000)
    np.testing.assert_allclose(InstanceNorm()(values), _explicit(values), atol=2e-3)


@pytest.mark.parametrize("dtype, mean, deviation", [("bfloat16", 1000, 16), ("float16", 1000, 1), ("float16", 0, 300)])
def test_statistics_of_half_precision_are_float32(dtype, mean, deviation):
    values = np.random.default_rng(0).normal(size=(2, 32, 32, 3)) * deviation + mean
    half = tf.constant(values, dtype)  # rounding the input is not the layer's doing
    found = InstanceNorm(dtype=f"mixed_{dtype}")(half)
    assert found.dtype == dtype
    one_rounding = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    expected = _explicit(tf.cast(half, tf.float32).numpy())
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, rtol=one_rounding, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 9])  # one by one up to 8, all at once above
def test_gradient_is_that_of_the_closed_form(batch, relu):
    rng = np.random.default_rng(0)
    values, upstream = rng.normal(size=(2, batch, 6, 5, 3)) * 2 + 1
    inputs = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        normed = norm_relu(InstanceNorm(), inputs, training=True) if relu else InstanceNorm()(inputs)
    found = tape.gradient(normed, inputs, tf.constant(upstream, tf.float32))
    unit, means = _explicit(values), {"axis": (1, 2), "keepdims": True}
    np.testing.assert_allclose(normed, np.maximum(unit, 0) if relu else unit, atol=1e-5)
    upstream = upstream * (unit > 0) if relu else upstream
    expected = (upstream - upstream.mean(**means) - unit * (upstream * unit).mean(**means)) / np.sqrt(
        values.var(**means) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _squared_gradient(values: np.ndarray) -> float:
    """sum (dy/dx)^2 for y = sum norm(x)^3, in float64."""
    unit = _explicit(values)
    upstream, means = 3 * unit**2, {"axis": (1, 2), "keepdims": True}
    gradient = (upstream - upstream.mean(**means) - unit * (upstream * unit).mean(**means)) / np.sqrt(
        values.var(**means) + 1e-5)
    return float(np.sum(gradient**2))


def test_can_be_differentiated_twice():
    """As the gradient penalty needs, against central differences of the closed form."""
    inputs = tf.random.stateless_normal([1, 3, 3, 1], [3, 0])
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            total = tf.reduce_sum(InstanceNorm()(inputs) ** 3)
        penalty = tf.reduce_sum(inner.gradient(total, inputs) ** 2)
    values, step = inputs.numpy().astype(np.float64), 1e-5
    nudges = step * np.eye(values.size).reshape(-1, *values.shape)
    slopes = [(_squared_gradient(values + nudge) - _squared_gradient(values - nudge)) / (2 * step) for nudge in nudges]
    np.testing.assert_allclose(penalty, _squared_gradient(values), rtol=1e-5)
    np.testing.assert_allclose(np.ravel(outer.gradient(penalty, inputs)), slopes, rtol=1e-4, atol=1e-4)


def test_constant_image_becomes_zero():
    np.testing.assert_array_equal(InstanceNorm()(tf.fill([1, 4, 4, 2], 3.0)), np.zeros((1, 4, 4, 2)))


def test_training_makes_no_difference_to_instance_norm():
    values = tf.random.stateless_normal([2, 6, 5, 3], [1, 2])
    layer = InstanceNorm()
    np.testing.assert_array_equal(layer(values, training=True), layer(values, training=False))
    assert not layer.weights


def test_batch_norm_uses_the_batch_in_training_and_pytorchs_momentum():
    values = np.random.default_rng(0).normal(size=(4, 6, 5, 2)) * 3 + 2
    layer = build_norm("batch", "some_norm", "float32")
    found = layer(tf.constant(values, tf.float32), training=True)
    mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
    np.testing.assert_allclose(found, (values - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=0.02)
    inference = layer(tf.constant(values, tf.float32), training=False)
    expected = (values - 0.1 * mean) / np.sqrt(np.asarray(layer.moving_variance) + 1e-5)
    np.testing.assert_allclose(inference, expected, atol=1e-5)


def _batch_norm_step(strategy: tf.distribute.Strategy, parts: list[np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Everything that one training call makes of the parts of a batch, one a replica, and of its sum y * weight."""
    with strategy.scope():
        layer = build_norm("batch", "some_norm", dtype)
        layer.build((None, None, None, 3))
        layer.gamma.assign([1.0, -2.0, 0.5])
        layer.beta.assign([0.1, 0.2, 0.3])
    given = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group], tf.float32))

    @tf.function
    def step(values: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            normed = layer(tf.cast(values, tf.bfloat16) if "bf" in dtype else values, training=True)
            loss = tf.reduce_sum(tf.sin(5.0 * tf.cast(normed, tf.float32)) * (values + 2.0))
        weights = [compat.raw_variable(weight) for weight in (layer.gamma, layer.beta)]
        of_values, *of_weights = tape.gradient(loss, [values, *weights])
        return tf.cast(normed, tf.float32), of_values, *of_weights

    normed, of_values, *of_weights = (strategy.experimental_local_results(found) for found in strategy.run(
        step, args=(given,)))
    found = {"normed": np.concatenate(normed), "gradient": np.concatenate(of_values),
             "gamma": np.sum(of_weights[0], 0), "beta": np.sum(of_weights[1], 0)}
    for name in ("moving_mean", "moving_variance"):
        copies = strategy.experimental_local_results(compat.raw_variable(getattr(layer, name)))
        for copy in copies:
            np.testing.assert_array_equal(copy, copies[0], err_msg=name)
        found[name] = copies[0].numpy()
    assert {weight.name.split("/")[-1].split(":")[0] for weight in layer.weights} == {
        "gamma", "beta", "moving_mean", "moving_variance"}
    assert all("float32" in str(weight.dtype) for weight in layer.weights)
    return found


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_batch_norm_of_two_replicas_is_that_of_one_with_all_images(two_replicas, dtype):
    """Each half has a mean and deviation of its own: outputs, all gradients and running statistics."""
    numbers = np.random.default_rng(3)
    halves = [numbers.normal(size=(2, 6, 5, 3)) + 1.0, 3.0 * numbers.normal(size=(2, 6, 5, 3)) - 2.0]
    halves = [tf.cast(tf.constant(half, tf.bfloat16), tf.float32).numpy() for half in halves]
    found = _batch_norm_step(two_replicas, halves, dtype)
    one = _batch_norm_step(tf.distribute.OneDeviceStrategy("CPU:0"), [np.concatenate(halves)], dtype)
    # Half precision rounds what comes out, and with it the loss that is differentiated; statistics stay float32.
    rounding = 1e-5 if dtype == "float32" else 2.0**-6
    for name, expected in one.items():
        tolerance = 1e-5 if name.startswith("moving") else rounding
        np.testing.assert_allclose(found[name], expected, atol=tolerance * np.abs(expected).max(), err_msg=name)


def test_batch_norm_of_two_replicas_can_be_differentiated_twice(two_replicas):
    """As the gradient penalty needs: sum |d sum sin(norm(x)) / dx|^2 over all images."""
    halves = np.random.default_rng(4).normal(size=(2, 1, 4, 4, 2)) * np.reshape([1, 2, 3, 1], (2, 1, 1, 1, 2))

    def gradient(strategy: tf.distribute.Strategy, parts: np.ndarray) -> np.ndarray:
        with strategy.scope():
            layer = build_norm("batch", "some_norm", "float32")
            layer.build((None, None, None, 2))
        given = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group], tf.float32))

        @tf.function
        def step(values: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as outer:
                outer.watch(values)
                with tf.GradientTape() as inner:
                    inner.watch(values)
                    total = tf.reduce_sum(tf.sin(layer(values, training=True)))
                penalty = tf.reduce_sum(tf.square(inner.gradient(total, values)))
            return outer.gradient(penalty, values)

        return np.concatenate(strategy.experimental_local_results(strategy.run(step, args=(given,))))

    expected = gradient(tf.distribute.OneDeviceStrategy("CPU:0"), [np.concatenate(halves)])
    np.testing.assert_allclose(gradient(two_replicas, halves), expected, atol=1e-5 * np.abs(expected).max())


def test_no_norm_returns_its_input():
    values = tf.random.stateless_normal([2, 6, 5, 3], [1, 2])
    np.testing.assert_array_equal(build_norm("none", "some_norm", "float32")(values, training=True), values)


def test_unknown_norm_lists_the_known_ones():
    with pytest.raises(ValueError, match="instance, batch, none, spectral, found 'layer'"):
        build_norm("layer", "some_norm", "float32")


def test_only_convolutions_before_instance_norm_have_a_bias():
    assert [kind for kind in NORMS if conv_has_bias(kind)] == ["instance", "spectral"]
