"""The guided filter against least squares solved window by window, and what its definition promises."""

from __future__ import annotations

import numpy as np
import pytest

from cut_tf.baselines.guided_filter import guided_filter


def _reference(guide: np.ndarray, values: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """In each window the a, b that minimise sum((a guide + b - values)^2 + eps a^2); then the mean over windows."""
    height, width = values.shape
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    for row in range(height):
        for column in range(width):
            window = np.s_[max(row - radius, 0):row + radius + 1, max(column - radius, 0):column + radius + 1]
            colours, wanted = guide[window].reshape(-1, 3), values[window].reshape(-1)
            system = np.concatenate([np.column_stack([colours, np.ones(len(colours))]),
                                     np.column_stack([np.sqrt(len(colours) * eps) * np.eye(3), np.zeros(3)])])
            solution = np.linalg.lstsq(system, np.concatenate([wanted, np.zeros(3)]), rcond=None)[0]
            total[window] += guide[window] @ solution[:3] + solution[3]
            count[window] += 1
    return total / count


@pytest.mark.parametrize("size", [(9, 11), (5, 3), (1, 6)])
@pytest.mark.parametrize("radius", [1, 2, 8])
@pytest.mark.parametrize("eps", [1e-4, 0.1])
def test_equals_least_squares_in_every_window(size, radius, eps):
    rng = np.random.default_rng(radius)
    guide, values = rng.random((*size, 3)), rng.random(size)
    np.testing.assert_allclose(guided_filter(guide, values, radius, eps), _reference(guide, values, radius, eps),
                               atol=1e-9)


def test_a_grey_guide_has_no_singular_windows():
    rng = np.random.default_rng(0)
    guide, values = np.repeat(rng.random((8, 9, 1)), 3, axis=2), rng.random((8, 9))
    np.testing.assert_allclose(guided_filter(guide, values, 2, 1e-4), _reference(guide, values, 2, 1e-4), atol=1e-8)


def test_flat_values_stay_and_a_flat_guide_gives_means_of_means():
    rng = np.random.default_rng(1)
    guide, values = rng.random((12, 10, 3)), rng.random((12, 10))
    np.testing.assert_allclose(guided_filter(guide, np.full((12, 10), 0.3), 3, 1e-4), 0.3, atol=1e-12)
    expected = np.full((12, 10), values.mean())  # with windows beyond the picture
    np.testing.assert_allclose(guided_filter(np.full((12, 10, 3), 0.5), values, 20, 1e-4), expected, atol=1e-12)


def test_values_that_follow_the_colours_keep_their_edges():
    guide = np.random.default_rng(2).random((14, 15, 3))
    values = guide @ [0.5, -0.2, 0.1] + 0.4
    np.testing.assert_allclose(guided_filter(guide, values, 3, 1e-9), values, atol=1e-6)
