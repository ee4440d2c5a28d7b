"""What every form of --dataset keeps to: walks the table `DATASETS`, so that a new one is tested too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import DATASETS, open_dataset
from cut_tf.data.domain import Domain, TranslationData, encoded_bytes, encoded_picture
from cut_tf.data.image_files import decode_image, image_size
from cut_tf.data.pipeline import TrainingStream
from cut_tf.data.record_writing import splits_of, write_records
from cut_tf.settings import Settings


def _save(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        Image.fromarray(rng.integers(0, 256, (40, 52, 3), np.uint8)).save(folder / name)


def _scenes(folder: Path) -> str:
    return "scenes"


def _folder(folder: Path) -> str:
    for split in ("trainA", "trainB", "testA", "testB"):
        _save(folder / split, "a.png", "b.jpg", "c.bmp")
    return str(folder)


def _two_folders(folder: Path) -> str:
    _save(folder / "one", "a.png", "b.png")
    _save(folder / "other", "c.png", "d.png", "e.png")
    return f"{folder / 'one'},{folder / 'other'}"


def _haze(folder: Path) -> str:
    _save(folder / "hazy", "1_1.png", "1_2.png", "2_1.png")
    _save(folder / "clear", "1.png", "2.png")
    return f"haze:{folder}"


def _hazed(folder: Path) -> str:
    _save(folder / "clear", "a.png", "b.png", "c.png")
    return f"hazed:{folder / 'clear'}"


def _single(folder: Path) -> str:
    _save(folder, "painting.png", "photo.png")
    return f"single:{folder / 'painting.png'},{folder / 'photo.png'}"


def _records(folder: Path) -> str:
    pictures = _folder(folder.with_name("pictures"))
    splits = splits_of(open_dataset(Settings.of(dataset=pictures, preprocess="none")), False)
    write_records(splits, str(folder), pictures, 2, 0, 1)
    return f"records:{folder}"


# How to make one of each form; tfds: is opened with the made-up data of TensorFlow Datasets, see `_opened`.
_MADE: dict[str, Callable[[Path], str]] = {
    "scenes": _scenes, "rooms": lambda folder: "rooms", "folder": _folder, "two_folders": _two_folders,
    "haze": _haze, "hazed": _hazed, "records": _records,
    "single": _single, "tfds": lambda folder: "tfds:cycle_gan/horse2zebra"}


@pytest.fixture(scope="module", params=DATASETS, name="opened")
def _opened(request, tmp_path_factory) -> tuple[Settings, TranslationData]:
    folder = tmp_path_factory.mktemp(request.param) / "data"
    settings = Settings.of(dataset=_MADE[request.param](folder), load_size_px=28, crop_size_px=24, scenes_images=4,
                           scenes_size_px=32, batch_size=2)
    if request.param != "tfds":
        return settings, open_dataset(settings)
    tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    with pytest.MonkeyPatch.context() as patch, tfds.testing.mock_data(num_examples=3):
        patch.setenv("TFDS_DATA_DIR", str(folder))
        patch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
        return settings, open_dataset(settings)


def _domains(data: TranslationData) -> list[Domain]:
    tests = [domain for domain in (data.test_source, data.test_target) if domain is not None]
    return [data.source, data.target, *tests, *(data.pairs or ())]


def test_every_picture_has_a_name_a_place_and_the_size_that_its_header_tells(opened):
    for domain in _domains(opened[1]):
        assert len(domain) > 0
        for index in range(min(len(domain), 4)):
            picture = domain.load(index)
            assert picture.dtype == np.uint8 and picture.shape[2:] == (3,)
            assert domain.size(index) == (picture.shape[1], picture.shape[0])
            place, file_bytes = domain.origin(index)
            assert domain.name(index) and place and file_bytes >= 0
            np.testing.assert_array_equal(domain.load(index), picture)


def test_every_picture_can_be_stored_as_a_file(opened):
    for domain in _domains(opened[1]):
        for index in range(min(len(domain), 2)):
            data = encoded_picture(domain, index)
            np.testing.assert_array_equal(decode_image(data, "stored"), domain.load(index))
            assert image_size(data, "stored") == domain.size(index)
            width, height = domain.size(index)
            assert encoded_bytes(domain, index) in (len(data), 3 * width * height)
            assert encoded_bytes(domain, index) > 0.9 * len(data) - 1000  # a PNG of noise is larger than its pixels


def test_equal_keys_are_equal_pictures(opened):
    for domain in _domains(opened[1]):
        first: dict[object, np.ndarray] = {}
        for index in range(len(domain)):
            picture = domain.load(index)
            np.testing.assert_array_equal(first.setdefault(domain.key(index), picture), picture)


def test_pairs_have_equal_lengths_and_sizes(opened):
    data = opened[1]
    tests = [(data.test_source, data.test_target)] if data.test_paired else []
    for one, other in [*tests, *([data.pairs] if data.pairs else [])]:
        assert len(one) == len(other)
        assert [one.size(index) for index in range(len(one))] == [other.size(index) for index in range(len(other))]


def test_training_shows_every_picture_and_begins_anywhere(opened):
    settings, data = opened
    stream = TrainingStream(data, settings.data, seed=1)
    steps = stream.steps_per_epoch()
    assert steps == max(max(len(data.source), len(data.target)) // 2, 1)
    batches = [batch for _, batch in zip(range(3), stream.dataset(0))]
    for batch in batches:
        for crops in batch.values():
            assert crops.shape == (2, 24, 24, 3) and np.abs(crops).max() <= 1.0
    later = next(iter(TrainingStream(data, settings.data, seed=1).dataset(2)))
    for name, crops in later.items():
        np.testing.assert_array_equal(crops, batches[2][name])
    for place, domain in enumerate(stream.domains):
        shown = {stream._index_at(position, place) for position in range(len(domain))}
        assert shown == set(range(len(domain)))


@pytest.mark.parametrize("form", [form for form in DATASETS if form not in ("scenes", "rooms", "tfds")])
def test_nothing_there_is_an_error_that_names_it(form, tmp_path):
    spec = _MADE[form](tmp_path / "made").replace(str(tmp_path / "made"), str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere"):
        open_dataset(Settings.of(dataset=spec, preprocess="crop", crop_size_px=24))
