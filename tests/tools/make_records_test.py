"""The command that writes records."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.files import only_process
from cut_tf.data import open_dataset
from cut_tf.settings import Settings
from tests import warm_process


@pytest.fixture(name="folder")
def _folder(tmp_path):
    for name in ("trainA", "trainB"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            picture = np.random.default_rng(number).integers(0, 256, (40, 52, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / name / f"{name}{number}.png")
    return tmp_path


def _run(folder, *flags):
    return warm_process.run(["-m", "tools.make_records", "--input=photos", "--output=records", *flags], folder)


def test_a_folder_becomes_records_and_again_nothing_is_written(folder):
    for written in (2, 0):
        done = _run(folder)
        assert done.returncode == 0, done.stderr
        assert f"2 shards in {folder / 'records'}, {written} of them written now: " in done.stdout
        assert "--dataset=records:records" in done.stdout
    data = open_dataset(Settings.of(dataset=f"records:{folder / 'records'}", load_size_px=32, crop_size_px=32))
    assert (len(data.source), len(data.target), data.test_source) == (2, 2, None)


def test_a_dataset_of_another_form_with_its_settings(folder):
    given = ["--input=hazed:photos/trainA", "--set=haze_variants=1", "--set=haze_preset=reside", "--paired"]
    done = _run(folder, *given)
    assert done.returncode == 0, done.stderr
    index = json.loads((folder / "records" / "index.json").read_text())
    assert index["dataset"] == "hazed:photos/trainA haze_preset=reside haze_variants=1"
    settings = Settings.of(preprocess="none", haze_variants=1, haze_preset="reside")
    made = open_dataset(settings.having(dataset=f"hazed:{folder / 'photos' / 'trainA'}"))
    stored = open_dataset(settings.having(dataset=f"records:{folder / 'records'}"))
    for one, other in zip(made.pairs, stored.pairs):
        np.testing.assert_array_equal(other.load(1), one.load(1))


@pytest.mark.parametrize("flags, message", [
    (["--shards=2", "--max_mb_per_shard=3"], "--max_mb_per_shard must not be given with --shards, found 3"),
    (["--set=ngf=8"], "--set must be flags that --input reads, found ngf, which --input=photos does not"),
    (["--set=dataset=other"], "--set must be flags that --input reads, found dataset"),
    (["--set=haze_variants=2"], "--set must be flags that --input reads, found haze_variants"),
    (["--set=no_such=1"], "--set must be flags of cut_tf.train, found Unknown command line flag 'no_such'"),
    (["--input=nowhere"], "--dataset must be a folder with trainA and trainB, found no folder nowhere"),
    (["left"], "arguments must be flags, found left")])
def test_bad_flags_are_told_in_one_line(folder, flags, message):
    done = _run(folder, *flags)
    assert done.returncode == 2 and f"error: {message}" in done.stderr, done.stderr
    assert not (folder / "records").exists()


def test_what_a_killed_process_had_begun_is_removed_and_files_of_others_stay(folder):
    begun, other = folder / "records" / f".{'0a' * 16}.tmp", folder / "records" / ".mine.tmp"
    begun.parent.mkdir()
    for path in (begun, other):
        path.write_bytes(b"half")
    for there in (True, False):  # the folder may be that of another program until it has a plan
        done = _run(folder)
        assert done.returncode == 0, done.stderr
        assert begun.exists() == there and other.exists()


def test_a_second_process_is_refused(folder):
    (folder / "records").mkdir()
    with only_process(folder / "records", "it"):
        done = _run(folder)
    assert done.returncode == 2
    assert f"error: --output={folder / 'records'} must be written by one process at a time, found" in done.stderr
    assert not list((folder / "records").iterdir())
