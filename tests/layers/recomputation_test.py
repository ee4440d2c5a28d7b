"""What is computed again has the gradient of what is kept, and is not kept."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import networks
from cut_tf.errors import InputError
from cut_tf.layers.recomputation import recomputed
from cut_tf.settings import NetworkSettings


def test_gradients_of_all_arguments():
    """Of w tanh(x): w (1 - tanh^2 x) and tanh x, times the upstream gradient."""
    x, w, upstream = (np.random.default_rng(seed).normal(size=[3, 4]).astype(np.float32) for seed in range(3))

    @tf.function
    def gradients(x: tf.Tensor, w: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            output = recomputed(lambda x, w: w * tf.tanh(x))(x, w)
        return [output, *tape.gradient(output, [x, w], tf.constant(upstream))]

    output, of_x, of_w = gradients(tf.constant(x), tf.constant(w))
    np.testing.assert_allclose(output, w * np.tanh(x), rtol=1e-5)
    np.testing.assert_allclose(of_x, upstream * w * (1 - np.tanh(x) ** 2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of_w, upstream * np.tanh(x), rtol=1e-5)


def test_nothing_but_the_arguments_goes_from_the_forward_to_the_backward_pass():
    """The forward pass has one tanh, which only its product sees; the backward pass has another that waits."""
    @tf.function
    def gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = recomputed(lambda x: tf.exp(tf.tanh(x)))(x)
        return tape.gradient(output, x, upstream)

    operations = gradient.get_concrete_function(*[tf.TensorSpec([2])] * 2).graph.get_operations()
    first, second = (operation for operation in operations if operation.type == "Tanh")
    assert [user.type for user in first.outputs[0].consumers()] == ["Exp"]
    identity = second.inputs[0].op
    assert identity.type == "Identity" and [source.name for source in identity.control_inputs] == ["upstream"]


def test_a_generator_learns_the_same():
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1, 1)
    found = []
    for recompute in (False, True):
        settings = NetworkSettings(ngf=8, generator_blocks=1, recompute_blocks=recompute)
        generator = networks.build_generator(settings, 1)
        generator(images)

        @tf.function
        def step(generator=generator) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
            with tf.GradientTape() as tape:
                output = generator(images, training=True)
                loss = tf.reduce_mean(tf.square(output - 0.5))
            return output, tape.gradient(loss, generator.trainable_variables)

        output, gradients = step()
        found.append((output, gradients, [weight.path if hasattr(weight, "path") else weight.name
                                          for weight in generator.trainable_variables]))
    (plain, expected, names), (output, gradients, _) = found
    np.testing.assert_allclose(output, plain, atol=1e-6)
    for name, left, right in zip(names, gradients, expected):
        assert (left is None) == (right is None), name
        if right is not None:
            np.testing.assert_allclose(left, right, atol=1e-5 * np.abs(right).max() + 1e-9, err_msg=name)


@pytest.mark.parametrize("other", [{"generator_norm": "batch"}, {"generator": "mobile"}])
def test_is_refused_where_a_block_has_more_weights(other):
    with pytest.raises(InputError, match="--recompute_blocks must be false, but with --generator=resnet"):
        NetworkSettings(recompute_blocks=True, **other)
