"""The dataset haze_pairs, built for real from tiny photographs, without any network."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.haze.recipe import HazeRecipe, haze_photograph
from cut_tf.data.image_files import read_image
from cut_tf.settings import Settings

pytest.importorskip("importlib_resources", reason="needed by TensorFlow Datasets 4.9.10 to prepare a dataset")
pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
import tensorflow_datasets as tfds

import cut_tf.data.haze.tfds_builder  # noqa: F401  registers the name `haze_pairs`

ROOT = Path(__file__).parents[3]


def _photographs(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (18 + number, 24, 3), dtype=np.uint8)).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(name="clear")
def _clear(tmp_path: Path) -> Path:
    return _photographs(tmp_path / "clear", 4)


def _built(tmp_path: Path, clear: Path | str, name: str = "tfds", download_config: object = None, **haze: object):
    builder = tfds.builder("haze_pairs", clear_folder=str(clear), data_dir=str(tmp_path / name), **haze)
    builder.download_and_prepare(download_config=download_config)
    return builder


def _examples(builder: object, split: str) -> dict[str, dict]:
    """Examples by name, as numpy."""
    examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
    found = {example["name"].decode(): example for example in examples}
    assert len(found) == len(examples)
    return found


def test_every_example_is_what_the_recipe_makes(tmp_path, clear):
    builder = _built(tmp_path, clear, seed=1, nonhomogeneous=0.5)
    splits = {split: _examples(builder, split) for split in ("trainA", "trainB", "testA", "testB")}
    assert {split: len(examples) for split, examples in splits.items()} == {
        "trainA": 2, "trainB": 1, "testA": 1, "testB": 1}
    assert set(splits["testA"]) == set(splits["testB"])
    everything = {**splits["trainA"], **splits["trainB"], **splits["testA"]}
    assert sorted(everything) == [f"p{number}.png" for number in range(4)]
    for name, example in everything.items():
        expected = haze_photograph(clear / name, HazeRecipe(seed=1, nonhomogeneous=0.5))
        np.testing.assert_array_equal(example["source"], expected.hazy)
        np.testing.assert_array_equal(example["target"], read_image(clear / name))
        assert example["beta"] == pytest.approx(expected.record["beta_per_m"])
        np.testing.assert_allclose(example["airlight"], expected.record["airlight"])
    assert builder.info.metadata["seed"] == 1 and builder.info.metadata["nonhomogeneous"] == 0.5


def test_every_test_picture_gets_haze(tmp_path, clear):
    builder = _built(tmp_path, clear, clear_probability=1.0)
    for name, example in _examples(builder, "testA").items():
        assert np.abs(example["source"].astype(int) - example["target"]).mean() > 5, name


def test_given_test_photographs_and_depth_maps(tmp_path):
    clear = tmp_path / "clear"
    _photographs(clear / "train", 3)
    _photographs(clear / "test", 2, first=7)
    for part, numbers in (("train", range(3)), ("test", (7, 8))):
        (tmp_path / "depth" / part).mkdir(parents=True)
        for number in numbers:
            np.save(tmp_path / "depth" / part / f"p{number}.npy", np.full((18 + number, 24), 10.0 + number, np.float32))
    builder = _built(tmp_path, clear, depth=str(tmp_path / "depth"), beta_min=0.05, beta_max=0.05, airlight_min=0.8,
                     airlight_max=0.8)
    assert sorted(_examples(builder, "testA")) == ["p7.png", "p8.png"]
    for split in ("trainA", "trainB", "testB"):
        for name, example in _examples(builder, split).items():
            share = np.exp(-0.05 * (10.0 + int(name[1])))
            expected = example["target"] * share + 255 * 0.8 * (1 - share)
            assert np.abs(example["source"] - expected).max() <= 0.501


def test_training_opens_it_by_name(tmp_path, clear, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    _built(tmp_path, clear, seed=2)
    data = open_dataset(Settings.of(dataset="tfds:haze_pairs"))
    assert data.test_paired and data.description == "tfds:haze_pairs: 2 trainA, 1 trainB, 1 testA, 1 testB"
    hazed = {haze_photograph(path, HazeRecipe(seed=2)).hazy.tobytes(): path for path in clear.iterdir()}
    clear_ones = {read_image(path).tobytes(): path for path in clear.iterdir()}
    sources = {hazed[data.source.load(index).tobytes()] for index in range(2)}
    target = clear_ones[data.target.load(0).tobytes()]
    tested = hazed[data.test_source.load(0).tobytes()]
    assert clear_ones[data.test_target.load(0).tobytes()] == tested
    assert sources | {target, tested} == set(clear.iterdir())


def test_test_pairs_keep_together(tmp_path, monkeypatch):
    """TensorFlow Datasets shuffles each split in its own way, and testB has another order than testA."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    _photographs(tmp_path / "clear" / "train", 2)
    _photographs(tmp_path / "clear" / "test", 8, first=2)
    _built(tmp_path, tmp_path / "clear")
    data = open_dataset(Settings.of(dataset="tfds:haze_pairs"))
    heights = [(data.test_source.load(index).shape[0], data.test_target.load(index).shape[0]) for index in range(8)]
    assert all(source == target for source, target in heights) and len(set(heights)) == 8


