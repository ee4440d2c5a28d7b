"""Training pairs of every source of data, cropped, mirrored and turned alike; unpaired pictures each for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.data import open_dataset
from cut_tf.data.domain import TranslationData
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings

_SIDE_PX = 32


def _settings(dataset: object, **overrides: object) -> Settings:
    return Settings.of(**{"dataset": str(dataset), "preprocess": "crop", "crop_size_px": 24, "batch_size": 2,
                          "quarter_turns": True, "scenes_images": 3, "scenes_size_px": _SIDE_PX, **overrides})


def _write(path: Path, scene: int, negative: bool) -> None:
    """Noise of that scene, or its photographic negative, which stands for haze: the pair adds to 255 everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(scene).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    Image.fromarray(255 - pixels if negative else pixels).save(path)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for scene in range(3):
        _write(tmp_path / "trainA" / f"{scene}.png", scene, True)
        _write(tmp_path / "trainB" / f"{scene}.png", scene, False)
    return tmp_path


@pytest.fixture(name="reside")
def _reside(tmp_path: Path) -> Path:
    """Three hazes of each of two clear pictures, and a clear one that has none, named as in RESIDE."""
    for scene in (1, 2):
        for number in range(3):
            _write(tmp_path / "hazy" / f"{scene}_{number + 1}_0.{number + 5}.png", scene, True)
    for scene in (1, 2, 3):
        _write(tmp_path / "clear" / f"{scene}.png", scene, False)
    return tmp_path


def _assert_pairs_add_to_white(data: TranslationData, settings: Settings) -> None:
    stream = TrainingStream(data, settings.data, seed=3, paired=True)
    seen = set()
    for position in range(12):
        source, target = (stream.crop_at(position, domain) for domain in (0, 1))
        assert source.shape == (24, 24, 3)
        np.testing.assert_array_equal(source.astype(int) + target, 255)
        seen.add(source.tobytes())
    assert len(seen) == 12, "crops differ"


def test_a_folder_of_pairs(folder):
    settings = _settings(folder)
    data = open_dataset(settings)
    assert [len(side) for side in data.pairs] == [3, 3]
    _assert_pairs_add_to_white(data, settings)


@pytest.mark.parametrize("renamed", ["trainA/4.png", "trainB/4.png"])
def test_a_folder_with_other_names_has_no_pairs(folder, renamed):
    (folder / renamed).parent.joinpath("0.png").rename(folder / renamed)
    assert open_dataset(_settings(folder)).pairs is None


def test_every_hazy_picture_of_reside_is_a_pair(reside):
    settings = _settings(f"haze:{reside}")
    data = open_dataset(settings)
    assert [len(side) for side in data.pairs] == [6, 6] and len(data.target) == 3
    assert [data.pairs[1].name(index) for index in range(6)] == ["1.png"] * 3 + ["2.png"] * 3
    assert TrainingStream(data, settings.data, 0, paired=True).steps_per_epoch() == 3
    _assert_pairs_add_to_white(data, settings)


def test_scenes_of_both_domains_are_pairs():
    data = open_dataset(_settings("scenes"))
    hazy, clear = data.pairs
    assert [len(side) for side in (hazy, clear)] == [6, 6]
    for index in range(6):
        assert hazy.name(index) == clear.name(index)
    np.testing.assert_array_equal(hazy.load(1), data.source.load(1))
    np.testing.assert_array_equal(clear.load(4), data.target.load(1))
    assert all(np.abs(hazy.load(index) - clear.load(index).astype(float)).mean() > 5 for index in range(6))


def _turn_of(crop: np.ndarray, picture: np.ndarray) -> tuple[bool, int]:
    """Which mirror image and quarter turn of the picture the crop is."""
    fitting = [(mirrored, turns) for mirrored in (False, True) for turns in range(4)
               if np.array_equal(np.rot90(picture[:, ::-1] if mirrored else picture, turns), crop)]
    assert len(fitting) == 1
    return fitting[0]


def _turns(settings: Settings, paired: bool) -> list[list[tuple[bool, int]]]:
    """Mirror image and turn of 40 whole pictures of both sides of the scenes."""
    data = open_dataset(settings)
    stream = TrainingStream(data, settings.data, seed=1, paired=paired)
    sides = data.pairs if paired else (data.source, data.target)
    return [[_turn_of(stream.crop_at(position, side), sides[side].load(0)) for position in range(40)]
            for side in (0, 1)]


def test_pairs_are_turned_alike_and_unpaired_pictures_each_for_itself(tmp_path):
    for side in ("trainA", "trainB"):
        _write(tmp_path / side / "0.png", 0, side == "trainA")
    settings = _settings(tmp_path, crop_size_px=_SIDE_PX, batch_size=1)
    source, target = _turns(settings, paired=True)
    assert source == target and len(set(source)) == 8
    source, target = _turns(settings, paired=False)
    assert len(set(source)) == len(set(target)) == 8
    assert sum(one == other for one, other in zip(source, target)) < 20, "5 of 40 agree by chance"
