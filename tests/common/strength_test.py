"""The one definition of --strength: by hand, in graphs, around translators."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.common.strength import at_strength, blend, blend_tensors, check_strength


def _levels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, -1, 3)


@pytest.mark.parametrize(("strength", "expected"), [
    (0.0, [100, 200, 0, 7, 8, 9]), (1.0, [200, 100, 255, 8, 7, 9]),
    (0.5, [150, 150, 128, 8, 8, 9]),  # 127.5 and 7.5 round to the even 128 and 8
    (0.25, [125, 175, 64, 7, 8, 9]), (0.75, [175, 125, 191, 8, 7, 9])])  # 63.75 and 7.25; 191.25, 7.75
def test_by_hand(strength, expected):
    source, output = _levels(100, 200, 0, 7, 8, 9), _levels(200, 100, 255, 8, 7, 9)
    found = blend(source, output, strength)
    assert found.dtype == np.uint8 and found.ravel().tolist() == expected
    graph = tf.function(blend_tensors)(tf.constant(source), tf.constant(output), tf.constant(strength))
    assert graph.dtype == tf.uint8 and graph.numpy().ravel().tolist() == expected


def test_all_pairs_of_levels_are_exact_at_the_ends_and_equal_in_a_graph():
    source, output = (side.astype(np.uint8) for side in np.meshgrid(np.arange(256), np.arange(256)))
    np.testing.assert_array_equal(blend(source, output, 0.0), source)
    np.testing.assert_array_equal(blend(source, output, 1.0), output)
    for strength in (0.1, 1 / 3, 0.5, 0.999):
        found = blend(source, output, strength)
        exact = source + strength * (output.astype(float) - source)
        assert np.abs(found - exact).max() <= 0.5001
        graph = blend_tensors(tf.constant(source), tf.constant(output), tf.constant(strength))
        np.testing.assert_array_equal(graph, found)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), float("inf"), -1e-9])
def test_numbers_out_of_range_are_refused_by_name(strength):
    with pytest.raises(InputError, match=f"^--strength must be from 0, .*, to 1, the output, found {strength}$"):
        check_strength(strength)
    with pytest.raises(InputError, match="^strength must be from 0"):
        blend(_levels(1, 2, 3), _levels(1, 2, 3), strength)
    with pytest.raises(InputError, match="^--strength must be"):
        at_strength(lambda picture, where: picture, strength)


@pytest.mark.parametrize("output", [np.zeros([4, 5, 3], np.uint8), np.zeros([4, 4, 1], np.uint8),
                                    np.zeros([4, 4], np.uint8), np.zeros([4, 4, 3], np.float32)])
def test_an_output_of_another_kind_than_the_input_is_refused(output):
    source = np.zeros([4, 4, 3], np.uint8)
    with pytest.raises(InputError, match=r"^a.png: input and output must be uint8 of one shape for a strength between "
                                         rf"them, found uint8 \[4, 4, 3\] and {output.dtype} \["):
        blend(source, output, 0.5, "a.png")
    with pytest.raises(InputError, match="^b.png: input and output must be"):
        at_strength(lambda picture, where: output, 0.5)(source, "b.png")


def test_a_translator_at_a_strength():
    def invert(picture: np.ndarray, where: str) -> np.ndarray:
        return 255 - picture

    assert at_strength(invert, 1.0) is invert
    half = at_strength(invert, 0.25)
    assert half(_levels(0, 100, 255), "a.png").ravel().tolist() == [64, 114, 191]  # 63.75, 113.75, 191.25
    assert not hasattr(half, "many")


def test_a_translator_of_many_pictures_at_a_strength():
    class Inverter:
        def many(self, pictures):
            return [255 - picture for picture in pictures]

    first, second = at_strength(Inverter(), 0.5).many([_levels(0, 100, 255), _levels(10, 20, 30)])
    assert (first.ravel().tolist(), second.ravel().tolist()) == ([128, 128, 128], [128, 128, 128])
