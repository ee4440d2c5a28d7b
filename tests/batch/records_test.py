"""Shards of records: read by us and by TensorFlow's and Python's own readers."""

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.batch.inputs import TAR, TFRECORD
from cut_tf.batch.records import Picture, Result, Sample, TarWriter, TFRecordWriter, read_samples
from cut_tf.common.errors import InputError


def _png(level=0):
    file = io.BytesIO()
    Image.fromarray(np.full([18, 20, 3], level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _tar(path, members):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_sample_of_a_tar_is_what_agrees_up_to_the_first_dot(tmp_path, name):
    place = _tar(tmp_path / name, [("./a/0001.left.jpg", b"l"), ("./a/0001.right.jpg", b"r"), ("./a/0001.json", b"{}"),
                                   ("b/0001.png", b"p"), ("b/0002.txt", b"alone"), ("b/0003.cls", b"3"),
                                   ("b/0003.jpg", b"q")])
    samples = list(read_samples(TAR, place))
    assert [[(picture.key, picture.data) for picture in sample.pictures] for sample in samples] == [
        [("a/0001.left.jpg", b"l"), ("a/0001.right.jpg", b"r")], [("b/0001.png", b"p")], [], [("b/0003.jpg", b"q")]]
    assert [sample.rest for sample in samples] == [
        (("a/0001.json", b"{}"),), (), (("b/0002.txt", b"alone"),), (("b/0003.cls", b"3"),)]


def _linked_tar(path):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, kind, found in (("./a.png", tarfile.REGTYPE, b"first"), ("b.png", tarfile.REGTYPE, b"second"),
                                  ("c.png", tarfile.LNKTYPE, "./a.png"), ("d.png", tarfile.LNKTYPE, "c.png"),
                                  ("e.png", tarfile.LNKTYPE, "b.png"), ("f.png", tarfile.SYMTYPE, "a.png"),
                                  ("g.png", tarfile.LNKTYPE, "later.png"), ("h.png", tarfile.FIFOTYPE, ""),
                                  ("h.txt", tarfile.SYMTYPE, "a.png"), ("later.png", tarfile.REGTYPE, b"last")):
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(found)
            else:
                member.linkname = found
            archive.addfile(member, io.BytesIO(found) if kind == tarfile.REGTYPE else None)
    return str(path)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_links_of_a_tar_are_pictures_or_have_a_problem(tmp_path, name):
    place = _linked_tar(tmp_path / name)
    pictures = [picture for sample in read_samples(TAR, place) for picture in sample.pictures]
    assert {picture.key: picture.data for picture in pictures if not picture.problem} == {
        "a.png": b"first", "b.png": b"second", "c.png": b"first", "d.png": b"first", "e.png": b"second",
        "later.png": b"last"}
    assert [picture.problem.rpartition("found ")[2] for picture in pictures if picture.problem] == [
        "a symbolic link to a.png", "a hard link to later.png, which is none", "another special file"]
    files = [picture.key for sample in read_samples(TAR, place, links=False) for picture in sample.pictures]
    assert files == ["a.png", "b.png", "later.png"]


def test_a_written_tar_is_the_same_each_time_and_keeps_the_rest(tmp_path):
    sample = Sample((Picture("a/1.png", b"x"),), (("a/1.json", b"{}"),))
    for name in ("one.tar", "two.tar"):
        writer = TarWriter(tmp_path / name)
        writer.add(sample, [Result("a/1.png", b"clear", 2, 3)])
        writer.close()
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert [(member.name, archive.extractfile(member).read()) for member in archive] == [
            ("a/1.png", b"clear"), ("a/1.json", b"{}")]


@pytest.mark.parametrize("damage", [lambda data: data[:700], lambda data: b"no tar" * 200])
def test_a_damaged_tar_is_named(tmp_path, damage):
    place = _tar(tmp_path / "x.tar", [("a.png", _png() * 20), ("b.png", _png())])
    (tmp_path / "x.tar").write_bytes(damage((tmp_path / "x.tar").read_bytes()))
    with pytest.raises(InputError, match="x.tar: must be a whole tar file, found"):
        list(read_samples(TAR, place))


def _examples(path, features):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in features:
            example = tf.train.Example()
            for name, value in one.items():
                if isinstance(value, bytes):
                    example.features.feature[name].bytes_list.value[:] = [value]
                else:
                    example.features.feature[name].int64_list.value[:] = [value]
            writer.write(example.SerializeToString())
    return str(path)


def test_examples_are_read_and_their_other_features_kept(tmp_path):
    jpeg = b"\xff\xd8\xff" + b"rest"
    place = _examples(tmp_path / "x.tfrecord", [
        {"image/encoded": _png(), "image/filename": b"n/a.png", "image/class/label": 7},
        {"image/encoded": jpeg}, {"image/encoded": jpeg, "image/filename": b"plain"}])
    samples = list(read_samples(TFRECORD, place))
    assert [sample.pictures[0].key for sample in samples] == ["n/a.png", "00000001.jpg", "plain.jpg"]
    writer = TFRecordWriter(tmp_path / "y.tfrecord")
    writer.add(samples[0], [Result("n/a.png", b"clear", 18, 20)])
    writer.close()
    (record,) = tf.data.TFRecordDataset(str(tmp_path / "y.tfrecord"))
    found = tf.io.parse_single_example(record, {
        **{name: tf.io.FixedLenFeature([], tf.string) for name in ("image/encoded", "image/format", "image/filename")},
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in ("image/height", "image/width", "image/class/label")}})
    assert {name: value.numpy() for name, value in found.items()} == {
        "image/encoded": b"clear", "image/format": b"png", "image/filename": b"n/a.png", "image/height": 18,
        "image/width": 20, "image/class/label": 7}


def test_damaged_and_foreign_records_are_named(tmp_path):
    place = _examples(tmp_path / "x.tfrecord", [{"image/encoded": _png()}, {"image/encoded": _png()}])
    data = (tmp_path / "x.tfrecord").read_bytes()
    (tmp_path / "x.tfrecord").write_bytes(data[:-30])
    samples = read_samples(TFRECORD, place)
    assert next(samples).pictures[0].data == _png()
    with pytest.raises(InputError, match="x.tfrecord: must be a whole TFRecord file"):
        next(samples)
    place = _examples(tmp_path / "y.tfrecord", [{"image": b"x"}])
    with pytest.raises(InputError, match="with image/encoded, found image in record 0"):
        list(read_samples(TFRECORD, place))
    with tf.io.TFRecordWriter(str(tmp_path / "z.tfrecord")) as writer:
        writer.write(b"\xff\xffno example")
    with pytest.raises(InputError, match="z.tfrecord: must be a whole TFRecord file of tf.train.Example, found Decode"):
        list(read_samples(TFRECORD, str(tmp_path / "z.tfrecord")))
