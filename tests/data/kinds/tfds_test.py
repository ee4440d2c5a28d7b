"""`--dataset=tfds:NAME`, with the made-up data of TensorFlow Datasets and without any network."""

from __future__ import annotations

import errno
import io
import itertools
import os
import socket
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.kinds.tfds import EncodedDomain
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings

NAME = "tfds:cycle_gan/horse2zebra"


@pytest.fixture(name="tfds")
def _tfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """TensorFlow Datasets with an empty folder of its own and no network."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    try:
        tfds.core.DatasetBuilder.__init__  # noqa: B018  the package imports its parts, and what they need, on first use
    except Exception as error:
        pytest.skip(f"TensorFlow Datasets is installed but does not work here: {type(error).__name__}: {error}")

    def no_network(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    return tfds


def test_pictures_of_both_domains(tfds):
    with tfds.testing.mock_data(num_examples=5):
        data = open_dataset(Settings.of(dataset=NAME))
    domains = (data.source, data.target, data.test_source, data.test_target)
    assert [len(domain) for domain in domains] == [5, 5, 5, 5]
    assert not data.test_paired
    assert data.description == f"{NAME}: 5 trainA, 5 trainB, 5 testA, 5 testB"
    assert data.source.name(3) == "cycle_gan/horse2zebra/trainA_00003.jpg"
    for domain in domains:
        for index in range(5):
            picture = domain.load(index)
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
            assert picture.std() > 0


def test_training_batches(tfds):
    settings = Settings.of(dataset=NAME, load_size_px=36, crop_size_px=32, batch_size=2)
    with tfds.testing.mock_data(num_examples=5):
        stream = TrainingStream(open_dataset(settings), settings.data, seed=0)
    for batch in itertools.islice(stream.dataset(0), 4):
        for crops in batch.values():
            assert crops.shape == (2, 32, 32, 3)
            assert np.isfinite(crops).all() and np.abs(crops).max() <= 1 and np.std(crops) > 0


def test_a_damaged_picture_is_named(tfds):
    def as_dataset(self: object, *args: object, **kwargs: object) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors({"image": b"\x89PNG but not really", "label": 0})

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        data = open_dataset(Settings.of(dataset=NAME))
    with pytest.raises(InputError, match=f"{NAME}/trainB image 0"):
        data.target.load(0)


def test_a_record_that_cannot_be_read_is_an_error_of_the_dataset(tfds):
    def as_dataset(self: object, *args: object, **kwargs: object) -> tf.data.Dataset:
        path = Path(os.environ["TFDS_DATA_DIR"]) / "damaged.tfrecord"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no record of TensorFlow")
        return tf.data.TFRecordDataset(str(path)).map(lambda data: {"image": data, "label": 0})

    with tfds.testing.mock_data(as_dataset_fn=as_dataset), \
            pytest.raises(InputError, match=f"^--dataset={NAME} cannot be loaded: DataLossError: "):
        open_dataset(Settings.of(dataset=NAME))


@pytest.mark.parametrize("call", ["write", "flush"])
def test_a_full_disk_is_named_with_the_folder(monkeypatch, call):
    """It may refuse a picture, or what is left in the buffer after the last one."""
    def refuse(self: io.BytesIO, *data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullDisk(io.BytesIO):
        pass

    setattr(FullDisk, call, refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", FullDisk)
    with pytest.raises(InputError, match=f"^{tempfile.gettempdir()}: must have room for the pictures of "
                                         "tfds:animals/trainA, found: No space left on device"):
        EncodedDomain("animals/trainA", [b"a picture"])


def test_an_empty_split_is_named(tfds):
    def as_dataset(self: object, split: str, **kwargs: object) -> tf.data.Dataset:
        whole = tf.data.Dataset.from_tensors({"image": b"", "label": 0})
        return whole.take(0) if str(split) == "trainB" else whole

    with tfds.testing.mock_data(as_dataset_fn=as_dataset), \
            pytest.raises(InputError, match=f"--dataset={NAME} has no images in split trainB"):
        open_dataset(Settings.of(dataset=NAME))


@pytest.mark.parametrize("name", ["no_such_dataset", "cycle_gan/no_such_animals", "../x", ""])
def test_unknown_names(tfds, name):
    with pytest.raises(InputError, match=f"^--dataset=tfds:{name} cannot be loaded: ") as caught:
        open_dataset(Settings.of(dataset=f"tfds:{name}"))
    assert len(str(caught.value)) < 1000, "the message lists every dataset that there is"


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it then raises ImportError
    with pytest.raises(InputError, match=f"--dataset={NAME} .*tensorflow.datasets"):
        open_dataset(Settings.of(dataset=NAME))


def test_without_network_it_fails_soon(tfds, monkeypatch):
    """The waits between the attempts to connect are added up instead of waited for."""
    pytest.importorskip("importlib_resources", reason="needed by TensorFlow Datasets 4.9.10 to prepare a dataset")
    retry = pytest.importorskip("urllib3.util.retry", reason="urllib3 is not installed")
    waits_sec: list[float] = []
    monkeypatch.setattr(retry, "time", types.SimpleNamespace(sleep=waits_sec.append))
    with pytest.raises(InputError, match=f"--dataset={NAME} cannot be loaded: .*no network in this test"):
        open_dataset(Settings.of(dataset=NAME))
    assert sum(waits_sec) < 30, f"{sum(waits_sec):.0f} seconds of waiting for a network that is not there"
