"""The gradient penalties of critics whose gradient is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.losses.gradient_penalty import gradient_penalty, r1_penalty

_SHAPE = (3, 4, 5, 3)


def _images(seed: int) -> tf.Tensor:
    return tf.random.stateless_uniform(_SHAPE, [seed, 0], -1, 1)


def _mix(*values: float) -> tf.Tensor:
    return tf.reshape(tf.constant(values, tf.float32), [-1, 1, 1, 1])


@pytest.mark.parametrize("scale", [0.02, 0.2, 2.0])
def test_linear_critic_and_the_gradient_of_its_weight(scale):
    """D(x) = sum w x has gradient w everywhere: penalty (|w| - 1)^2, whose own gradient is 2 (|w| - 1) w / |w|."""
    weight = tf.Variable(np.random.default_rng(0).normal(size=_SHAPE[1:]) * scale, dtype=tf.float32)
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(lambda pictures: tf.reduce_sum(weight * pictures, [1, 2, 3]), _images(1), _images(2),
                                   _mix(0.1, 0.5, 0.9))
    exact = np.asarray(weight, np.float64)
    length = np.linalg.norm(exact)
    assert penalty.shape == []
    assert float(penalty) == pytest.approx((length - 1) ** 2, rel=1e-4)
    np.testing.assert_allclose(tape.gradient(penalty, weight), 2 * (length - 1) * exact / length, rtol=1e-3, atol=1e-5)


def test_score_maps_are_summed():
    """Four scores of w x each have the summed gradient 4 w."""
    weight = tf.fill(_SHAPE[1:], 0.1)

    def scores_of(pictures: tf.Tensor) -> tf.Tensor:
        return tf.tile(tf.reduce_sum(weight * pictures, [1, 2, 3], keepdims=True), [1, 2, 2, 1])

    length = 4 * 0.1 * np.sqrt(np.prod(_SHAPE[1:]))
    found = gradient_penalty(scores_of, _images(1), _images(2), _mix(0.1, 0.5, 0.9))
    assert float(found) == pytest.approx((length - 1) ** 2, rel=1e-5)


def test_taken_between_real_and_fake_for_each_image():
    """D(x) = |x|^2 / 2 has gradient x, so the penalty shows where it was taken: mix 0 is fake, 1 is real."""
    real, fake = _images(1), _images(2)
    mix = np.array([0.0, 0.25, 1.0])
    between = mix[:, None, None, None] * np.asarray(real) + (1 - mix)[:, None, None, None] * np.asarray(fake)
    lengths = np.linalg.norm(between.reshape(3, -1), axis=1)
    found = gradient_penalty(lambda pictures: tf.reduce_sum(tf.square(pictures), [1, 2, 3]) / 2, real, fake, _mix(*mix))
    assert float(found) == pytest.approx(np.mean((lengths - 1) ** 2), rel=1e-5)


def test_the_fake_takes_no_gradient():
    real, fake = _images(1), _images(2)
    with tf.GradientTape() as tape:
        tape.watch(fake)
        penalty = gradient_penalty(lambda pictures: tf.reduce_sum(tf.square(pictures), [1, 2, 3]), real, fake,
                                   _mix(0.1, 0.5, 0.9))
    assert tape.gradient(penalty, fake) is None


def test_a_constant_critic_has_a_finite_penalty_and_gradient():
    weight = tf.Variable(tf.zeros(_SHAPE[1:]))
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(lambda pictures: tf.reduce_sum(weight * pictures, [1, 2, 3]), _images(1), _images(2),
                                   _mix(0.1, 0.5, 0.9))
    assert float(penalty) == pytest.approx(1.0, rel=1e-5)
    assert np.isfinite(np.asarray(tape.gradient(penalty, weight))).all()


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_r1_of_a_linear_critic_and_its_gradient(scale):
    """D(x) = sum w x: the gradient is w for every image, R1 is |w|^2 / 2, whose own gradient is w."""
    weight = tf.Variable(np.random.default_rng(0).normal(size=_SHAPE[1:]) * scale, dtype=tf.float32)
    with tf.GradientTape() as tape:
        scores, penalty = r1_penalty(lambda pictures: tf.reduce_sum(weight * pictures, [1, 2, 3]), _images(1))
    exact = np.asarray(weight, np.float64)
    np.testing.assert_allclose(scores, (exact * np.asarray(_images(1))).sum((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert float(penalty) == pytest.approx((exact**2).sum() / 2, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(penalty, weight), exact, rtol=1e-4)


def test_r1_is_the_mean_over_images_taken_at_the_real_ones():
    """D(x) = sum x^3 / 3 has gradient x^2."""
    real = _images(1)
    _, penalty = r1_penalty(lambda pictures: tf.reduce_sum(pictures**3, [1, 2, 3]) / 3.0, real)
    assert float(penalty) == pytest.approx((np.asarray(real, np.float64)**4).sum() / len(real) / 2, rel=1e-5)