def test_photographs_in_the_manual_folder(tmp_path, clear):
    clear.rename(tmp_path / "haze_pairs")
    builder = tfds.builder("haze_pairs", data_dir=str(tmp_path / "tfds"))
    config = tfds.download.DownloadConfig(manual_dir=str(tmp_path))
    # Other things beside the photographs' folder do not matter.
    builder.download_and_prepare(download_config=config)
    assert len(_examples(builder, "trainA")) == 2


def test_data_of_another_recipe_is_refused(tmp_path, clear):
    _built(tmp_path, clear, seed=1)
    again = _built(tmp_path, clear, seed=1)
    assert len(_examples(again, "trainA")) == 2
    with pytest.raises(InputError, match="was made with another recipe: seed 1 against 2"):
        tfds.builder("haze_pairs", data_dir=str(tmp_path / "tfds"), seed=2)
    with pytest.raises(InputError, match=r"clear_folder '.*clear' against '.*elsewhere'"):
        _built(tmp_path, tmp_path / "elsewhere", seed=1)


def test_a_pickled_builder_keeps_its_recipe(tmp_path, clear):
    builder = tfds.builder("haze_pairs", clear_folder=str(clear), data_dir=str(tmp_path / "tfds"), seed=4)
    copy = pickle.loads(pickle.dumps(builder))
    copy.download_and_prepare()
    assert copy.info.metadata["seed"] == 4 and copy.info.metadata["clear_folder"] == str(clear)


@pytest.mark.parametrize("haze, message", [
    ({"seed": -1}, "--seed must be an integer, zero or more, found -1"),
    ({"density": 1.0}, "either recipe or some of seed, beta_min, .*, found density"),
    ({"recipe": HazeRecipe(), "seed": 1}, "either recipe or some of .*, found both"),
])
def test_bad_arguments_are_named(tmp_path, clear, haze, message):
    with pytest.raises(InputError, match=message):
        tfds.builder("haze_pairs", clear_folder=str(clear), data_dir=str(tmp_path / "tfds"), **haze)


def test_nothing_is_left_of_a_dataset_that_cannot_be_built(tmp_path, clear):
    (clear / "p2.png").write_bytes((clear / "p2.png").read_bytes()[:100])
    with pytest.raises(InputError, match=r"p2\.png"):
        _built(tmp_path, clear)
    assert not list((tmp_path / "tfds").rglob("*.tfrecord*"))
    two = _photographs(tmp_path / "two", 2)
    with pytest.raises(InputError, match="needs two photographs for training and one for testing, found 1 and 1"):
        _built(tmp_path, two)
    with pytest.raises(InputError, match="must have a depth map .* found none for 3 of 3: "):
        _built(tmp_path, clear, depth=str(tmp_path))


def test_beam_writes_the_same_examples(tmp_path, clear):
    pytest.importorskip("apache_beam", reason="Apache Beam is optional (pip install apache-beam)")
    from apache_beam.options.pipeline_options import PipelineOptions

    plain = _built(tmp_path, clear, seed=1)
    options = PipelineOptions(["--runner=DirectRunner", "--direct_num_workers=1"])
    beam = _built(tmp_path, clear, "beam", tfds.download.DownloadConfig(beam_options=options), seed=1)
    assert beam.info.splits["trainA"].num_examples == 2
    for split in ("trainA", "trainB", "testA", "testB"):
        expected, found = _examples(plain, split), _examples(beam, split)
        assert set(expected) == set(found)
        for name, example in found.items():
            for feature, value in example.items():
                np.testing.assert_array_equal(value, expected[name][feature], err_msg=f"{name} {feature}")


def test_beam_is_used_only_when_asked_for(tmp_path, clear, monkeypatch):
    builder = tfds.builder("haze_pairs", clear_folder=str(clear), data_dir=str(tmp_path / "tfds"))
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # importing it then raises ImportError
    with pytest.raises(ImportError, match="apache_beam"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_runner="DirectRunner"))
    builder.download_and_prepare()
    assert len(_examples(builder, "trainA")) == 2


def test_importing_the_package_does_not_import_tensorflow_datasets():
    code = "import sys, cut_tf.data, cut_tf.data.haze.recipe; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=900, check=False).returncode == 0
