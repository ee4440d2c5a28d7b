"""Photographs hazed while they are read, training pairs, and joined datasets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings


@pytest.fixture
def photographs(tmp_path):
    """Folder of five smooth photographs, another of two."""
    for folder, count in (("clear", 5), ("test", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            ramp = np.linspace(0, 100 + 20 * number, 40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8)
            Image.fromarray(ramp).save(tmp_path / folder / f"{folder}_{number}.png")
    return tmp_path


def _settings(dataset: str, **overrides: object) -> Settings:
    return Settings.of(dataset=dataset, preprocess="crop", crop_size_px=24, load_size_px=24, batch_size=2,
                       **overrides)


def test_halves_pairs_and_tests(photographs):
    data = open_dataset(_settings(f"hazed:{photographs}/clear,{photographs}/test", haze_variants=3))
    assert len(data.source) == 3 * 3 and len(data.target) == 2
    names = {data.source.name(index) for index in range(9)}
    assert len(names) == 3 and not names & {data.target.name(index) for index in range(2)}
    hazy, clear = data.pairs
    assert len(hazy) == len(clear) == 15
    assert [hazy.name(index) for index in range(15)] == [clear.name(index) for index in range(15)]
    assert data.test_paired and len(data.test_source) == 2
    for one, other in ((hazy, clear), (data.test_source, data.test_target)):
        # Haze is brighter than these dark pictures.
        for index in range(len(one)):
            assert one.load(index).mean() > other.load(index).mean() + 10


def test_every_haze_of_a_photograph_is_another_and_stays(photographs):
    hazy, clear = open_dataset(_settings(f"hazed:{photographs}/clear", haze_variants=2)).pairs
    assert np.any(hazy.load(0) != hazy.load(5))
    np.testing.assert_array_equal(clear.load(0), clear.load(5))
    np.testing.assert_array_equal(hazy.load(0), open_dataset(_settings(f"hazed:{photographs}/clear")).pairs[0].load(0))


def test_pairs_are_cropped_and_mirrored_alike(photographs):
    """A pixel of the crop of the clear picture tells where it was cut: the hazy crop comes from the same place."""
    settings = _settings(f"hazed:{photographs}/clear")
    data = open_dataset(settings)
    stream = TrainingStream(data, settings.data, seed=1, paired=True)
    hazy, clear = ([domain.load(index) for index in range(len(domain))] for domain in data.pairs)
    for position in range(12):
        crops = [stream.crop_at(position, domain) for domain in (0, 1)]
        places = [(index, top, left, mirrored) for index, picture in enumerate(clear)
                  for top in range(17) for left in range(7) for mirrored in (1, -1)
                  if np.array_equal(picture[top:top + 24, left:left + 24][:, ::mirrored], crops[1])]
        assert any(np.array_equal(hazy[index][top:top + 24, left:left + 24][:, ::mirrored], crops[0])
                   for index, top, left, mirrored in places), position


def test_dusk_is_in_the_clear_partner_too_and_in_the_other_half(photographs):
    settings = _settings(f"hazed:{photographs}/clear,{photographs}/test", haze_variants=2, haze_preset="real",
                         gamma_probability=1.0, gamma_min=2.0, gamma_max=2.0, clear_probability=0.0)
    data = open_dataset(settings)
    plain = open_dataset(_settings(f"hazed:{photographs}/clear,{photographs}/test", haze_variants=2))
    assert len(data.target) == 2 * len(plain.target) == 4 and len(data.source) == len(plain.source)
    for domain, bright in ((data.pairs[1], plain.pairs[1]), (data.test_target, plain.test_target)):
        for index in range(len(domain)):
            expected = 255 * (bright.load(index) / 255.0) ** 2.0
            assert np.abs(domain.load(index) - expected).max() <= 0.501
    assert np.abs(data.target.load(0) - 255 * (plain.target.load(0) / 255.0) ** 2.0).max() <= 0.501


def test_pictures_without_haze_are_for_training_alone(photographs):
    data = open_dataset(_settings(f"hazed:{photographs}/clear,{photographs}/test", clear_probability=1.0))
    hazy, clear = data.pairs
    for index in range(len(hazy)):
        np.testing.assert_array_equal(hazy.load(index), clear.load(index))
    for index in range(2):
        assert np.any(data.test_source.load(index) != data.test_target.load(index))


def test_a_folder_of_depths_decides_where_haze_is(photographs, tmp_path):
    (tmp_path / "maps").mkdir()
    stems = [f"clear_{number}" for number in range(5)] + ["test_0", "test_1"]
    for stem in stems:
        depth_m = np.full((40, 30), 5.0, np.float32)
        depth_m[:, :15] = 60.0
        np.save(tmp_path / "maps" / f"{stem}.npy", depth_m)
    data = open_dataset(_settings(f"hazed:{photographs}/clear,{photographs}/test", depth=str(tmp_path / "maps")))
    for hazy, clear in (data.pairs, (data.test_source, data.test_target)):
        change = np.abs(hazy.load(0).astype(int) - clear.load(0)).mean(axis=(0, 2))
        # Twelve times the distance: far more haze, and a step between the columns 14 and 15.
        assert change[:15].min() > 2 * change[15:].max()
    (tmp_path / "maps" / "test_1.npy").unlink()
    with pytest.raises(InputError, match=r"--depth=.*found none for 1 of 2: test_1"):
        open_dataset(_settings(f"hazed:{photographs}/clear,{photographs}/test", depth=str(tmp_path / "maps")))
    np.save(tmp_path / "maps" / "clear_0.npy", np.zeros((40, 30), np.float32))
    data = open_dataset(_settings(f"hazed:{photographs}/clear", depth=str(tmp_path / "maps")))
    with pytest.raises(InputError, match=r"clear_0\.png: cannot be hazed with its depths"):
        data.pairs[0].load(0)


def test_test_pictures_get_the_presets_in_turn(photographs):
    folders = f"hazed:{photographs}/clear,{photographs}/test"
    both, mild, reside = (open_dataset(_settings(folders, haze_preset=preset)).test_source
                          for preset in ("mild,reside", "mild", "reside"))
    np.testing.assert_array_equal(both.load(0), mild.load(0))
    np.testing.assert_array_equal(both.load(1), reside.load(1))
    assert np.any(mild.load(1) != reside.load(1))


@pytest.mark.parametrize("dataset, message", [
    ("hazed:", "must be hazed:CLEAR_DIR or hazed:CLEAR_DIR,TEST_DIR"),
    ("hazed:a,b,c", "must be hazed:CLEAR_DIR or hazed:CLEAR_DIR,TEST_DIR"),
    ("hazed:{}/nothing", "nothing"),
])
def test_bad_folders_are_named(photographs, dataset, message):
    with pytest.raises(InputError, match=message):
        open_dataset(_settings(dataset.format(photographs)))


def test_unpaired_data_is_refused_for_methods_that_need_pairs(photographs):
    settings = _settings(f"{photographs}/clear,{photographs}/test")
    with pytest.raises(InputError, match="--dataset must have training pictures in pairs for this --method .* found "):
        TrainingStream(open_dataset(settings), settings.data, seed=0, paired=True)


def test_pairs_of_different_sizes_are_named(tmp_path):
    for folder, size in (("trainA", (40, 30)), ("trainB", (30, 40))):
        (tmp_path / folder).mkdir()
        Image.new("RGB", size).save(tmp_path / folder / "one.png")
    settings = _settings(str(tmp_path))
    with pytest.raises(InputError, match="training pair must have one size .*\n.*one.png 40x30, .*one.png 30x40"):
        TrainingStream(open_dataset(settings), settings.data, seed=0, paired=True)
    # The file is replaced while the run goes on.
    Image.new("RGB", (40, 30)).save(tmp_path / "trainB" / "one.png")
    stream = TrainingStream(open_dataset(settings), settings.data, seed=0, paired=True)
    Image.new("RGB", (30, 40)).save(tmp_path / "trainB" / "one.png")
    with pytest.raises(InputError, match="one.png and one.png: pictures of a pair must have one size, found 40x30 and "
                                         "30x40"):
        stream.pair_at(0)


def test_joined_datasets_show_the_pictures_of_all(photographs):
    data = open_dataset(_settings(f"scenes+hazed:{photographs}/clear,{photographs}/test", scenes_images=3,
                                  scenes_size_px=32, haze_variants=1))
    assert len(data.source) == 3 + 3 and len(data.target) == 3 + 2
    assert len(data.pairs[0]) == len(data.pairs[1]) == 6 + 5
    assert len(data.test_source) == len(data.test_target) == 48 + 2 and data.test_paired
    names = [data.pairs[0].name(index) for index in range(11)]
    assert names[5].startswith("scene_") and names[6:] == [f"clear_{number}.png" for number in range(5)]
    assert data.test_target.load(49).shape == (40, 30, 3)
    with pytest.raises(IndexError):
        data.test_target.load(50)


def test_a_join_without_pairs_everywhere_has_none(photographs):
    data = open_dataset(_settings(f"scenes+{photographs}/clear,{photographs}/test", scenes_size_px=32))
    assert data.pairs is None and len(data.test_source) == 48
