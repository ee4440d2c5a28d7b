"""Adam against float64 NumPy, the recorded learning rates, and both under two replicas."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.methods.optimizers import SCHEDULES, Adam, CosineDecay, LinearDecay
from tools.check_parity.checks import check_file

_RATE, _BETA_1, _BETA_2 = 2e-4, 0.5, 0.999


def _gradients(steps: int = 20) -> np.ndarray:
    """[steps, 6]: of ordinary size, large, of the size of epsilon, tiny and zero."""
    return np.random.default_rng(0).normal(size=(steps, 6)) * np.array([1.0, 1e3, 1e-4, 1e-8, 1e-9, 0.0])


def _algorithm_1(start: np.ndarray, gradients: np.ndarray, rates: np.ndarray, beta_1: float = _BETA_1) -> np.ndarray:
    """Kingma and Ba 2015 in float64, epsilon 1e-8 after the bias correction: values after every step."""
    mean, square, value, values = 0.0, 0.0, start.astype(np.float64), []
    for step, (gradient, rate) in enumerate(zip(gradients, rates), 1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = _BETA_2 * square + (1 - _BETA_2) * gradient**2
        corrected = np.sqrt(square / (1 - _BETA_2**step)) + 1e-8
        value = value - rate * mean / (1 - beta_1**step) / corrected
        values.append(value)
    return np.array(values)


def _run(optimizer: keras.optimizers.Optimizer, gradients: np.ndarray) -> np.ndarray:
    layer = keras.layers.Dense(gradients.shape[1], use_bias=False, kernel_initializer="zeros")
    layer.build((None, 1))
    compat.build_optimizer(optimizer, layer.trainable_variables)
    values = []
    for gradient in gradients:
        compat.apply_summed_gradients(optimizer, [tf.constant(gradient[None], tf.float32)], layer.trainable_variables)
        values.append(np.asarray(layer.kernel)[0])
    return np.array(values)


@pytest.mark.parametrize("beta_1", [0.5, 0.0, 0.9])
def test_adam_equals_algorithm_1(beta_1):
    gradients = _gradients()
    found = _run(Adam(_RATE, beta_1, _BETA_2), gradients)
    expected = _algorithm_1(np.zeros(6), gradients, np.full(20, _RATE), beta_1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-9)


def test_steps_in_one_graph_have_their_own_corrections():
    """What the weights of a step share must not be shared by the next step."""
    gradients, optimizer = _gradients(3), Adam(_RATE, _BETA_1, _BETA_2)
    weights = [tf.Variable(tf.zeros([6])), tf.Variable(tf.ones([6]))]
    compat.build_optimizer(optimizer, weights)

    @tf.function
    def steps():
        for gradient in gradients:
            compat.apply_summed_gradients(optimizer, [tf.constant(gradient, tf.float32)] * 2, weights)

    steps()
    expected = _algorithm_1(np.zeros(6), gradients, np.full(3, _RATE))[-1]
    for start, weight in enumerate(weights):
        np.testing.assert_allclose(weight - float(start), expected, rtol=1e-5, atol=2e-7)
    rates = [node for node in steps.get_concrete_function().graph.get_operations() if node.type == "Pow"]
    assert len(rates) == 2 * len(gradients)  # of each step, not of each weight


def test_default_arguments_are_those_of_the_official_code():
    gradients = _gradients(3)
    np.testing.assert_array_equal(_run(Adam(), gradients), _run(Adam(2e-4, 0.5, 0.999, 1e-8), gradients))


def test_keras_adds_epsilon_elsewhere():
    """A first gradient of 1e-9 moves a weight by lr / 11 here and by a thirtieth of that in Keras."""
    gradients = np.full((1, 1), 1e-9)
    ours = -_run(Adam(_RATE, _BETA_1, _BETA_2), gradients)[0, 0]
    theirs = -_run(keras.optimizers.Adam(_RATE, _BETA_1, _BETA_2, epsilon=1e-8), gradients)[0, 0]
    assert ours == pytest.approx(_RATE / 11, rel=1e-3)
    assert ours > 10 * theirs > 0


def test_rates_equal_those_of_the_official_code(testdata):
    assert check_file(testdata / "golden" / "lr_linear.npz").status == "ok"
    with np.load(testdata / "golden" / "lr_linear.npz") as recorded:
        schedules = json.loads(str(recorded["meta_json"]))["schedules"]
        for name, (constant, decay, _, base) in schedules.items():
            schedule = LinearDecay(base, constant, decay, steps_per_epoch=7)
            for step_in_epoch in (0, 6):
                rates = [float(schedule(tf.constant(7 * epoch + step_in_epoch))) for epoch in range(constant + decay)]
                np.testing.assert_allclose(rates, recorded[name], rtol=1e-6)


def test_rates_by_hand():
    schedule = LinearDecay(1.0, constant_epochs=2, decay_epochs=3, steps_per_epoch=2)
    rates = [float(schedule(step)) for step in range(10)]
    np.testing.assert_allclose(rates, [1, 1, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25], rtol=1e-6)


def test_cosine_by_hand():
    """cos(pi / 3) = 1/2: from 1 over 3/4, 1/2 and 1/4 towards 0, step by step; the step after the last has 0."""
    rates = [float(CosineDecay(1.0, 0, 3, steps_per_epoch=2)(step)) for step in range(8)]
    half = np.sqrt(0.75) / 2
    np.testing.assert_allclose(rates, [1, 0.5 + half, 0.75, 0.5, 0.25, 0.5 - half, 0, 0], rtol=1e-5, atol=1e-8)


def test_cosine_waits_for_the_constant_epochs():
    rates = [float(CosineDecay(2.0, 2, 2, steps_per_epoch=2)(tf.constant(step, tf.int64))) for step in range(8)]
    eighth = np.sqrt(0.5)
    np.testing.assert_allclose(rates, [2, 2, 2, 2, 2, 1 + eighth, 1, 1 - eighth], rtol=1e-6)
    assert [float(CosineDecay(2.0, 2, 0, steps_per_epoch=2)(step)) for step in range(4)] == [2.0] * 4


def test_cosine_over_a_run_of_the_papers_length():
    """1,399,000 steps: neighbours differ in float64 only, the mean rate is half of the first."""
    schedule, steps = CosineDecay(1e-4, 0, 100, steps_per_epoch=13990), np.linspace(0, 1399000, 101).astype(np.int64)
    expected = 5e-5 * (1 + np.cos(np.pi * steps / 1399000))
    np.testing.assert_allclose([float(schedule(int(step))) for step in steps], expected, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize("kind", SCHEDULES.values())
def test_schedule_can_be_made_again_from_its_config(kind):
    schedule = kind(1e-3, 2, 3, 5)
    again = kind.from_config(schedule.get_config())
    assert [float(again(step)) for step in range(25)] == [float(schedule(step)) for step in range(25)]


def test_adam_follows_the_schedule():
    gradients = _gradients(8)
    schedule = LinearDecay(_RATE, 1, 2, steps_per_epoch=2)
    found = _run(Adam(schedule, _BETA_1, _BETA_2), gradients)
    rates = _RATE * np.array([1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(found, _algorithm_1(np.zeros(6), gradients, rates), rtol=1e-4, atol=2e-9)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_two_replicas_apply_the_summed_gradient_once(compiled, two_replicas):
    strategy = two_replicas
    schedule = LinearDecay(_RATE, 2, 2, steps_per_epoch=1)
    with strategy.scope():
        layer = keras.layers.Dense(6, use_bias=False, kernel_initializer="zeros")
        layer.build((None, 1))
        optimizer = Adam(schedule, _BETA_1, _BETA_2)
        compat.build_optimizer(optimizer, layer.trainable_variables)

    def step(gradient: tf.Tensor) -> None:
        context = tf.distribute.get_replica_context()
        # Shares of 1/4 and 3/4, so that a replica alone gives another update.
        share = (2.0 * tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0) / 4.0
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [gradient * share])
        compat.apply_summed_gradients(optimizer, summed, layer.trainable_variables)

    def run(gradient: tf.Tensor) -> None:
        strategy.run(step, args=(gradient,))

    run = tf.function(run) if compiled else run
    gradients = _gradients(3)
    for gradient in gradients:
        run(tf.constant(gradient[None], tf.float32))
    expected = _algorithm_1(np.zeros(6), gradients, _RATE * np.array([1, 1, 2 / 3]))[-1]
    for replica_value in strategy.experimental_local_results(compat.raw_variable(layer.kernel)):
        np.testing.assert_allclose(np.asarray(replica_value)[0], expected, rtol=1e-4, atol=2e-9)
    assert int(compat.raw_variable(optimizer.iterations).numpy()) == 3
