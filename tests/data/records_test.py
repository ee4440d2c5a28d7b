"""TFRecord shards: written, read by TensorFlow's own reader, damaged, changed, interrupted, behind a URL."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.batch.records import read_samples
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset, record_writing
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings

_PICTURES = {"trainA": ("a.png", "b.jpg", "c.png", "d.png", "e.png"), "trainB": ("u.png", "v.png", "w.png"),
             "testA": ("x.png", "y.png"), "testB": ("x.jpg", "y.png")}
_PAIRS = {"trainA": ("a.png", "b.png", "c.png"), "trainB": ("a.jpg", "b.png", "c.png")}


def _save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 52, 3), np.uint8)).save(path)


def _photos(folder: Path, names=None) -> Path:
    for split, files in (names or _PICTURES).items():
        for number, name in enumerate(files):
            _save(folder / split / name, hash_of(f"{split}{number}"))
    return folder


def hash_of(text: str) -> int:
    """The same number in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _write(photos, folder, shards=2, max_mb=0, paired=False, dataset="photos") -> int:
    data = open_dataset(Settings.of(dataset=str(photos), preprocess="none"))
    return record_writing.write_records(record_writing.splits_of(data, paired), str(folder), dataset, shards, max_mb, 2)


def _settings(dataset, **values) -> Settings:
    return Settings.of(dataset=str(dataset), load_size_px=36, crop_size_px=32, batch_size=2, **values)


def _open(folder, **values):
    return open_dataset(_settings(f"records:{folder}", **values))


@pytest.fixture(name="records")
def _records(tmp_path) -> Path:
    _write(_photos(tmp_path / "photos"), tmp_path / "records")
    return tmp_path / "records"


