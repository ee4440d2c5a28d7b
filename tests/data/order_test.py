"""The endless shuffled stream of picture numbers."""

from __future__ import annotations

import numpy as np
import pytest

from cut_tf.data import order

RECORDED_SOURCE = [5, 6, 2, 1, 4, 3, 0, 4, 3, 1, 6, 0, 2, 5]
RECORDED_TARGET = [2, 1, 4, 0, 5, 6, 3]
RECORDED_AUGMENTATION = [877, 57, 453, 38, 869, 192]


def _stream(count: int, seed: int, domain: int, positions: range) -> list[int]:
    return [order.picture_at(position, count, seed, domain) for position in positions]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_every_epoch_shows_every_picture_once(count):
    for epoch in range(5):
        shown = _stream(count, 11, 0, range(epoch * count, (epoch + 1) * count))
        assert sorted(shown) == list(range(count))
        assert all(isinstance(index, int) for index in shown)


def test_epochs_are_shuffled_anew():
    epochs = [tuple(_stream(50, 0, 0, range(epoch * 50, (epoch + 1) * 50))) for epoch in range(4)]
    assert len(set(epochs)) == 4 and tuple(range(50)) not in epochs


def test_a_position_does_not_depend_on_what_was_asked_before():
    forwards = _stream(9, 5, 1, range(100))
    backwards = [order.picture_at(position, 9, 5, 1) for position in reversed(range(100))]
    assert forwards == backwards[::-1]


def test_domains_are_shuffled_independently():
    source, target = _stream(400, 0, 0, range(400)), _stream(400, 0, 1, range(400))
    # Two independent permutations agree in one place on average, however long they are.
    assert sum(np.equal(source, target)) < 10
    assert abs(np.corrcoef(source, target)[0, 1]) < 0.2


def test_seeds_give_different_orders():
    assert len({tuple(_stream(30, seed, 0, range(30))) for seed in range(20)}) == 20


def test_far_positions_cost_no_more_than_near_ones(monkeypatch):
    shuffle, epochs = order._permutation, []
    monkeypatch.setattr(order, "_permutation", lambda *epoch: epochs.append(epoch) or shuffle(*epoch))
    far = order.picture_at(10**12 + 123, 1000, 1, 0)
    assert epochs == [(1000, 1, 0, 10**9)]  # that one epoch is shuffled, and none before it
    assert far == order.picture_at(10**12 + 123, 1000, 1, 0) and 0 <= far < 1000
    assert sorted(_stream(1000, 1, 0, range(10**12, 10**12 + 1000))) == list(range(1000))


def test_recorded_order():
    """A run that is continued with a later version must go on with the same pictures, so these never change."""
    assert _stream(7, 3, 0, range(14)) == RECORDED_SOURCE
    assert _stream(7, 3, 1, range(7)) == RECORDED_TARGET
    assert order.augmentation_rng(5, 3, 1).integers(1000, size=6).tolist() == RECORDED_AUGMENTATION


def test_augmentation_is_pure_and_differs_by_position_seed_and_domain():
    draws = {arguments: order.augmentation_rng(*arguments).random() for arguments in
             [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (10**12, 0, 0)]}
    assert len(set(draws.values())) == len(draws)
    for arguments, value in draws.items():
        assert order.augmentation_rng(*arguments).random() == value


def test_augmentation_does_not_repeat_the_permutation_of_the_same_number():
    permutation = _stream(20, 4, 1, range(2 * 20, 3 * 20))
    assert order.augmentation_rng(2, 4, 1).permutation(20).tolist() != permutation
