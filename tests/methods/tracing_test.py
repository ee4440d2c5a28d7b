"""A step's graph: constants that occur once, and the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.methods import build_method
from cut_tf.methods.tracing import shared_constants, traced


def _constants(function):
    return [node for node in function.graph.get_operations() if node.type == "Const"]


@pytest.fixture(name="one_cpu")
def _one_cpu(monkeypatch):
    monkeypatch.setattr("cut_tf.methods.tracing.on_gpu", lambda: False)
    return tf.distribute.get_strategy()


def test_equal_constants_are_one_operation(one_cpu):
    @traced
    def compute(inputs):
        with shared_constants(one_cpu):
            first = inputs[1:] + 2.0
            with tf.control_dependencies([first]):
                late = tf.constant(7.0) * tf.constant(2.0)
            return first[1:] * 2.0 + late, tf.constant(2), tf.constant([2.0]), tf.constant(7.0)

    found = compute.get_concrete_function(tf.TensorSpec([4]))
    values = sorted(str(tf.make_ndarray(node.get_attr("value")).tolist()) for node in _constants(found))
    assert values == ["2", "2.0", "7.0", "[0]", "[1]", "[2.0]"]
    assert not any(node.control_inputs for node in _constants(found))
    outputs = compute(tf.constant([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(outputs[0], [24.0, 26.0])


def test_a_graph_makes_its_constants_as_before_afterwards(one_cpu):
    with tf.Graph().as_default() as graph:
        with pytest.raises(KeyError), shared_constants(one_cpu):
            assert tf.constant(1.5).op is tf.constant(1.5).op
            raise KeyError
        assert tf.constant(1.5).op is not tf.constant(1.5).op
        assert len(graph.get_operations()) == 3


def test_nothing_is_shared_by_devices(two_replicas, monkeypatch):
    with tf.Graph().as_default(), shared_constants(two_replicas):
        assert tf.constant(1.5).op is not tf.constant(1.5).op
    monkeypatch.setattr("cut_tf.methods.tracing.on_gpu", lambda: True)
    with tf.Graph().as_default(), shared_constants(tf.distribute.get_strategy()):
        assert tf.constant(1.5).op is not tf.constant(1.5).op


def test_a_step_has_no_constant_twice(one_cpu, tiny_settings):
    method = build_method(tiny_settings())
    method.compile()
    step, _ = method._compiled_step()
    side = method.settings.data.crop_size_px
    batch = {name: tf.TensorSpec([method.settings.data.batch_size, side, side, 3]) for name in ("source", "target")}
    nodes = _constants(step.get_concrete_function(batch, tf.TensorSpec([])))
    values = {node.get_attr("value").SerializeToString() for node in nodes}
    # The last check of all terms is made outside, with a few constants of its own.
    assert 100 < len(values) <= len(nodes) <= len(values) + 10