def test_shards_and_their_index(records):
    assert sorted(path.name for path in records.iterdir() if path.suffix == ".tfrecord") == sorted(
        f"{split}-0000{number}-of-00002.tfrecord" for split in ("trainA", "trainB", "test") for number in (0, 1))
    index = json.loads((records / "index.json").read_text())
    assert {name: split["count"] for name, split in index["splits"].items()} == {"trainA": 5, "trainB": 3, "test": 2}
    for split in index["splits"].values():
        assert sum(shard["count"] for shard in split["shards"]) == split["count"]
        for shard in split["shards"]:
            data = (records / shard["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["num_bytes"], shard["sha256"])


def test_tensorflows_reader_finds_the_files_bytes(records):
    photos = records.parent / "photos"
    found = {}
    for shard in sorted(records.glob("trainA-*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            name = features["image/filename"].bytes_list.value[0].decode()
            found[name] = features["image/encoded"].bytes_list.value[0]
            assert features["image/sha256"].bytes_list.value[0].decode() == hashlib.sha256(found[name]).hexdigest()
            assert [features[f"image/{side}"].int64_list.value[0] for side in ("height", "width")] == [40, 52]
    assert list(found) == list(_PICTURES["trainA"])
    assert all(found[name] == (photos / "trainA" / name).read_bytes() for name in found)
    keys = [sample.pictures[0].key for shard in sorted(records.glob("test-*.tfrecord"))
            for sample in read_samples("tfrecord", str(shard))]
    assert keys == ["x.png", "y.png"]  # what cut_tf.translate reads


@pytest.mark.parametrize("names, paired", [(_PICTURES, False), (_PAIRS, False), (_PAIRS, True)])
def test_training_sees_what_it_sees_from_the_folder(tmp_path, names, paired):
    photos = _photos(tmp_path / "photos", names)
    _write(photos, tmp_path / "records", shards=3)
    folder, records = open_dataset(_settings(photos)), _open(tmp_path / "records")
    assert (records.pairs is None) == (folder.pairs is None) and records.test_paired == folder.test_paired
    one, other = (TrainingStream(data, _settings("x").data, 7, paired) for data in (folder, records))
    for first in (0, 4):  # from the start, and continued
        for _, expected, found in zip(range(3), one.dataset(first), other.dataset(first)):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])
    context = tf.distribute.InputContext(2, 1, 2)
    for expected, found in zip(one.dataset(1, context).take(2), other.dataset(1, context).take(2)):
        np.testing.assert_array_equal(found["source"], expected["source"])


def test_shards_are_filled_to_the_most_bytes(tmp_path, monkeypatch):
    photos = _photos(tmp_path / "photos")
    sizes = [(photos / "trainA" / name).stat().st_size for name in _PICTURES["trainA"]]
    monkeypatch.setattr(record_writing, "_MIB", 1)
    _write(photos, tmp_path / "records", shards=0, max_mb=sum(sizes[:2]))
    shards = json.loads((tmp_path / "records" / "index.json").read_text())["splits"]["trainA"]["shards"]
    held, at = [], 0
    for shard in shards:
        held.append(sizes[at:at + shard["count"]])
        at += shard["count"]
    assert at == 5 and all(sum(own) <= sum(sizes[:2]) for own in held)
    assert all(sum(own) + following[0] > sum(sizes[:2]) for own, following in zip(held, held[1:]))


def test_an_interrupted_run_goes_on_and_writes_the_same_files(tmp_path, records, monkeypatch):
    whole = {path.name: path.read_bytes() for path in records.iterdir()}
    write, written = record_writing._write_shard, []

    def killed(folder, part):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(part.file)
        write(folder, part)

    monkeypatch.setattr(record_writing, "_write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path / "photos", tmp_path / "again")
    assert not (tmp_path / "again" / "index.json").exists()
    with pytest.raises(InputError, match="written to its end, found one that it has begun"):
        _open(tmp_path / "again")
    monkeypatch.setattr(record_writing, "_write_shard", write)
    assert _write(tmp_path / "photos", tmp_path / "again") == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == whole
    assert _write(tmp_path / "photos", tmp_path / "again") == 0


def test_a_shard_that_is_gone_or_cut_short_is_written_again(records):
    photos = records.parent / "photos"
    whole = {path.name: path.read_bytes() for path in records.iterdir()}
    (records / "trainA-00000-of-00002.tfrecord").unlink()
    (records / "trainB-00001-of-00002.tfrecord").write_bytes(b"cut")
    assert _write(photos, records) == 2
    assert {path.name: path.read_bytes() for path in records.iterdir()} == whole


def test_changed_inputs_are_refused_by_name(records):
    photos = records.parent / "photos"
    before = {path.name: path.read_bytes() for path in records.iterdir()}
    path = photos / "trainA" / "d.png"
    data = path.read_bytes()
    other = bytearray(data)
    other[-20] ^= 1

    def refused(message):
        with pytest.raises(InputError, match=f"must be a new folder or that of the same records, found {message}"):
            _write(photos, records)
        assert {path.name: path.read_bytes() for path in records.iterdir()} == before

    path.write_bytes(bytes(other))  # of the same length
    os.utime(path, ns=(1, 1))
    refused("another picture in trainA: d.png has other bytes now")
    path.write_bytes(data + b"more")
    refused(f"another picture in trainA: d.png had {len(data)} bytes, has {len(data) + 4}")
    path.write_bytes(data)  # touched, with the same bytes
    assert _write(photos, records) == 0
    _save(photos / "trainB" / "new.png", 1)
    refused("another picture in trainB: u.png there, new.png here")
    (photos / "trainB" / "new.png").unlink()
    with pytest.raises(InputError, match="records with other values of --shards"):
        _write(photos, records, shards=1)
    with pytest.raises(InputError, match="another value of --input: photos there, others here"):
        _write(photos, records, dataset="others")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda _: b"", lambda _: b"[]",
                                    lambda data: b"\xff\xfe" + data])
def test_a_damaged_plan_is_named_and_nothing_is_written(records, damage):
    plan = records / record_writing.PLAN
    plan.write_bytes(damage(plan.read_bytes()))
    before = {path.name: path.read_bytes() for path in records.iterdir()}
    with pytest.raises(InputError, match=f"{plan}: must be a plan of tools.make_records, found "):
        _write(records.parent / "photos", records)
    assert {path.name: path.read_bytes() for path in records.iterdir()} == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="must be a new folder or that of the same records, found a.png"):
        _write(_photos(tmp_path / "photos", _PAIRS), tmp_path / "out")


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage, rule", [
    (lambda path: path.unlink(), "must be a readable file, found: No such file"),
    (lambda path: path.write_bytes(path.read_bytes()[:-5]), "must have \\d+ bytes, found \\d+"),
    (lambda path: _flip(path, 600), "must have the checksum \\(SHA-256\\)"),
    (lambda path: _flip(Path(f"{path}.json"), 40), ".json: must"),
])
def test_damage_is_named_before_training(records, damage, rule):
    damage(records / "trainA-00001-of-00002.tfrecord")
    with pytest.raises(InputError, match=f"(?s)must have the shards of its index.json.*trainA-00001-of-00002.*{rule}"):
        _open(records)


