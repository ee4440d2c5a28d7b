"""Adversarial losses in closed form: the same cases for every mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.losses import adversarial
from tools.check_parity.checks import check_file

_SHAPES = [(4,), (4, 1), (4, 3, 5, 1)]


def _softplus(value: float) -> float:
    return math.log1p(math.exp(-abs(value))) + max(value, 0.0)


_CLOSED_FORMS = {
    "lsgan": (lambda score: (score - 1) ** 2, lambda score: score**2),
    "vanilla": (lambda score: _softplus(-score), _softplus),
    "nonsaturating": (lambda score: _softplus(-score), _softplus),
    "wgangp": (lambda score: -score, lambda score: score),
}
_SLOPES = {
    "lsgan": (lambda score: 2 * (score - 1), lambda score: 2 * score),
    "vanilla": (lambda score: -1 / (1 + math.exp(score)), lambda score: 1 / (1 + math.exp(-score))),
    "nonsaturating": (lambda score: -1 / (1 + math.exp(score)), lambda score: 1 / (1 + math.exp(-score))),
    "wgangp": (lambda score: -1.0, lambda score: 1.0),
}


def _scores(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * 3


def test_equals_the_official_code(testdata):
    row = check_file(testdata / "golden" / "ganloss_r1.npz")
    assert not row.failures
    assert row.compared == 47


def test_every_mode_is_covered_here():
    assert set(_CLOSED_FORMS) == set(adversarial.GAN_LOSSES)


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("mode", _CLOSED_FORMS)
def test_closed_form_per_image(mode, shape):
    scores = _scores(shape)
    for function, closed_form in zip(adversarial.GAN_LOSSES[mode], _CLOSED_FORMS[mode]):
        found = function(tf.constant(scores, tf.float32))
        expected = np.vectorize(closed_form)(scores).reshape(4, -1).mean(1)
        assert found.shape == [4]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", _SLOPES)
def test_gradient(mode):
    scores = _scores((3, 2, 2, 1))
    for function, slope in zip(adversarial.GAN_LOSSES[mode], _SLOPES[mode]):
        tensor = tf.constant(scores, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            loss = tf.reduce_mean(function(tensor))
        expected = np.vectorize(slope)(scores) / scores.size
        np.testing.assert_allclose(tape.gradient(loss, tensor), expected, rtol=1e-4, atol=1e-8)


def test_by_hand():
    scores = tf.constant([[2.0], [0.0]])
    real, fake = adversarial.adversarial_discriminator_loss("lsgan", scores, scores)
    assert (float(real), float(fake)) == (1.0, 2.0)  # ((2 - 1)^2 + (0 - 1)^2) / 2 and (2^2 + 0) / 2
    real, fake = adversarial.adversarial_discriminator_loss("vanilla", scores, scores)
    assert float(real) == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    assert float(fake) == pytest.approx((math.log(1 + math.exp(2)) + math.log(2)) / 2)


@pytest.mark.parametrize("mode", _CLOSED_FORMS)
def test_discriminator_gets_the_means_of_both_sides_and_the_generator_wants_to_look_real(mode):
    real_scores, fake_scores = _scores((2, 3, 4, 1), 1), _scores((2, 3, 4, 1), 2)
    real_form, fake_form = _CLOSED_FORMS[mode]
    real, fake = adversarial.adversarial_discriminator_loss(
        mode, tf.constant(real_scores, tf.float32), tf.constant(fake_scores, tf.float32))
    assert real.shape == fake.shape == []
    assert float(real) == pytest.approx(np.vectorize(real_form)(real_scores).mean(), rel=1e-5)
    assert float(fake) == pytest.approx(np.vectorize(fake_form)(fake_scores).mean(), rel=1e-5)
    generator = adversarial.adversarial_generator_loss(mode, tf.constant(fake_scores, tf.float32))
    assert float(generator) == pytest.approx(np.vectorize(real_form)(fake_scores).mean(), rel=1e-5)


@pytest.mark.parametrize("mode", ["vanilla", "nonsaturating"])
def test_huge_scores_stay_finite(mode):
    scores = tf.constant([1e4, -1e4])
    np.testing.assert_allclose(adversarial.GAN_LOSSES[mode].real(scores), [0.0, 1e4])
    np.testing.assert_allclose(adversarial.GAN_LOSSES[mode].fake(scores), [1e4, 0.0])


def test_unknown_mode_lists_the_known_ones():
    known = "lsgan, vanilla, nonsaturating, wgangp, found 'hinge'"
    with pytest.raises(ValueError, match=known):
        adversarial.adversarial_generator_loss("hinge", tf.zeros([1]))
    with pytest.raises(ValueError, match=known):
        adversarial.adversarial_discriminator_loss("hinge", tf.zeros([1]), tf.zeros([1]))
