"""PatchNCE against numbers worked out by hand, and against a NumPy float64 twin with finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.losses import patch_nce
from tools.check_parity.checks import check_file

_TAU = 0.07


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _tensors(*arrays: np.ndarray) -> list[tf.Tensor]:
    return [tf.constant(array, tf.float32) for array in arrays]


def _twin(query: np.ndarray, key: np.ndarray, temperature: float, negatives: str) -> np.ndarray:
    """Loss [B, P] written as loops over queries; negatives in no particular order."""
    losses = np.zeros(query.shape[:2])
    for image in range(query.shape[0]):
        for place in range(query.shape[1]):
            images = [image] if negatives == "internal" else range(query.shape[0])
            similarities = [query[image, place] @ key[image, place]]
            for other in images:
                for location in range(query.shape[1]):
                    own = (other, location) == (image, place)
                    similarities.append(-10.0 if own else query[image, place] @ key[other, location])
            exponents = np.array(similarities) / temperature
            largest = exponents.max()
            losses[image, place] = largest + np.log(np.exp(exponents - largest).sum()) - exponents[0]
    return losses


def _gradient_of_mean(function: Callable[[np.ndarray], np.ndarray], query: np.ndarray) -> np.ndarray:
    """Central differences in float64."""
    gradient = np.zeros_like(query)
    for place in np.ndindex(*query.shape):
        step = np.zeros_like(query)
        step[place] = 1e-5
        gradient[place] = (function(query + step).mean() - function(query - step).mean()) / 2e-5
    return gradient


def test_equals_the_official_code(testdata):
    row = check_file(testdata / "golden" / "patchnce.npz")
    assert row.status == "ok", row.failures
    assert row.compared == 16


def test_two_patches_by_hand():
    query = [[[1.0, 0.0], [0.0, 1.0]]]
    key = [[[0.6, 0.8], [0.8, -0.6]]]
    # Query 1: positive 0.6, the other location 0.8. Query 2: positive -0.6, the other location 0.8. Temperature 0.5.
    first = math.log(math.exp(0.6 / 0.5) + math.exp(0.8 / 0.5) + math.exp(-10 / 0.5)) - 0.6 / 0.5
    second = math.log(math.exp(-0.6 / 0.5) + math.exp(0.8 / 0.5) + math.exp(-10 / 0.5)) + 0.6 / 0.5
    for negatives in ("internal", "minibatch"):
        loss = patch_nce.patch_nce(*_tensors(query, key), 0.5, negatives)
        assert loss.shape == [1, 2] and loss.dtype == tf.float32
        np.testing.assert_allclose(loss, [[first, second]], rtol=1e-6)


def test_own_location_is_set_before_the_division_by_the_temperature():
    """With a huge temperature the own location still counts: exp(-10 / 10) against exp(1 / 10)."""
    loss = patch_nce.patch_nce(*_tensors([[[1.0, 0.0]]], [[[1.0, 0.0]]]), 10.0)
    np.testing.assert_allclose(loss, [[math.log(math.exp(0.1) + math.exp(-1.0)) - 0.1]], rtol=1e-6)


@pytest.mark.parametrize("negatives", ["internal", "minibatch"])
@pytest.mark.parametrize("batch, patches", [(1, 6), (3, 4), (2, 1)])
def test_equals_a_loop(negatives, batch, patches):
    rng = np.random.default_rng(batch)
    query, key = _unit(rng, batch, patches, 5), _unit(rng, batch, patches, 5)
    loss = patch_nce.patch_nce(*_tensors(query, key), _TAU, negatives)
    np.testing.assert_allclose(loss, _twin(query, key, _TAU, negatives), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("negatives", ["internal", "minibatch"])
def test_gradient_of_the_query_equals_finite_differences(negatives):
    rng = np.random.default_rng(0)
    query, key = _unit(rng, 2, 4, 3), _unit(rng, 2, 4, 3)
    tensor, key_tensor = _tensors(query, key)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_mean(patch_nce.patch_nce(tensor, key_tensor, 0.2, negatives))
    expected = _gradient_of_mean(lambda values: _twin(values, key, 0.2, negatives), query)
    np.testing.assert_allclose(tape.gradient(loss, tensor), expected, atol=1e-5)


def _all_logits(query: tf.Tensor, key: tf.Tensor) -> list[tf.Tensor]:
    pool = tf.reshape(key, [-1, key.shape[-1]])
    present = tf.ones([len(pool)], tf.bool)
    return [patch_nce.internal_logits(query, key), patch_nce.internal_logits(query, key, num_negatives=1),
            patch_nce.minibatch_logits(query, key), patch_nce.minibatch_logits(query, key, pool=pool),
            patch_nce.external_logits(query, key, pool, present)]


def test_no_gradient_into_keys():
    rng = np.random.default_rng(0)
    query, key = _tensors(_unit(rng, 2, 4, 3), _unit(rng, 2, 4, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([query, key])
        losses = [tf.reduce_sum(patch_nce.loss_from_logits(logits)) for logits in _all_logits(query, key)]
    for loss in losses:
        assert tape.gradient(loss, key) is None
        assert float(tf.reduce_max(tf.abs(tape.gradient(loss, query)))) > 1e-3


def test_internal_negatives_do_not_depend_on_the_batch():
    rng = np.random.default_rng(1)
    query, key = _tensors(_unit(rng, 3, 8, 5), _unit(rng, 3, 8, 5))
    whole = patch_nce.patch_nce(query, key)
    single = tf.concat([patch_nce.patch_nce(query[image:image + 1], key[image:image + 1]) for image in range(3)], 0)
    np.testing.assert_allclose(whole, single, rtol=1e-5)
    in_minibatch = patch_nce.patch_nce(query, key, negatives="minibatch")
    assert float(tf.reduce_min(in_minibatch - whole)) > 0  # more negatives, larger loss


def test_two_replicas_with_the_pool_of_both_equal_one():
    rng = np.random.default_rng(2)
    query, key = _tensors(_unit(rng, 4, 3, 5), _unit(rng, 4, 3, 5))
    pool = tf.reshape(key, [12, 5])
    whole = patch_nce.minibatch_logits(query, key, 0.1)
    halves = [patch_nce.minibatch_logits(query[:2], key[:2], 0.1, pool, 0),
              patch_nce.minibatch_logits(query[2:], key[2:], 0.1, pool, tf.constant(6))]
    assert whole.shape == [4, 3, 13]
    np.testing.assert_allclose(tf.concat(halves, 0), whole, rtol=1e-5)


@pytest.mark.parametrize("kept", [1, 3])
def test_only_the_next_negatives_in_cyclic_order_count(kept):
    rng = np.random.default_rng(3)
    query, key = _unit(rng, 2, 5, 4), _unit(rng, 2, 5, 4)
    expected = np.zeros((2, 5))
    for image in range(2):
        for place in range(5):
            similarities = [query[image, place] @ key[image, place], -10.0]
            similarities += [query[image, place] @ key[image, (place + ahead) % 5] for ahead in range(1, kept + 1)]
            exponents = np.array(similarities) / _TAU
            expected[image, place] = np.log(np.exp(exponents).sum()) - exponents[0]
    loss = patch_nce.patch_nce(*_tensors(query, key), _TAU, "internal", kept)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)


def test_all_negatives_are_as_many_as_there_are():
    rng = np.random.default_rng(4)
    query, key = _tensors(_unit(rng, 2, 5, 4), _unit(rng, 2, 5, 4))
    every = patch_nce.internal_logits(query, key)
    assert every.shape == [2, 5, 6]
    np.testing.assert_array_equal(patch_nce.internal_logits(query, key, num_negatives=4), every)


def test_external_negatives_by_hand_and_only_where_present():
    query = [[[1.0, 0.0], [0.0, 1.0]]]
    key = [[[0.6, 0.8], [0.8, 0.6]]]
    negatives = [[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]
    tensors = _tensors(query, key, negatives)
    logits = patch_nce.external_logits(*tensors, tf.constant([True, True, False]), 0.5)
    expected = [math.log(math.exp(0.6 / 0.5) + math.exp(0.0) + math.exp(1 / 0.5)) - 0.6 / 0.5] * 2
    assert logits.shape == [1, 2, 4]
    np.testing.assert_allclose(patch_nce.loss_from_logits(logits), [expected], rtol=1e-6)
    nothing = patch_nce.external_logits(*tensors, tf.constant([False] * 3), 0.5)
    np.testing.assert_array_equal(patch_nce.loss_from_logits(nothing), [[0.0, 0.0]])


def test_internal_and_external_negatives_by_hand():
    """tau 0.5; the first query: positive 0.6, own location -10, the other location 0.8, another image 0; the second:
    positive 0.6, the other location 0.8, another image 1. The last negative is not there yet."""
    tensors = _tensors([[[1.0, 0.0], [0.0, 1.0]]], [[[0.6, 0.8], [0.8, 0.6]]], [[0.0, 1.0], [-1.0, 0.0]])
    logits = patch_nce.internal_external_logits(*tensors, tf.constant([True, False]), 0.5)
    expected = [math.log(math.exp(1.2) + math.exp(-20) + math.exp(1.6) + math.exp(external)) - 1.2
                for external in (0.0, 2.0)]
    assert logits.shape == [1, 2, 5]
    np.testing.assert_allclose(patch_nce.loss_from_logits(logits), [expected], rtol=1e-6)


@pytest.mark.parametrize("negatives", ["internal", "minibatch"])
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_finite(temperature, negatives):
    rng = np.random.default_rng(5)
    query, key = _unit(rng, 2, 8, 4), _unit(rng, 2, 8, 4)
    tensor, key_tensor = _tensors(query, key)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = patch_nce.patch_nce(tensor, key_tensor, temperature, negatives)
    assert np.isfinite(np.asarray(tape.gradient(loss, tensor))).all()
    np.testing.assert_allclose(loss, _twin(query, key, temperature, negatives), rtol=1e-4, atol=2e-3)


def test_accuracy_is_the_share_of_queries_whose_positive_wins():
    logits = tf.constant([[[3.0, 1.0, 2.0], [1.0, 2.0, 0.0]], [[2.0, 2.0, 1.0], [5.0, 4.0, 4.0]]])
    assert float(patch_nce.accuracy_from_logits(logits)) == 0.5  # a tie is no win


def test_loss_of_equal_logits_is_the_logarithm_of_their_number():
    loss = patch_nce.loss_from_logits(tf.fill([1, 2, 10], 3.0))
    np.testing.assert_allclose(loss, [[math.log(10)] * 2], rtol=1e-6)


def test_unknown_negatives_are_refused():
    query, key = _tensors(np.ones((1, 2, 3)), np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="negatives must be internal or minibatch, found 'hard'"):
        patch_nce.patch_nce(query, key, negatives="hard")
