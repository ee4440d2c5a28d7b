"""The embedded dataset: rendered scenes, hazy and clear."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cut_tf.data import open_dataset
from cut_tf.data.domain import Domain
from cut_tf.data.haze import scattering
from cut_tf.data.rendering.renderer import render_scene
from cut_tf.settings import Settings

SIZE_PX = 32


@pytest.fixture(name="data", scope="module")
def _data():
    return open_dataset(Settings.of(dataset="scenes", scenes_images=5, scenes_size_px=SIZE_PX))


def _identity(name: str) -> tuple[int, int]:
    """Seed and number of a scene, from the name of its picture."""
    _, seed, number = name.removesuffix(".png").split("_")
    return int(seed), int(number)


def _names(domain: Domain) -> list[str]:
    return [domain.name(index) for index in range(len(domain))]


def test_sizes_by_flag(data):
    assert (len(data.source), len(data.target)) == (5, 5)
    assert data.description == "scenes: 5 hazy, 5 clear, 48 test pairs of 32x32 px"
    other = open_dataset(Settings.of(dataset="scenes", scenes_images=2, scenes_size_px=48))
    assert (len(other.source), len(other.target), len(other.test_source)) == (2, 2, 48)
    for domain in (other.source, other.target, other.test_source, other.test_target):
        picture = domain.load(1)
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8


def test_no_scene_is_in_two_domains_but_in_both_of_the_test(data):
    source, target, test_source, test_target = (
        {_identity(name) for name in _names(domain)}
        for domain in (data.source, data.target, data.test_source, data.test_target))
    assert len(source) == len(target) == 5 and len(test_source) == 48
    assert not source & target and not (source | target) & test_source
    assert test_source == test_target and data.test_paired


def test_names_belong_to_the_scenes_shown(data):
    for index in range(5):
        seed, number = _identity(data.target.name(index))
        np.testing.assert_array_equal(data.target.load(index), render_scene(seed, number, SIZE_PX, SIZE_PX).image)


def test_names_are_unique(data):
    for domain in (data.source, data.target, data.test_source):
        assert len(set(_names(domain))) == len(domain)
    assert _names(data.test_source) == _names(data.test_target)


@pytest.mark.parametrize("index", [0, 7, 47])
def test_test_pairs_follow_the_haze_model_with_the_true_depth(data, index):
    """I = J t + A (1 - t): a beta and an airlight exist that explain every pixel, and they suit the depths."""
    clear, hazy = (domain.load(index).astype(np.float64) / 255 for domain in (data.test_target, data.test_source))
    seed, number = _identity(data.test_source.name(index))
    scene = render_scene(seed, number, SIZE_PX, SIZE_PX)
    np.testing.assert_array_equal(data.test_target.load(index), scene.image)
    parameters = scattering.sample_haze(np.random.default_rng([seed, number, 1]), scene.depth_m)
    assert parameters.beta_per_m > 0
    share = np.exp(-parameters.beta_per_m * scene.depth_m.astype(np.float64))[:, :, None]
    np.testing.assert_allclose(hazy, clear * share + parameters.airlight * (1 - share), rtol=0, atol=0.51 / 255)
    assert np.abs(hazy - clear).mean() > 5 / 255


def test_hazes_differ_from_scene_to_scene(data):
    """The far end of a scene is almost pure airlight, whose brightness is drawn anew for each."""
    brightest = [np.median(data.source.load(index)[:2]) for index in range(5)]
    assert len(set(brightest)) > 2


def test_pictures_are_the_same_each_time_and_from_several_threads(data):
    again = open_dataset(Settings.of(dataset="scenes", scenes_images=5, scenes_size_px=SIZE_PX))
    indices = [0, 1, 2, 3, 4] * 3
    expected = [data.source.load(index) for index in range(5)]
    with ThreadPoolExecutor(4) as pool:
        for index, picture in zip(indices, pool.map(again.source.load, indices)):
            np.testing.assert_array_equal(picture, expected[index])


def test_pictures_do_not_depend_on_how_many_there_are(data):
    more = open_dataset(Settings.of(dataset="scenes", scenes_images=9, scenes_size_px=SIZE_PX))
    np.testing.assert_array_equal(more.source.load(4), data.source.load(4))
    np.testing.assert_array_equal(more.test_source.load(4), data.test_source.load(4))
