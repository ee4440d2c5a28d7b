"""Weighted PatchNCE of ODCR: hand-computed cases, plain PatchNCE as a special case, which roles of w_h are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.losses import patch_nce
from cut_tf.losses.weighted_patch_nce import (
    FORMS,
    ROLES,
    SCALES,
    channel_weights,
    classifier_loss,
    decoupled_patch_nce,
    weighted_patch_nce,
)

TEMPERATURE = 0.5


def _units(shape: tuple[int, ...], seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def _by_loops(query, key, clear, w_h, w_c, roles, scale, form) -> np.ndarray:
    """Eq. 11-14 term by term in float64."""

    def term(weights, z1, z2):
        if not weights.any():
            return 0.0
        weighted = weights * z2
        if scale == "normalise_after":
            weighted = weighted / np.linalg.norm(weighted)
        return math.exp(float(weighted @ z1) / TEMPERATURE)

    losses = np.zeros(query.shape[:2])
    ones = np.ones(query.shape[-1])
    for b in range(query.shape[0]):
        pull, push = (w_h[b], 1 - w_h[b]) if roles == "printed" else (1 - w_h[b], w_h[b])
        for p in range(query.shape[1]):
            z = query[b, p].astype(np.float64)
            pulled, pushed = term(pull, z, key[b, p]), term(push, z, key[b, p])
            others = sum(term(ones, z, key[b, n]) if n != p else 0.0 for n in range(key.shape[1]))
            cleared = [] if clear is None else [term(w_c[b], z, patch) for patch in clear[b]]
            strange = [] if clear is None else [term(1 - w_c[b], z, patch) for patch in clear[b]]
            if form == "printed" or clear is None:
                positive, negative = pulled + sum(cleared), pushed + others + sum(strange)
                losses[b, p] = -math.log(positive / (positive + negative))
            else:
                clear_mean = sum(cleared) / len(cleared)
                hazy_mean = sum(term(push, z, patch) for patch in key[b]) / key.shape[1]
                losses[b, p] = (-math.log(pulled / (pulled + others + sum(strange)))
                                - math.log(clear_mean / (clear_mean + hazy_mean)))
    return losses


@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_clear", [True, False])
def test_equals_the_equations_term_by_term(roles, scale, form, with_clear):
    rng = np.random.default_rng(0)
    query, key = _units((2, 3, 5), 1), _units((2, 3, 5), 2)
    clear = _units((2, 4, 5), 3) if with_clear else None
    w_h, w_c = rng.uniform(size=(2, 5)).astype(np.float32), rng.uniform(size=(2, 5)).astype(np.float32)
    found = weighted_patch_nce(query, key, clear, w_h, w_c if with_clear else None, TEMPERATURE, roles, scale, form)
    np.testing.assert_allclose(found, _by_loops(query, key, clear, w_h, w_c, roles, scale, form), rtol=1e-5)


def test_hand_computed_case():
    """Two channels, two patches: z = (1, 0), key (1, 0) and (0, 1), clear (1, 0); w_h = (0.5, 0), w_c = (1, 0)."""
    query = tf.constant([[[1.0, 0.0], [1.0, 0.0]]])
    key = tf.constant([[[1.0, 0.0], [0.0, 1.0]]])
    clear = tf.constant([[[1.0, 0.0]]])
    found = weighted_patch_nce(query, key, clear, tf.constant([[0.5, 0.0]]), tf.constant([[1.0, 0.0]]), 1.0, "printed",
                               "max1", "printed").numpy()[0, 0]
    # P = e^0.5 + e^1; N = e^0.5 (1 - w_h) + e^0 (the other key) + e^0 (1 - w_c = (0, 1) times z).
    positive, negative = math.exp(0.5) + math.e, math.exp(0.5) + 1.0 + 1.0
    assert found == pytest.approx(-math.log(positive / (positive + negative)), rel=1e-6)


@pytest.mark.parametrize("roles, weight", [("printed", 1.0), ("swapped", 0.0)])
def test_without_weights_and_clear_patches_it_is_patch_nce(roles, weight):
    query, key = _units((3, 8, 6), 1), _units((3, 8, 6), 2)
    found = weighted_patch_nce(query, key, None, tf.fill([3, 6], weight), None, 0.07, roles, "max1")
    expected = patch_nce.patch_nce(tf.constant(query), tf.constant(key), 0.07)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("roles", ROLES)
def test_images_do_not_see_each_other(roles):
    query, key, clear = _units((3, 5, 4), 1), _units((3, 5, 4), 2), _units((3, 6, 4), 3)
    weights = np.random.default_rng(0).uniform(size=(3, 4)).astype(np.float32)
    together = weighted_patch_nce(query, key, clear, weights, weights[::-1].copy(), 0.07, roles, "max1")
    for index in range(3):
        one = slice(index, index + 1)
        alone = weighted_patch_nce(query[one], key[one], clear[one], weights[one], weights[::-1][one], 0.07, roles,
                                   "max1")
        np.testing.assert_allclose(together[index], alone[0], rtol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e4])
def test_values_and_gradients_are_finite_for_extreme_features(scale, size):
    query = tf.constant(_units((1, 4, 6), 1)) * size
    contributions = tf.constant(np.random.default_rng(0).normal(size=(1, 6)) * size, tf.float32)
    weights = channel_weights(contributions, scale)
    with tf.GradientTape() as tape:
        tape.watch(query)
        loss = tf.reduce_sum(weighted_patch_nce(query, query, query, weights, weights, 0.07, "swapped", scale))
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, query)).all()


def test_haze_weight_scales_the_second_question():
    query, key, clear = _units((2, 3, 5), 1), _units((2, 3, 5), 2), _units((2, 4, 5), 3)
    weights = np.random.default_rng(0).uniform(size=(2, 5)).astype(np.float32)
    none, one, three = (weighted_patch_nce(query, key, clear, weights, weights, haze_weight=weight).numpy()
                        for weight in (0.0, 1.0, 3.0))
    assert (one - none).min() >= 0 and (one - none).max() > 0.1
    np.testing.assert_allclose(three - none, 3.0 * (one - none), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("roles", ROLES)
def test_the_decoupled_form_is_patch_nce_of_the_contents_and_the_split_forms_haze_question(roles):
    """The haze question by what the split form adds for one more unit of its weight."""
    query, key, clear = _units((2, 3, 5), 1), _units((2, 3, 5), 2), _units((2, 4, 5), 3)
    contents = _units((2, 3, 7), 4), _units((2, 3, 7), 5)
    weights = [np.random.default_rng(seed).uniform(0.1, 0.9, (2, 5)).astype(np.float32) for seed in (6, 7)]
    common = (query, key, clear, *weights, TEMPERATURE, roles, "max1")
    haze = weighted_patch_nce(*common, "split", 1.0) - weighted_patch_nce(*common, "split", 0.0)
    content = patch_nce.patch_nce(*contents, TEMPERATURE)
    np.testing.assert_allclose(decoupled_patch_nce(*contents, *common, 3.0), content + 3.0 * haze, rtol=1e-4)
    without = decoupled_patch_nce(*contents, query, key, None, weights[0], None, TEMPERATURE, roles)
    np.testing.assert_allclose(without, content, rtol=1e-5)


def test_the_decoupled_form_by_hand():
    """Content: the own place at cosine 1 against one other at 0. Haze: clear and hazy patches at the same cosine."""
    unit = np.eye(2, dtype=np.float32)[None]
    ones = np.ones((1, 2), np.float32)
    # Own place again among the negatives, at cosine -10, adds exp(-20).
    content = math.log((math.exp(2.0) + 1.0 + math.exp(-20.0)) / math.exp(2.0))
    found = decoupled_patch_nce(unit, unit, unit, unit, unit, ones, ones, TEMPERATURE)
    np.testing.assert_allclose(found, np.full((1, 2), content + math.log(2.0)), rtol=1e-5)


def test_keys_clear_patches_and_weights_take_no_gradient():
    query, key, clear = (tf.constant(_units((1, 4, 6), seed)) for seed in (1, 2, 3))
    contributions = tf.constant(np.random.default_rng(0).normal(size=(1, 6)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([query, key, clear, contributions])
        weights = channel_weights(contributions, "max1")
        loss = tf.reduce_sum(weighted_patch_nce(query, key, clear, weights, weights))
    assert [tape.gradient(loss, value) for value in (key, clear, contributions)] == [None] * 3
    assert float(tf.norm(tape.gradient(loss, query))) > 0


def test_channel_weights_by_hand():
    contributions = tf.constant([[0.0, math.log(2.0), -math.log(4.0)]])
    np.testing.assert_allclose(channel_weights(contributions, "softmax"), [[1 / 7, 2 / 7, 4 / 7]], rtol=1e-6)
    np.testing.assert_allclose(channel_weights(contributions, "max1"), [[0.25, 0.5, 1.0]], rtol=1e-6)
    size = np.abs(contributions.numpy()[0])
    expected = 1 / (1 + np.exp(-4 * ((size - size.mean()) / size.std() - 1)))
    for scale in ("sigmoid", "normalise_after"):
        np.testing.assert_allclose(channel_weights(contributions, scale)[0], expected, rtol=1e-5)


def test_softmax_weights_of_many_channels_say_nothing():
    """The trap of the printed formula: with 256 channels all weights are nearly 0."""
    contributions = tf.constant(np.random.default_rng(0).normal(size=(1, 256)), tf.float32)
    assert float(tf.reduce_max(channel_weights(contributions, "softmax"))) < 0.1
    assert float(tf.reduce_max(channel_weights(contributions, "max1"))) == 1.0


def test_unknown_names_are_refused():
    query = _units((1, 2, 3), 0)
    with pytest.raises(ValueError, match="roles must be one of printed, swapped, found 'other'"):
        weighted_patch_nce(query, query, None, query[:, 0], None, roles="other")
    with pytest.raises(ValueError, match="form must be one of printed, split, found 'other'"):
        weighted_patch_nce(query, query, None, query[:, 0], None, form="other")
    with pytest.raises(ValueError, match="scale must be one of softmax, .*, found 'none'"):
        channel_weights(tf.zeros([1, 3]), "none")


def test_classifier_loss_by_hand_and_its_sign():
    logits = tf.constant([[2.0, -1.0]])
    log_sigmoid = lambda value: math.log(1 / (1 + math.exp(-value)))  # noqa: E731
    assert float(classifier_loss(logits, True)[0]) == pytest.approx(-log_sigmoid(2.0) - log_sigmoid(1.0), rel=1e-6)
    assert float(classifier_loss(logits, False)[0]) == pytest.approx(-log_sigmoid(-2.0) - log_sigmoid(-1.0), rel=1e-6)
    assert float(classifier_loss(tf.constant([[9.0, -9.0]]), True)[0]) < 1e-3


def _descend(roles: str, form: str) -> tuple[float, float]:
    """Planted channels: half tell the content of a patch, half its haze. Gradient descent on the output alone.

    Returns how far the output's haze channels went from the hazy (0) to the clear value (1), and the mean cosine of its
    content channels with those of the hazy patch at the same place.
    """
    rng = np.random.default_rng(5)
    batch, patches, half = 2, 24, 8
    content = rng.normal(size=(batch, patches, half))
    clear_content = rng.normal(size=(batch, patches, half))
    hazy_sign, clear_sign = np.ones(half), -np.ones(half)
    hazy = np.concatenate([content, np.broadcast_to(hazy_sign, content.shape)], -1)
    clear = np.concatenate([clear_content, np.broadcast_to(clear_sign, content.shape)], -1)
    mask = np.concatenate([np.zeros(half), np.ones(half)])
    weights = tf.constant(np.broadcast_to(mask, (batch, 2 * half)), tf.float32)
    key, clear = (tf.math.l2_normalize(tf.constant(part, tf.float32), -1) for part in (hazy, clear))
    # Starts half way between haze and clearness, its content half forgotten.
    start = np.concatenate([0.5 * content + rng.normal(size=content.shape), 0.05 * np.ones(content.shape)], -1)
    output = tf.Variable(start, dtype=tf.float32)
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weighted_patch_nce(tf.math.l2_normalize(output, -1), key, clear, weights, weights,
                                                     0.07, roles, "max1", form))
        output.assign_sub(3.0 * tape.gradient(loss, output))
    found = output.numpy() / np.linalg.norm(output.numpy(), axis=-1, keepdims=True)
    along = (found[..., half:] @ hazy_sign) / np.linalg.norm(found[..., half:], axis=-1) / math.sqrt(half)
    same = np.sum(found[..., :half] * content, -1)
    same = same / np.linalg.norm(found[..., :half], axis=-1) / np.linalg.norm(content, axis=-1)
    return float((1 - along.mean()) / 2), float(same.mean())


def test_planted_channels_swapped_roles_clear_the_haze_and_keep_the_content():
    cleared, kept = _descend("swapped", "split")
    assert cleared > 0.95 and kept > 0.9


@pytest.mark.slow
def test_planted_channels_printed_roles_do_the_opposite():
    """w_h holds the haze channels to the hazy input, and the content is free to drift."""
    cleared, kept = _descend("printed", "split")
    assert cleared < 0.6 and kept < 0.2


@pytest.mark.slow
def test_planted_channels_the_printed_fraction_forgets_the_content():
    """Once the output looks clear, the many clear patches make the fraction 1, whatever the content."""
    cleared, kept = _descend("swapped", "printed")
    assert cleared > 0.95 and kept < 0.7
    assert _descend("printed", "printed")[1] < kept - 0.1
