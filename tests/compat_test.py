"""Names of weights and optimizer state, which both stacks must agree on, and the optimizer hooks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.methods import build_method
from cut_tf.methods.optimizers import Adam

# Recorded: a checkpoint of one stack is read by the other under these names.
_GENERATOR = ("stem", "down1", "down2", "block1_conv1", "block1_conv2", "up1", "up2", "output")
_GENERATOR_NORMS = ("stem_norm", "down1_norm", "down2_norm", "block1_norm1", "block1_norm2", "up1_norm", "up2_norm")
_DISCRIMINATOR = ("conv1", "conv2", "score")
_PROJECTOR = ("feature0_dense1", "feature0_dense2", "feature1_dense1", "feature1_dense2")
_OVERRIDES = {"discriminator_layers": 1, "nce_layers": "0,4"}


def _both(layers: tuple[str, ...]) -> set[str]:
    return {f"{layer}/{weight}" for layer in layers for weight in ("kernel", "bias")}


def _expected_state(networks: dict[str, set[str]]) -> set[str]:
    names = {"step", "loss_scale", "finite_steps"} | {f"ema_generator/{name}" for name in networks["generator"]}
    for network, weights in networks.items():
        names |= {f"{network}/{weight}" for weight in weights}
        names |= {f"optimizer/{network}/iterations"}
        names |= {f"optimizer/{network}/{slot}/{weight}" for weight in weights for slot in ("mean", "square")}
    return names


def test_state_has_the_recorded_names(tiny_settings):
    method = build_method(tiny_settings(**_OVERRIDES))
    method.compile()
    expected = _expected_state({"generator": _both(_GENERATOR), "discriminator": _both(_DISCRIMINATOR),
                                "projector": _both(_PROJECTOR)})
    assert set(method.state()) == expected
    assert all(isinstance(variable, tf.Variable) for variable in method.state().values())


def test_queues_are_part_of_the_state(tiny_settings):
    with_queue, without = (set(build_method(tiny_settings(negatives=kind, **_OVERRIDES)).state())
                           for kind in ("external", "internal"))
    assert with_queue - without == {f"queue/{name}/{layer}/{part}" for name in ("nce", "nce_identity")
                                    for layer in (0, 1) for part in ("keys", "present")}


def test_without_running_means_the_state_has_none(tiny_settings):
    assert not [name for name in build_method(tiny_settings(ema_decay=0.0)).state() if name.startswith("ema_")]


def test_weights_of_a_generator_with_batch_norm_have_the_recorded_names(tiny_settings):
    method = build_method(tiny_settings(generator_norm="batch", ema_decay=0.0))
    expected = {f"{layer}/kernel" for layer in _GENERATOR} | {"output/bias"}
    expected |= {f"{layer}/{weight}" for layer in _GENERATOR_NORMS
                 for weight in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert set(compat.named_weights(method.generator)) == expected


@pytest.mark.parametrize("overrides", [{}, {"generator_blocks": 3}, {"antialias_up": False, "antialias_down": False},
                                       {"generator_norm": "none", "discriminator_norm": "batch"}], ids=str)
def test_names_cover_every_weight_once(tiny_settings, overrides):
    method = build_method(tiny_settings(ema_decay=0.0, **overrides))
    for network in method.networks.values():
        named = compat.named_weights(network)
        assert len(named) == len(network.weights)
        assert {id(variable) for variable in named.values()} == {id(compat.raw_variable(weight))
                                                                 for weight in network.weights}


def test_trainable_names_are_in_the_order_of_the_weights(tiny_settings):
    method = build_method(tiny_settings(discriminator_norm="batch"))
    for name, network in method.networks.items():
        named = compat.named_weights(network)
        names = method.trainable_names(name)
        assert len(names) == len(network.trainable_variables) > 0
        for key, weight in zip(names, network.trainable_variables):
            assert named[key] is compat.raw_variable(weight)


def test_two_layers_of_one_name_are_refused():
    class Twins(keras.Model):
        """Two layers that share a name."""

        def __init__(self) -> None:
            super().__init__(name="twins")
            self.first = keras.layers.Dense(2, name="same")
            self.second = keras.layers.Dense(2, name="same")

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return self.second(self.first(inputs))

    twins = Twins()
    twins(tf.zeros([1, 2]))
    with pytest.raises(ValueError, match="twins: two weights are called same/kernel"):
        compat.named_weights(twins)


def _layer_with_slots(optimizer: keras.optimizers.Optimizer) -> keras.layers.Dense:
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    compat.build_optimizer(optimizer, layer.trainable_variables)
    return layer


def test_adam_slots_are_those_of_the_variable():
    optimizer = Adam(beta_1=0.5, beta_2=0.75)
    layer = _layer_with_slots(optimizer)
    compat.apply_summed_gradients(optimizer, [tf.fill([2, 3], 2.0), tf.fill([3], 4.0)], layer.trainable_variables)
    for variable, gradient in zip(layer.trainable_variables, (2.0, 4.0)):
        mean, square = compat.adam_slots(optimizer, variable)
        np.testing.assert_allclose(mean, np.full(variable.shape, gradient / 2))
        np.testing.assert_allclose(square, np.full(variable.shape, gradient**2 / 4))
    state = compat.optimizer_state(optimizer, ["kernel", "bias"])
    assert set(state) == {"iterations", "mean/kernel", "mean/bias", "square/kernel", "square/bias"}
    assert int(state["iterations"]) == 1
    np.testing.assert_allclose(state["mean/bias"], np.full(3, 2.0))


def test_state_of_other_optimizers_is_complete():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    layer = _layer_with_slots(optimizer)
    compat.apply_summed_gradients(optimizer, [tf.ones([2, 3]), tf.ones([3])], layer.trainable_variables)
    state = compat.optimizer_state(optimizer, ["kernel", "bias"])
    shapes = [tuple(variable.shape) for variable in state.values()]
    assert (2, 3) in shapes and (3,) in shapes and int(state["iterations"]) == 1
    assert all(isinstance(variable, tf.Variable) for variable in state.values())


def test_raw_variable_is_a_tf_variable_and_of_itself():
    layer = _layer_with_slots(Adam())
    raw = compat.raw_variable(layer.kernel)
    assert isinstance(raw, tf.Variable)
    assert compat.raw_variable(raw) is raw
