"""CycleGAN: terms, order of updates and gradients by hand, joint passes, running means."""

from __future__ import annotations

import gain_networks
import method_steps as steps
import numpy as np
import pytest
from gain_networks import discriminator_loss, gan_loss, ramp

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method

_GAINS = {"generator": 0.8123, "backward_generator": 1.0717, "discriminator": 0.6, "backward_discriminator": 0.4}


def _terms(gains: dict[str, float], x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Eq. 1-3 and the identity term, with weights 0.7, 3 and 3 * 0.4."""
    def forward(images: np.ndarray) -> np.ndarray:
        return gains["generator"] * ramp(images) * images

    def backward(images: np.ndarray) -> np.ndarray:
        return gains["backward_generator"] * ramp(images) * images

    return {"loss/gan": 0.7 * gan_loss(gains["discriminator"], forward(x)),
            "loss/backward_gan": 0.7 * gan_loss(gains["backward_discriminator"], backward(y)),
            "loss/cycle_source": 3.0 * np.abs(backward(forward(x)) - x).mean(),
            "loss/cycle_target": 3.0 * np.abs(forward(backward(y)) - y).mean(),
            "loss/identity_source": 1.2 * np.abs(backward(x) - x).mean(),
            "loss/identity_target": 1.2 * np.abs(forward(y) - y).mean()}


@pytest.mark.parametrize("overrides", [{}, {"preprocess": "none", "pool_images": 0}], ids=["together", "one by one"])
def test_terms_and_updates_by_hand(tiny_settings, monkeypatch, overrides):
    """All four updates start from the networks before the step: generators see the old discriminators."""
    method = gain_networks.build(monkeypatch, tiny_settings(
        method="cyclegan", gan_weight=0.7, cycle_weight=3.0, cycle_identity_weight=0.4, ema_decay=0.0, **overrides),
        _GAINS)
    batch = steps.batch()
    if overrides:  # sizes may differ
        batch["target"] = batch["target"][:, 3:, 5:]
    x, y = (batch[name].numpy().astype(np.float64) for name in ("source", "target"))
    terms, after = steps.numbers(method.train_step(batch)), gain_networks.gains_of(method)
    expected = _terms(_GAINS, x, y)
    expected["loss/generator"] = sum(expected.values())
    fakes = {"discriminator": (y, _GAINS["generator"] * ramp(x) * x),
             "backward_discriminator": (x, _GAINS["backward_generator"] * ramp(y) * y)}
    for name, (real, fake) in fakes.items():
        expected[f"loss/{name}"] = discriminator_loss(_GAINS[name], real, fake)
        gain_networks.check_update(_GAINS, after, name, lambda gains, name=name, real=real, fake=fake:
                                   discriminator_loss(gains[name], real, fake))
    for name in ("generator", "backward_generator"):
        gain_networks.check_update(_GAINS, after, name, lambda gains: sum(_terms(gains, x, y).values()))
    assert {name: terms[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("overrides, absent", [({"cycle_identity_weight": 0.0}, ["identity"]),
                                               ({"cycle_weight": 0.0}, ["identity", "cycle"])], ids=str)
def test_terms_without_weight_are_left_out(tiny_settings, monkeypatch, overrides, absent):
    method = gain_networks.build(monkeypatch, tiny_settings(method="cyclegan", ema_decay=0.0, **overrides), _GAINS)
    terms = steps.numbers(method.train_step(steps.batch()))
    assert [name for name in terms if any(name.startswith(f"loss/{word}_") for word in absent)] == []
    assert terms["loss/generator"] == pytest.approx(sum(
        terms.get(name, 0.0) for name in _terms(_GAINS, np.zeros([1, 4, 4, 3]), np.zeros([1, 4, 4, 3]))), rel=1e-5)


def test_networks_differ_and_the_running_means_are_those_of_the_forward_generator(tiny_settings):
    method = build_method(tiny_settings(method="cyclegan", pool_images=0, generator="mobile", generator_norm="none"))
    weights = steps.weights(method)
    for one, other in (("generator", "backward_generator"), ("discriminator", "backward_discriminator")):
        assert weights[one].shape == weights[other].shape and np.abs(weights[one] - weights[other]).max() > 1e-3
    means = compat.named_weights(method.ema_generator)
    for name, weight in compat.named_weights(method.generator).items():
        np.testing.assert_array_equal(means[name].numpy(), weight.numpy())
    assert method.inference_generator is method.ema_generator
    assert not [name for name in method.state() if name.startswith("pool/")]


def test_batch_norm_does_not_let_the_parts_of_a_pass_see_each_other(tiny_settings, monkeypatch):
    """As in the official code, a generator sees the images to translate and those to keep one after the other."""
    method = gain_networks.build(monkeypatch, tiny_settings(method="cyclegan", ema_decay=0.0), _GAINS)
    monkeypatch.setattr(method.networks["generator"], "mixes_batch", True)
    seen, run = [], method.networks["generator"].call
    monkeypatch.setattr(method.networks["generator"], "call", lambda images, training=None: seen.append(
        images.shape[0]) or run(images))
    method.train_step(steps.batch())
    assert seen == [2, 2, 2]


def test_a_pool_needs_images_of_one_size(tiny_settings):
    with pytest.raises(InputError, match="--pool_images must be 0 with --preprocess=none, .* found 50"):
        build_method(tiny_settings(method="cyclegan", preprocess="none"))
