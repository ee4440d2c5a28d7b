"""Patch ids: different places of the picture, the same for a seed, and every place as often as another."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, strategies as st
from scipy import stats

from cut_tf.networks.heads.patch_projector import draw_patch_ids

_draw = tf.function(draw_patch_ids, input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32),
                                                     tf.TensorSpec([2], tf.int32)])
_seeds = st.lists(st.integers(-2**31, 2**31 - 1), min_size=2, max_size=2)


@given(locations=st.integers(1, 5000), wanted=st.integers(1, 600), seed=_seeds)
def test_ids_are_different_places_and_those_of_their_seed(locations, wanted, seed):
    ids = _draw(locations, wanted, seed).numpy()
    assert ids.dtype == np.int32 and len(ids) == min(wanted, locations)
    assert len(set(ids)) == len(ids) and ids.min() >= 0 and ids.max() < locations
    np.testing.assert_array_equal(_draw(locations, wanted, seed).numpy(), ids)


def test_every_place_is_drawn_as_often_as_another():
    counts = np.zeros(64)
    for seed in range(3000):
        counts[_draw(64, 16, [seed, 1]).numpy()] += 1
    assert counts.sum() == 3000 * 16
    # Without replacement the counts vary less than independent ones, so that a right draw passes easily.
    assert stats.chisquare(counts).pvalue > 1e-3
