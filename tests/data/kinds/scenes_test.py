"""The embedded dataset: rendered scenes, hazy and clear."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cut_tf.data import open_dataset
from cut_tf.data.domain import Domain
from cut_tf.data.haze import scattering
from cut_tf.data.rendering.renderer import render_scene
from cut_tf.data.rendering.rooms import render_room
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


def test_a_preset_hazes_the_scenes_and_changes_their_partners():
    settings = Settings.of(dataset="scenes", scenes_images=3, scenes_size_px=SIZE_PX, haze_preset="real",
                           gamma_probability=1.0, gamma_min=2.0, gamma_max=2.0, overcast_probability=0.0,
                           clear_probability=0.0, noise_probability=0.0, jpeg_probability=0.0)
    data = open_dataset(settings)
    hazy, clear = data.pairs
    for index in range(len(hazy)):
        seed, number = _identity(clear.name(index))
        expected = 255 * (render_scene(seed, number, SIZE_PX, SIZE_PX).image / 255.0) ** 2.0
        assert np.abs(clear.load(index) - expected).max() <= 0.501
        assert np.any(hazy.load(index) != clear.load(index))
    np.testing.assert_array_equal(data.target.load(0), clear.load(3))


def test_overcast_scenes_keep_the_sky_that_they_have():
    settings = Settings.of(dataset="scenes", scenes_images=8, scenes_size_px=SIZE_PX, overcast_probability=1.0)
    hazy, clear = open_dataset(settings).pairs
    skies = 0
    for index in range(16):
        sky = render_scene(*_identity(clear.name(index)), SIZE_PX, SIZE_PX).depth_m >= 1000.0
        if sky.any():
            colours = np.concatenate([clear.load(index)[sky], hazy.load(index)[sky]])
            assert (colours == colours[0]).all()
            skies += 1
    assert skies > 8


def test_rooms_are_hazed_by_their_depths_in_metres():
    data = open_dataset(Settings.of(dataset="rooms", scenes_images=3, scenes_size_px=SIZE_PX))
    assert data.description == "rooms: 3 hazy, 3 clear, 48 test pairs of 32x32 px"
    assert _names(data.source) == [f"room_2024_{number:05d}.png" for number in range(3)]
    for index in (0, 3, 5):
        hazy, clear = (domain.load(index).astype(np.float64) / 255 for domain in data.pairs)
        room = render_room(*_identity(data.pairs[0].name(index)), SIZE_PX, SIZE_PX)
        np.testing.assert_array_equal(data.pairs[1].load(index), room.image)
        parameters = scattering.sample_haze(np.random.default_rng([2024, index, 1]), room.depth_m, least_visibility_m=3)
        share = np.exp(-parameters.beta_per_m * room.depth_m.astype(np.float64))[:, :, None]
        np.testing.assert_allclose(hazy, clear * share + parameters.airlight * (1 - share), rtol=0, atol=0.51 / 255)
        assert 0.2 < np.median(share) < 0.75


def test_rooms_and_scenes_join():
    data = open_dataset(Settings.of(dataset="scenes+rooms", scenes_images=3, scenes_size_px=SIZE_PX))
    assert [name.split("_")[0] for name in _names(data.source)] == ["scene"] * 3 + ["room"] * 3
