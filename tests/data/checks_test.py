"""Sizes of pictures are checked before training, by headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.checks import check_least_side
from cut_tf.data.kinds.tfds import EncodedDomain
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings


def _write(folder: Path, name: str, width: int, height: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 7, np.uint8)).save(folder / name)


@pytest.fixture(name="dataset")
def _dataset(tmp_path: Path) -> Path:
    """Seven test pairs, of which the last six differ in size."""
    for side in ("trainA", "trainB"):
        _write(tmp_path / side, "a.png", 40, 40)
    for number in range(7):
        _write(tmp_path / "testA", f"p{number}.png", 40, 30)
        _write(tmp_path / "testB", f"p{number}.png", 40 + number, 30)
    return tmp_path


def test_test_pairs_of_unlike_sizes_are_refused_and_five_are_named(dataset):
    with pytest.raises(InputError, match="test pair must have one size .* found 6 of 7 pairs that differ") as caught:
        open_dataset(Settings.of(dataset=str(dataset), preprocess="none"))
    lines = str(caught.value).splitlines()
    assert [f"p{number}.png" in line for number, line in enumerate(lines)] == [False, *[True] * 5, False, False]
    assert "40x30" in lines[1] and "41x30" in lines[1] and lines[6].strip() == "and 1 more"
    assert "--notest_pairs" in lines[7]


def test_test_pairs_that_the_resizing_makes_alike_are_taken(dataset):
    data = open_dataset(Settings.of(dataset=str(dataset), preprocess="resize_and_crop"))
    assert data.test_paired and "paired by their file names" in data.description


def test_numbered_alike_is_not_paired_with_notest_pairs(dataset):
    data = open_dataset(Settings.of(dataset=str(dataset), preprocess="none", test_pairs=False))
    assert not data.test_paired and len(data.test_source) == 7 and "--notest_pairs" in data.description


def test_turned_photographs_count_as_viewers_show_them(tmp_path):
    """A 30x40 file with EXIF orientation 6 is a picture of 40x30."""
    for side in ("trainA", "trainB", "testA"):
        _write(tmp_path / side, "a.png", 40, 30)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "testB").mkdir()
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "testB" / "a.jpg", exif=exif)
    assert open_dataset(Settings.of(dataset=str(tmp_path), preprocess="none")).test_paired


def test_pictures_below_what_the_discriminator_sees_are_named(tmp_path):
    for side in ("trainA", "trainB"):
        _write(tmp_path / side, "big.png", 24, 40)
    _write(tmp_path / "trainB", "small.png", 27, 23)
    settings = Settings.of(dataset=str(tmp_path), preprocess="none")
    data = open_dataset(settings)
    with pytest.raises(InputError, match=r"at least 24 px .* some reason, found 1 smaller ones:\n.*small.png: 27x23"):
        check_least_side((data.source, data.target), settings.data, 24, "some reason")
    check_least_side((data.source, data.target), settings.data, 20, "23 px are cut to 20, a multiple of 4")


@pytest.mark.parametrize("cache_mb, loads", [(0, 4), (1, 2)])
def test_a_pair_is_read_once_a_time_that_it_is_shown(tmp_path, monkeypatch, cache_mb, loads):
    """Two steps of the one pair: each side once a step, or once in all with a cache."""
    for side in ("trainA", "trainB"):
        _write(tmp_path / side, "a.png", 40, 40)
    settings = Settings.of(dataset=str(tmp_path), preprocess="crop", crop_size_px=32, cache_mb=cache_mb)
    data = open_dataset(settings)
    read, domain = [], type(data.source)
    load = domain.load
    monkeypatch.setattr(domain, "load", lambda self, index: read.append(self.paths[index]) or load(self, index))
    stream = TrainingStream(data, settings.data, seed=0, paired=True)
    for position in range(2):
        source, target = stream.pair_at(position)
        np.testing.assert_array_equal(source, stream.crop_at(position, 0) if cache_mb else source)
        assert source.shape == target.shape == (32, 32, 3)
    assert len(read) == loads


def test_a_clear_photograph_of_many_hazes_is_kept_once(tmp_path):
    for name in ("a.png", "b.png"):
        _write(tmp_path, name, 40, 40)
    data = open_dataset(Settings.of(dataset=f"hazed:{tmp_path}", preprocess="crop", crop_size_px=32, haze_variants=4))
    hazy, clear = data.pairs
    assert len(hazy) == len(clear) == 8
    assert len({hazy.key(index) for index in range(8)}) == 8 and len({clear.key(index) for index in range(8)}) == 2


def test_encoded_pictures_are_found_again_in_any_order(tmp_path):
    encoded = []
    for number in range(3):
        _write(tmp_path, f"{number}.png", 20 + number, 30)
        encoded.append((tmp_path / f"{number}.png").read_bytes())
    domain = EncodedDomain("some/split", iter(encoded))
    assert len(domain) == 3
    for index in (2, 0, 1):
        assert domain.size(index) == (20 + index, 30) and domain.load(index).shape == (30, 20 + index, 3)
        assert domain.origin(index) == (f"tfds:some/split image {index}", len(encoded[index]))


def test_refused_pictures_leave_no_run_folder(tmp_path, tiny_settings):
    from cut_tf.training.trainer import Run

    for side in ("trainA", "trainB"):
        _write(tmp_path / side, "small.png", 20, 16)
    values = {"dataset": str(tmp_path), "preprocess": "none", "run": str(tmp_path / "run"), "batch_size": 1}
    with pytest.raises(InputError, match="at least 24 px with --preprocess=none and --discriminator_layers=3, found 2"):
        Run(tiny_settings(**values))
    assert not (tmp_path / "run").exists()
    Run(tiny_settings(**values, method="paired"))  # judges nothing


def test_seeds_are_those_that_numpy_takes():
    np.random.RandomState(Settings.of(seed=2**32 - 1).train.seed)
    with pytest.raises(InputError, match=r"--seed must be below 2\^32 \(4294967296\), found 4294967296"):
        Settings.of(seed=2**32)
