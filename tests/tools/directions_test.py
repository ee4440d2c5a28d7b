"""Where moves of a picture lead: closed forms, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cut_tf.data.haze import scattering
from cut_tf.data.rendering.renderer import render_scene
from tools.reproduce import directions


def _pictures(*pixels: list[float]) -> np.ndarray:
    """One picture [1, 1, P, 3] of these pixels."""
    return np.array(pixels, np.float64)[None, None]


# The haze direction is (2, 0, 0 | 0, 0, 0). The output lacks (0.6, 0, 0 | 0, 0.8, 0): 0.3 of the haze, and content.
HAZY, TRUTH = _pictures([0, 0, 0], [0, 0, 0]), _pictures([2, 0, 0], [0, 0, 0])
OUTPUT = _pictures([1.4, 0, 0], [0, -0.8, 0])


def test_what_an_output_lacks_is_haze_and_content():
    parts = directions.split(OUTPUT, HAZY, TRUTH)
    np.testing.assert_allclose(parts.haze_left, [0.3])
    np.testing.assert_allclose(parts.content, _pictures([0, 0, 0], [0, 0.8, 0]), atol=1e-12)


@pytest.mark.parametrize("share, output", [(1.0, HAZY), (0.0, TRUTH), (-0.5, TRUTH + 0.5 * (TRUTH - HAZY))])
def test_an_output_on_the_line_lacks_haze_alone(share, output):
    parts = directions.split(output, HAZY, TRUTH)
    np.testing.assert_allclose(parts.haze_left, [share])
    assert np.abs(parts.content).max() == 0


@pytest.mark.parametrize("move, expected", [
    (TRUTH - OUTPUT, (1.0, 0.6, 0.8)),  # descent of the squared distance to the truth
    (np.sign(TRUTH - OUTPUT), (1.4 / math.sqrt(2), math.sqrt(0.5), math.sqrt(0.5))),  # of the absolute one
    (HAZY - TRUTH, (-0.6, -1.0, 0.0)),  # haze alone
    (_pictures([0, 0, 0], [0, 1, 0]), (0.8, 0.0, 1.0)),  # content alone
    (_pictures([0, 5, 0], [0, 0, 0]), (0.0, 0.0, 0.0)),  # a colour that neither needs
    (HAZY - OUTPUT, ((-1.4 * 0.6 + 0.8 * 0.8) / math.sqrt(2.6), -1.4 / math.sqrt(2.6), 0.8 / math.sqrt(2.6))),
    (np.zeros_like(OUTPUT), (0.0, 0.0, 0.0)),
])
def test_cosines_of_moves(move, expected):
    np.testing.assert_allclose(np.stack(directions.alignment(move, OUTPUT, HAZY, TRUTH))[:, 0], expected, atol=1e-12)


def test_pictures_of_a_batch_do_not_see_each_other():
    rng = np.random.default_rng(0)
    move, output, hazy, truth = rng.normal(size=[4, 3, 5, 7, 3])
    together = np.stack(directions.alignment(move, output, hazy, truth))
    for index in range(3):
        alone = directions.alignment(*(part[index:index + 1] for part in (move, output, hazy, truth)))
        np.testing.assert_allclose(together[:, index:index + 1], np.stack(alone), rtol=1e-12)


def test_the_parts_make_up_the_whole():
    """|lacking| cos(truth) = left |haze| cos(haze) + |content| cos(content), since both parts are orthogonal."""
    rng = np.random.default_rng(1)
    move, output, hazy, truth = rng.normal(size=[4, 2, 4, 4, 3])
    parts, found = directions.split(output, hazy, truth), directions.alignment(move, output, hazy, truth)
    lengths = [np.linalg.norm(part.reshape(2, -1), axis=1) for part in (truth - output, parts.haze, parts.content)]
    np.testing.assert_allclose(lengths[0] * found.truth, parts.haze_left * lengths[1] * found.haze
                               + lengths[2] * found.content, rtol=1e-9)
    np.testing.assert_allclose((parts.haze * parts.content).sum(axis=(1, 2, 3)), 0, atol=1e-9)


def test_where_there_is_no_haze_nothing_is_a_direction():
    found = directions.alignment(np.ones_like(OUTPUT), OUTPUT, TRUTH, TRUTH)
    assert found.haze[0] == 0 and np.isfinite(np.stack(found)).all()
    assert directions.split(OUTPUT, TRUTH, TRUTH).haze_left[0] == 0


def test_on_scenes_the_haze_direction_is_that_of_the_scattering_model():
    """truth - hazy = (J - A)(1 - t) with the true t and A, but for the rounding to 8 bits."""
    scene = render_scene(5, 0, 32, 32)
    haze = scattering.sample_haze(np.random.default_rng(0), scene.depth_m)
    hazy = scattering.add_haze(scene.image, scene.depth_m, haze.beta_per_m, haze.airlight)
    share = scattering.transmission(scene.depth_m, haze.beta_per_m)[..., None]
    model = (scene.image - 255.0 * haze.airlight) * (1.0 - share)
    found = directions.split(scene.image[None], hazy[None], scene.image[None]).haze[0]
    assert np.abs(found - model).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("pictures, message", [
    ((OUTPUT, HAZY[:, :, :1], TRUTH), "must have one shape"), ((OUTPUT[0], HAZY[0], TRUTH[0]), "must have one shape")])
def test_pictures_of_other_shapes_are_refused(pictures, message):
    with pytest.raises(ValueError, match=message):
        directions.split(*pictures)
    with pytest.raises(ValueError, match="move must have the shape"):
        directions.alignment(OUTPUT[..., :1], OUTPUT, HAZY, TRUTH)


def test_correlation_is_pearsons():
    one = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    other = np.array([[8.0, 6.0, 4.0, 2.0], [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 1.0]])
    np.testing.assert_allclose(directions.correlation(one, other), [-1.0, 0.0, 0.0], atol=1e-12)
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=[2, 20])
    assert directions.correlation(one, other) == pytest.approx(np.corrcoef(one, other)[0, 1])
