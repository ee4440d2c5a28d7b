"""Moments that merge exactly, against Python's exact statistics and NumPy."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from cut_tf.metrics.moments import ExactMoments


def _moments(values) -> ExactMoments:
    moments = ExactMoments()
    for value in values:
        moments.add(value)
    return moments


@pytest.mark.parametrize("offset, scale", [(0.0, 1.0), (1e8, 1e-3), (-3e-9, 1e-12)])
def test_mean_and_deviation_are_rounded_once(offset, scale):
    values = (offset + scale * np.random.default_rng(0).normal(size=200)).tolist()
    found = _moments(values).summary()
    assert (found.mean, found.count) == (statistics.mean(values), 200)
    assert found.std == pytest.approx(statistics.pstdev(values), rel=1e-14)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)


def test_any_split_in_any_order_gives_the_same_bits():
    values = np.float32(np.random.default_rng(1).normal(27, 3, 300)).astype(float).tolist()
    expected, draw = _moments(values).summary(), random.Random(0)
    assert expected.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert expected.std == pytest.approx(np.std(values), rel=1e-12)
    for _ in range(20):
        draw.shuffle(values)
        cuts = sorted(draw.randrange(301) for _ in range(draw.randrange(12)))
        parts = [_moments(values[start:end]) for start, end in zip([0, *cuts], [*cuts, 300])]
        draw.shuffle(parts)
        while len(parts) > 1:
            parts.insert(draw.randrange(len(parts)), parts.pop())
            parts[0].merge(parts.pop())
        assert parts[0].summary() == expected


def test_what_is_not_finite_is_left_out():
    found = _moments([1.0, math.inf, 3.0, math.nan, -math.inf]).summary()
    assert (found.mean, found.std, found.count) == (2.0, 1.0, 2)
    none = _moments([math.inf]).summary()
    assert math.isnan(none.mean) and math.isnan(none.std) and none.count == 0
