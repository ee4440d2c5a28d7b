"""One picture per domain, and crops of it in random reductions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.pipeline import TrainingStream, load_test_images
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import Settings

_WIDTH, _HEIGHT = 200, 150


def _waves(height: int, width: int) -> np.ndarray:
    """Smooth, and different everywhere."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([128 + 100 * np.sin(rows / (9 + channel) + columns / 13 * (channel - 1)) for channel in range(3)],
                    -1).astype(np.uint8)


@pytest.fixture(scope="module", name="settings")
def _settings(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("single")
    Image.fromarray(_waves(_HEIGHT, _WIDTH)).save(folder / "a.png")
    Image.fromarray(255 - _waves(90, 64)).save(folder / "b.png")
    return Settings.of(dataset=f"single:{folder}/a.png,{folder}/b.png", preprocess="zoom_and_crop", crop_size_px=32,
                       load_size_px=100, batch_size=4)


def test_one_picture_each_is_also_the_test_split(settings):
    data = open_dataset(settings)
    assert (len(data.source), len(data.target), data.test_paired, data.pairs) == (1, 1, False, None)
    np.testing.assert_array_equal(data.source.load(0), _waves(_HEIGHT, _WIDTH))
    np.testing.assert_array_equal(data.test_source.load(0), data.source.load(0))
    np.testing.assert_array_equal(data.test_target.load(0), 255 - _waves(90, 64))
    assert "a.png" in data.description and "b.png" in data.description


@pytest.mark.parametrize("size, load_size_px, expected", [
    ((200, 150), 100, (133, 100)), ((150, 200), 100, (100, 133)), ((64, 90), 100, (64, 90)),
    ((200, 100), 100, (200, 100))])
def test_pictures_are_reduced_to_the_load_size_and_never_enlarged(settings, size, load_size_px, expected):
    preprocessing = Preprocessing.of(settings.having(load_size_px=load_size_px).data)
    assert preprocessing.size_after_resize(*size) == expected
    assert preprocessing.resize(np.zeros((size[1], size[0], 3), np.uint8)).shape == (expected[1], expected[0], 3)


def test_crops_are_those_of_the_whole_picture_reduced(settings):
    """The draws by hand, the whole picture reduced by Pillow, then cut: within rounding the same."""
    preprocessing = Preprocessing.of(settings.having(flip=False).data)
    picture = _waves(_HEIGHT, _WIDTH)
    zooms = []
    for seed in range(50):
        crop = preprocessing.crop(picture, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        zooms.append(rng.uniform(1 / 3, 1, size=2))
        width, height = max(round(_WIDTH * zooms[-1][0]), 32), max(round(_HEIGHT * zooms[-1][1]), 32)
        left, top = (int(rng.integers(side - 32 + 1)) for side in (width, height))
        whole = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        expected = whole[top:top + 32, left:left + 32].astype(int)
        assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
        assert np.abs(crop - expected).max() <= 2, seed
    assert np.min(zooms) < 0.4 and np.max(zooms) > 0.93 and np.corrcoef(np.transpose(zooms))[0, 1] < 0.5


def test_a_picture_as_small_as_the_crop_is_seen_whole(settings):
    picture = _waves(32, 32)
    preprocessing = Preprocessing.of(settings.having(flip=False).data)
    np.testing.assert_array_equal(preprocessing.crop(picture, np.random.default_rng(0)), picture)


def test_crops_depend_on_seed_and_position_alone_and_a_resumed_stream_goes_on(settings):
    data = open_dataset(settings)
    streams = [TrainingStream(data, settings.data, seed=3) for _ in range(2)]
    assert streams[0].steps_per_epoch() == 1
    batches = list(streams[0].dataset(0).take(3).as_numpy_iterator())
    resumed = next(streams[1].dataset(2).as_numpy_iterator())
    for name in ("source", "target"):
        assert batches[2][name].shape == (4, 32, 32, 3)
        np.testing.assert_array_equal(resumed[name], batches[2][name])
        assert len(np.unique(np.concatenate([batch[name] for batch in batches]).reshape(12, -1), axis=0)) == 12
    other = TrainingStream(data, settings.data, seed=4).crop_at(0, 0)
    assert np.any(other != streams[0].crop_at(0, 0))


def test_each_picture_is_decoded_once(settings, monkeypatch):
    data = open_dataset(settings)
    stream, loads = TrainingStream(data, settings.data, seed=0), []
    load = type(data.source).load
    monkeypatch.setattr(type(data.source), "load", lambda self, index: loads.append(index) or load(self, index))
    for position in range(20):
        stream.crop_at(position, 0)
        stream.crop_at(position, 1)
    assert len(loads) == 2


def test_test_pictures_have_the_size_that_training_saw(settings):
    (picture,) = load_test_images(open_dataset(settings).test_source, settings.data)
    assert picture.shape == (100, 133, 3)


@pytest.mark.parametrize("dataset, message", [
    ("single:", "must be single:SOURCE_FILE,TARGET_FILE with one picture each, found 'single:'"),
    ("single:{a}", "must be single:SOURCE_FILE,TARGET_FILE"), ("single:{a},{a},{a}", "with one picture each"),
    ("single:{a},no_such.jpg", "found no file 'no_such.jpg' in 'single:"),
    ("single:{a},{broken}", "broken.png: must be a complete"),
])
def test_bad_files_are_named(settings, tmp_path, dataset, message):
    broken = tmp_path / "broken.png"
    broken.write_text("no picture", encoding="utf-8")
    a_path = Path(settings.data.dataset.split(":", 1)[1].split(",")[0])
    with pytest.raises(InputError, match=message):
        open_dataset(settings.having(dataset=dataset.format(a=a_path, broken=broken)))


def test_pictures_smaller_than_the_crop_are_refused(settings):
    with pytest.raises(InputError, match="b.png: sides must be at least the crop of 80 px with --preprocess=zoom_and_"):
        open_dataset(settings.having(crop_size_px=80))
