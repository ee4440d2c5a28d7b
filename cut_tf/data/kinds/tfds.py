"""`--dataset=tfds:NAME`: CycleGAN-like datasets of TensorFlow Datasets, such as tfds:cycle_gan/horse2zebra.

In these datasets each example is an `image`. In others each example is a pair of a `source` and a `target`, as in our
own tfds:haze_pairs (`cut_tf.data.haze.tfds_builder`). Then training takes the sources of trainA and the targets of
trainB, and the test split consists of the pairs of testA.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Origin, TranslationData
from cut_tf.data.image_files import decode_image, image_size
from cut_tf.settings import Settings

_MOST_RETRIES = 4
_SPLITS = ("trainA", "trainB", "testA", "testB")
# The split and the feature of each domain, in the order of TranslationData. Every split has its own order of examples,
# so both sides of the test pairs come from one split.
_IMAGES = tuple((split, "image") for split in _SPLITS)
_PAIRS = (("trainA", "source"), ("trainB", "target"), ("testA", "source"), ("testA", "target"), ("trainA", "target"))


class EncodedDomain:
    """Encoded pictures in a temporary file, decoded when read, so that a large dataset does not fill the memory.

    Args:
      name: dataset and split.
      encoded: the bytes of picture files, in order. It is iterated once.
    """

    def __init__(self, name: str, encoded: Iterable[bytes]) -> None:
        self._name = name
        # It has no name on disk, and is deleted at the end of the process.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the domain)
        self._ends = [0]
        self._lock = threading.Lock()
        for data in encoded:
            with self._room():
                self._file.write(data)
            self._ends.append(self._ends[-1] + len(data))
        with self._room():
            self._file.flush()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{tempfile.gettempdir()}: must have room for the pictures of tfds:{self._name}, found: "
                             f"{error.strerror or error}") from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, index: int) -> str:
        return f"{self._name}_{index:05d}.jpg"

    def load(self, index: int) -> np.ndarray:
        return decode_image(self.encoded(index), self._place(index))

    def size(self, index: int) -> tuple[int, int]:
        return image_size(self.encoded(index), self._place(index))

    def origin(self, index: int) -> Origin:
        return Origin(self._place(index), self._ends[index + 1] - self._ends[index])

    def key(self, index: int) -> int:
        return index

    def _place(self, index: int) -> str:
        return f"tfds:{self._name} image {index}"

    def encoded(self, index: int) -> bytes:
        """The picture's file."""
        start, end = self._ends[index], self._ends[index + 1]
        with self._lock:  # no other thread may seek between this seek and its read
            self._file.seek(start)
            return self._file.read(end - start)


def open_tfds(settings: Settings) -> TranslationData:
    """Loads the four splits. TensorFlow Datasets downloads them the first time.

    Raises:
      InputError: if the dataset is unknown, cannot be downloaded, or lacks the splits of a CycleGAN dataset.
    """
    name = settings.data.dataset.split(":", 1)[1]
    try:
        import tensorflow_datasets as tfds  # slow to import, and needed by this dataset only


        builder = tfds.builder(name)
        missing = [split for split in _SPLITS[:2] if split not in builder.info.splits] if builder.info.splits else []
        if missing:
            raise InputError(f"--dataset=tfds:{name} must have the splits trainA and trainB, "
                             f"found {sorted(builder.info.splits)}")
        wanted = _PAIRS if {"source", "target"} <= set(builder.info.features or ()) else _IMAGES
        with _few_retries():
            loaded = tfds.load(name, split=[split for split, _ in wanted],
                               decoders={feature: tfds.decode.SkipDecoding() for _, feature in wanted})
        domains = [EncodedDomain(f"{name}/{split}", (bytes(example[feature].numpy()) for example in examples))
                   for (split, feature), examples in zip(wanted, loaded)]
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds: unknown name, no network, no disk, bad checksum
        # The message for an unknown name goes on with the names of all the datasets there are.
        reason = str(error).split("\nAvailable datasets:")[0]
        raise InputError(f"--dataset=tfds:{name} cannot be loaded: {type(error).__name__}: {reason}") from error
    for split, domain in zip(_SPLITS[:2], domains):
        if not len(domain):
            raise InputError(f"--dataset=tfds:{name} has no images in split {split}")
    description = f"tfds:{name}: " + ", ".join(f"{len(domain)} {split}" for split, domain in zip(_SPLITS, domains[:4]))
    paired = wanted is _PAIRS
    return TranslationData(*domains[:4], test_paired=paired, description=description,
                           pairs=(domains[0], domains[4]) if paired else None)


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """TFDS has no setting for how often it tries: ten times are 200 seconds without a network."""
    from tensorflow_datasets.core.download import downloader

    before = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = min(before, _MOST_RETRIES)
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before