def test_without_the_check_damage_is_found_when_the_picture_is_read(records):
    _flip(records / "trainA-00001-of-00002.tfrecord", 600)
    data = _open(records, records_check=False)
    with pytest.raises(InputError, match="trainA-00001-of-00002.tfrecord, record 0, c.png: must have the checksum"):
        data.source.load(2)
    assert data.source.load(0).shape == (40, 52, 3)


def test_the_format_is_that_of_the_bytes(tmp_path):
    """Of hazed photographs the bytes are PNG, whatever the photograph's name."""
    for number in range(2):
        _save(tmp_path / "clear" / f"{number}.jpg", number)
    data = open_dataset(Settings.of(dataset=f"hazed:{tmp_path / 'clear'}", preprocess="none"))
    record_writing.write_records(record_writing.splits_of(data, False), str(tmp_path / "records"), "hazed", 1, 0, 1)
    found = {}
    for path in sorted((tmp_path / "records").glob("*.tfrecord")):
        for text in tf.data.TFRecordDataset(str(path)):
            features = tf.train.Example.FromString(text.numpy()).features.feature
            for side in ("image", "target"):
                if f"{side}/encoded" in features:
                    data = features[f"{side}/encoded"].bytes_list.value[0]
                    found[data[:4]] = features[f"{side}/format"].bytes_list.value[0]
    assert found[b"\x89PNG"] == b"png" and set(found.values()) <= {b"png", b"jpeg"}


@pytest.mark.parametrize("text, rule", [("{", "must be the index"), ("{}", "must be the index"),
                                        ('{"format": 9}', "must have the format 1, found 9"),
                                        ('{"format": 1, "splits": {}}', "must have the split train, or trainA")])
def test_a_damaged_index_is_named(records, text, rule):
    (records / "index.json").write_text(text)
    with pytest.raises(InputError, match=rule):
        _open(records)


def test_pictures_too_small_for_the_crop_are_named(records):
    with pytest.raises(InputError, match="(?s)5 of 5 images cannot be used.*record 0, a.png: sides must be at least"):
        open_dataset(Settings.of(
            dataset=f"records:{records}", preprocess="crop", crop_size_px=48, load_size_px=48))


def test_pairs_are_asked_for_where_there_are_none(tmp_path):
    with pytest.raises(InputError, match="--paired must not be given with a dataset without training pairs"):
        _write(_photos(tmp_path / "photos"), tmp_path / "records", paired=True)


def test_records_and_folders_behind_a_url(tmp_path):
    photos, remote = _photos(tmp_path / "photos"), f"ram://{tmp_path.name}"
    for path in photos.rglob("*.*"):
        places.write_bytes(f"{remote}/photos/{path.relative_to(photos)}", path.read_bytes())
    _write(f"{remote}/photos", f"{remote}/records")
    assert _write(f"{remote}/photos", f"{remote}/records") == 0
    local, folder, records = (open_dataset(_settings(name)) for name in (
        photos, f"{remote}/photos", f"records:{remote}/records"))
    two = open_dataset(_settings(f"{remote}/photos/trainA,{remote}/photos/trainB"))
    for data in (folder, records, two):
        for mine, theirs in ((data.source, local.source), (data.target, local.target)):
            assert [mine.name(index) for index in range(len(mine))] == [
                theirs.name(index) for index in range(len(theirs))]
            np.testing.assert_array_equal(mine.load(1), theirs.load(1))
    batches = [next(iter(TrainingStream(data, _settings("x").data, 3).dataset(0))) for data in (local, records)]
    np.testing.assert_array_equal(batches[0]["target"], batches[1]["target"])
    assert folder.test_paired and records.test_paired
    assert folder.source.origin(0).place == f"{remote}/photos/trainA/a.png"
    with pytest.raises(InputError, match=f"{remote}/none"):
        open_dataset(_settings(f"{remote}/none"))
    shard = f"{remote}/records/trainA-00000-of-00002.tfrecord"
    places.write_bytes(shard, places.read_bytes(shard)[:-1] + b"x")
    with pytest.raises(InputError, match="trainA-00000-of-00002.tfrecord: must have the checksum"):
        open_dataset(_settings(f"records:{remote}/records"))
