"""Steps with and without the faster forms of layers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from method_steps import numbers

from cut_tf import compat
from cut_tf.layers import kernels, padding
from cut_tf.layers.fast import few_filters, winograd
from cut_tf.methods import build_method
from cut_tf.networks.generators import resnet
from cut_tf.settings import Settings


@pytest.mark.parametrize("plain", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_setting_chooses_the_form_of_layers_in_a_step(plain, tiny_settings, monkeypatch):
    calls = []
    for module, name in ((padding, "_shown"), (tf.raw_ops, "FusedBatchNormGradV3")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, name=name, original=original, **named: calls.append(
            name) or original(*given, **named))
    method = build_method(tiny_settings(plain_kernels=plain, recompute_blocks=True))
    method.compile()
    calls.clear()
    picture = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], -1, 1)
    tf.function(method.train_step).get_concrete_function({"source": picture, "target": picture})
    assert set(calls) == (set() if plain else {"_shown", "FusedBatchNormGradV3"})
    assert kernels.are_fast()


def _paper_size_step(plain: bool) -> tuple[dict[str, float], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The first step of CUT on noise of 256 px: its terms, gradients and new weights, without biases before norms."""
    method = build_method(Settings.of(dataset="scenes", plain_kernels=plain))
    method.compile()
    pictures = {name: tf.random.stateless_uniform([1, 256, 256, 3], [seed, 0], -1, 1)
                for seed, name in enumerate(("source", "target"))}
    terms = numbers(tf.function(method.train_step)(pictures))
    gradients, weights = {}, {}
    for network, optimizer in method.optimizers_by_network.items():
        of_variable = {id(compat.raw_variable(variable)): variable
                       for variable in method.networks[network].trainable_variables}
        for name, weight in compat.named_weights(method.networks[network]).items():
            # Adam's running mean starts at 0, and takes half of each gradient.
            gradients[f"{network}/{name}"] = 2.0 * compat.adam_slots(optimizer, of_variable[id(weight)])[0].numpy()
            weights[f"{network}/{name}"] = weight.numpy()
    return terms, gradients, weights


def _softened(norm: object, pixels: tf.Tensor, training: bool | None) -> tf.Tensor:
    """Replaces norm and ReLU by a ReLU with a round corner instead of a kink."""
    return tf.nn.softplus(4.0 * norm(pixels, training=training)) / 4.0


def _same_numbers(found: np.ndarray, expected: np.ndarray, decided: np.ndarray, name: str) -> None:
    """Within 1e-4 of the largest, where `decided`."""
    np.testing.assert_allclose(found[decided], expected[decided], rtol=0, atol=1e-4 * np.abs(expected).max(),
                               err_msg=name)


@pytest.mark.slow  # two steps of the paper's networks: a minute and several GiB
@pytest.mark.parametrize("kinks", [True, False])
def test_a_step_of_the_papers_size_is_that_of_plain_kernels(kinks, monkeypatch):
    """Losses, gradients and updated weights within 1e-4 of the largest; with kinks, not those of all networks.

    Rounding moves some inputs of the generator's ReLUs from one side of 0 to the other, where the slope jumps. That
    changes its gradients, and those of the projector's first layers, by up to 3 % of the largest. It is the ReLUs that
    do it: with round corners in their place, all gradients agree. Adam's first step depends on a gradient's sign
    alone, so weights are compared where the gradient is no rounding error.
    """
    if not kinks:
        monkeypatch.setattr(resnet, "norm_relu", _softened)
    calls = []
    for module, name in ((winograd, "convolution_3x3"), (few_filters, "convolution")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, name=name, original=original, **named: calls.append(
            name) or original(*given, **named))
    terms, gradients, weights = _paper_size_step(False)
    assert set(calls) == {"convolution_3x3", "convolution"}
    calls.clear()
    expected_terms, expected_gradients, expected = _paper_size_step(True)
    assert not calls and terms.keys() == expected_terms.keys() and weights.keys() == expected.keys()
    for name, value in expected_terms.items():
        if name.startswith("loss/"):
            assert terms[name] == pytest.approx(value, rel=1e-4), name
    # Not the biases before a norm, which takes them away.
    compared = [name for name, gradient in expected_gradients.items() if np.abs(gradient).max() > 1e-7 and (
        "kernel" in name or not name.startswith("generator") or "output" in name)]
    if kinks:
        compared = [name for name in compared if name.startswith("discriminator") or "_dense2/" in name]
    # The discriminator's five kernels, its first and last bias; the projector's two or four weights for each of five
    # features; the generator's 24 kernels and its last bias.
    assert len(compared) == 7 + (10 if kinks else 20 + 24 + 1), compared
    for name in compared:
        gradient = expected_gradients[name]
        _same_numbers(gradients[name], gradient, np.ones(gradient.shape, bool), name)
        _same_numbers(weights[name], expected[name], np.abs(gradient) > 1e-2 * np.abs(gradient).max(), name)
