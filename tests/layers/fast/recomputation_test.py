"""Recomputed tensors have the same gradients as stored ones, and are not stored."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import networks
from cut_tf.common.errors import InputError
from cut_tf.layers.fast import few_filters, winograd
from cut_tf.layers.fast.recomputation import Recomputable, recomputed
from cut_tf.settings import Settings


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


def _types_after(operation: tf.Operation) -> set[str]:
    """Types of all operations that see a result of this one, at once or later."""
    found, left = {}, [operation]
    while left:
        users = [user for output in left.pop().outputs for user in output.consumers() if user.name not in found]
        found.update({user.name: user.type for user in users})
        left += users
    return set(found.values())


@pytest.mark.parametrize("convolve", [
    lambda remade, kernel: few_filters.convolution(remade.value, kernel, remade.recompute),
    lambda remade, kernel: winograd.convolution_3x3(remade.value, kernel, False, recompute=remade.recompute)])
def test_the_gradient_of_a_kernel_sees_what_was_made_again(convolve):
    """And with it, the sum of the windows' products, and not what the forward pass made."""
    x, kernel, upstream = (np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed, shape in (
        (0, [1, 6, 6, 8]), (1, [3, 3, 8, 2]), (2, [1, 4, 4, 2])))

    @tf.function
    def gradient(x: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            output = convolve(Recomputable(x).apply(lambda tensor: tensor + 1.0).apply(tf.tanh), kernel)
        return tape.gradient(output, [x, kernel], upstream)

    of_x, of_kernel = gradient(tf.constant(x), tf.constant(kernel), tf.constant(upstream))
    windows = np.lib.stride_tricks.sliding_window_view(np.tanh(x + 1.0), (3, 3), (1, 2))
    np.testing.assert_allclose(of_kernel, np.einsum("bhwcij,bhwd->ijcd", windows, upstream), rtol=1e-4, atol=1e-5)
    of_hidden = tf.nn.conv2d_transpose(upstream, kernel, x.shape, 1, "VALID")
    np.testing.assert_allclose(of_x, of_hidden * (1 - np.tanh(x + 1.0) ** 2), rtol=1e-4, atol=1e-5)
    operations = gradient.get_concrete_function(x, kernel, upstream).graph.get_operations()
    sums = {"MatMul", "Conv2DBackpropFilter"}
    first, second = (operation for operation in operations if operation.type == "Tanh")
    assert not sums & _types_after(first) and sums & _types_after(second)


def test_a_generator_learns_the_same_from_what_is_made_again(monkeypatch):
    """With every convolution large enough for it, against one whose gradients see what was kept."""
    for module, name in ((winograd, "_LEAST_CHANNELS"), (winograd, "_LEAST_CHANNELS_OF_GRADIENT"),
                         (winograd, "_LEAST_PIXELS"), (few_filters, "_MANY"), (few_filters, "_LEAST_PIXELS")):
        monkeypatch.setattr(module, name, 1)
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1, 1)
    generator = networks.build_generator(Settings.of(ngf=8, generator_blocks=2), 1)
    generator(images)
    remade, again = [], Recomputable.recompute
    monkeypatch.setattr(Recomputable, "recompute", lambda self: remade.append(self) or again(self))

    def gradients() -> list[tf.Tensor | None]:
        with tf.GradientTape() as tape:
            output, features = generator.translate_with_features(images, (0, 4, 8, 12, 13), training=True)
            loss = tf.add_n([tf.reduce_mean(tf.square(part - 0.5)) for part in (output, *features)])
        return tape.gradient(loss, generator.trainable_variables)

    found = gradients()
    assert len(remade) == 8  # stem, two down, the second of each of two blocks, two up, output
    monkeypatch.setattr(Recomputable, "recompute", lambda self: self.value)
    for variable, one, other in zip(generator.trainable_variables, found, gradients()):
        assert (one is None) == (other is None), variable.name
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_generator_learns_the_same():
    images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1, 1)
    found = []
    for recompute in (False, True):
        settings = Settings.of(ngf=8, generator_blocks=1, recompute_blocks=recompute)
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
    with pytest.raises(InputError, match="--recompute_blocks must be false unless --generator=resnet"):
        Settings.of(recompute_blocks=True, **other)
