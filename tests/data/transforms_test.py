"""Resizing, crops and mirror images, without TensorFlow."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from PIL import Image

from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import DataSettings

RECORDED_CROPS = [(21, 28, True), (11, 23, False), (20, 11, True), (20, 3, True), (18, 42, False)]


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose red value is the row and whose green value is the column."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0], image[:, :, 1] = np.arange(height)[:, None], np.arange(width)[None, :]
    return image


def _crops(preprocessing: Preprocessing, image: np.ndarray, count: int) -> list[np.ndarray]:
    return [preprocessing.crop(image, np.random.default_rng(seed)) for seed in range(count)]


def test_of_takes_the_settings():
    settings = DataSettings(preprocess="scale_width", load_size_px=50, crop_size_px=40, flip=False)
    assert Preprocessing.of(settings) == Preprocessing("scale_width", 50, 40, False, False)
    turned = DataSettings(preprocess="crop", crop_size_px=40, quarter_turns=True)
    assert Preprocessing.of(turned) == Preprocessing("crop", 286, 40, True, True)


@pytest.mark.parametrize("kind, size, expected", [
    ("resize_and_crop", (500, 375), (286, 286)),
    ("resize_and_crop", (40, 900), (286, 286)),
    ("scale_width", (500, 1000), (286, 572)),
    ("scale_width", (700, 1000), (286, 408)),  # 408.57, cut off as in the official code
    ("scale_width", (500, 375), (286, 256)),  # 214 would be less than the crop
    ("scale_width", (286, 300), (286, 300)),
    ("crop", (500, 375), (500, 375)),
    ("none", (501, 377), (501, 377)),
])
def test_size_after_resize(kind, size, expected):
    preprocessing = Preprocessing(kind, 286, 256, True)
    assert preprocessing.size_after_resize(*size) == expected
    assert preprocessing.resize(np.zeros((size[1], size[0], 3), np.uint8)).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("kind", ["resize_and_crop", "scale_width"])
@pytest.mark.parametrize("height, width", [(37, 53), (120, 90)])
def test_resize_is_the_bicubic_one_of_pillow(kind, height, width):
    preprocessing, image = Preprocessing(kind, 64, 32, True), _noise(height, width)
    resized = preprocessing.resize(image)
    size = (64, 64) if kind == "resize_and_crop" else (64, int(64 * height / width))
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)))
    assert np.abs(resized - np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) * 1.0).max() > 1


@pytest.mark.parametrize("kind, height, width", [
    ("resize_and_crop", 64, 64), ("scale_width", 80, 64), ("crop", 33, 47), ("none", 33, 47)])
def test_pictures_of_the_right_size_are_not_resampled(kind, height, width):
    image = _noise(height, width)
    np.testing.assert_array_equal(Preprocessing(kind, 64, 32, True).resize(image), image)


@pytest.mark.parametrize("kind", ["resize_and_crop", "scale_width", "crop"])
def test_crops_cover_every_offset_evenly_and_stay_inside(kind):
    image = _coordinates(18, 20)
    offsets = collections.Counter()
    for crop in _crops(Preprocessing(kind, 20, 16, False), image, 1500):
        assert crop.shape == (16, 16, 3) and crop.dtype == np.uint8
        top, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
        np.testing.assert_array_equal(crop, image[top:top + 16, left:left + 16])
        offsets[top, left] += 1
    assert set(offsets) == {(top, left) for top in range(3) for left in range(5)}
    assert min(offsets.values()) > 60 and max(offsets.values()) < 140  # 100 on average


@pytest.mark.parametrize("kind", ["crop", "none"])
def test_half_of_the_crops_are_mirrored(kind):
    image = _coordinates(16, 16)
    crops = _crops(Preprocessing(kind, 16, 16, True), image, 1000)
    mirrored = [np.array_equal(crop, image[:, ::-1]) for crop in crops]
    assert all(flag or np.array_equal(crop, image) for flag, crop in zip(mirrored, crops))
    assert 440 < sum(mirrored) < 560
    assert all(crop.flags.c_contiguous for crop in crops)


@pytest.mark.parametrize("kind", ["crop", "none"])
def test_nothing_is_mirrored_without_flip(kind):
    image = _coordinates(16, 16)
    assert all(np.array_equal(crop, image) for crop in _crops(Preprocessing(kind, 16, 16, False), image, 50))


@pytest.mark.parametrize("height, width, expected", [(19, 22, (16, 20)), (16, 24, (16, 24)), (17, 131, (16, 128))])
def test_none_cuts_to_a_multiple_of_4(height, width, expected):
    image = _coordinates(height, width)
    crop = Preprocessing("none", 286, 256, False).crop(image, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, image[:expected[0], :expected[1]])


@pytest.mark.parametrize("kind", ["crop", "none"])
@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_are_as_frequent_as_each_other(kind, flip):
    image = _coordinates(16, 16)
    turned = [np.rot90(mirrored, turns) for mirrored in ((image, image[:, ::-1]) if flip else (image,))
              for turns in range(4)]
    counts = collections.Counter()
    for crop in _crops(Preprocessing(kind, 16, 16, flip, True), image, 800):
        assert crop.flags.c_contiguous
        counts[[np.array_equal(crop, one) for one in turned].index(True)] += 1
    assert len(counts) == len(turned)
    average = 800 / len(turned)
    assert 0.7 * average < min(counts.values()) and max(counts.values()) < 1.3 * average


def test_pictures_that_are_no_squares_are_turned_whole():
    shapes = {crop.shape for crop in _crops(Preprocessing("none", 0, 0, False, True), _coordinates(16, 20), 20)}
    assert shapes == {(16, 20, 3), (20, 16, 3)}


def test_turning_leaves_the_draws_of_place_and_mirror_as_they_are():
    """A crop is the one that there is without turns, turned."""
    image = _noise(40, 60)
    for plain, crop in zip(_crops(Preprocessing("crop", 16, 16, True), image, 20),
                           _crops(Preprocessing("crop", 16, 16, True, True), image, 20)):
        assert any(np.array_equal(crop, np.rot90(plain, turns)) for turns in range(4))


def test_crop_does_not_change_the_picture():
    image = _noise(20, 20)
    before = image.copy()
    _crops(Preprocessing("crop", 16, 16, True), image, 10)
    np.testing.assert_array_equal(image, before)


def test_recorded_crops():
    """(top, left, mirrored) of five generators: a run continued with a later version must get the same crops."""
    found = []
    for crop in _crops(Preprocessing("crop", 16, 16, True), _coordinates(40, 60), 5):
        left, right = int(crop[0, 0, 1]), int(crop[0, -1, 1])
        found.append((int(crop[0, 0, 0]), min(left, right), left > right))
    assert found == RECORDED_CROPS


@pytest.mark.parametrize("kind, size, small", [
    ("crop", (127, 300), True), ("crop", (300, 127), True), ("crop", (128, 128), False),
    ("resize_and_crop", (20, 20), False), ("scale_width", (200, 20), False), ("none", (20, 20), False)])
def test_too_small(kind, size, small):
    message = Preprocessing(kind, 143, 128, True).too_small(*size)
    assert message == ("sides must be at least the crop of 128 px with --preprocess=crop" if small else "")
