"""Pictures in TFRecord shards, with an index by which any of them is read alone.

    DIR/plan.json                            what belongs into which shard, written before any of them
    DIR/train-00000-of-00003.tfrecord        tf.train.Example: `image/encoded`, `image/filename` and so on; of a pair
                                             `target/encoded` and so on too
    DIR/train-00000-of-00003.tfrecord.json   of every record its offset, and names, sizes and SHA-256 of its pictures
    DIR/index.json                           the shards with counts, bytes and SHA-256, written when all are there

Any reader of TFRecord files can read the shards. The index is what makes the order of training a function of seed and
step, as it is for folders: whichever picture comes next, one read fetches it.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.data.checks import first_lines
from cut_tf.data.domain import Origin
from cut_tf.data.image_files import decode_image, open_header

ENCODED, FORMAT, FILENAME = "image/encoded", "image/format", "image/filename"
HEIGHT, WIDTH, SHA256 = "image/height", "image/width", "image/sha256"
# What the names of a pair's second picture begin with, in place of "image".
SIDES = ("image", "target")
INDEX, PLAN, RECORDS_SUFFIX = "index.json", "plan.json", ".json"
INDEX_FORMAT = 1
# A record is its length, a checksum of the length, the data, and a checksum of the data.
HEAD_BYTES, TAIL_BYTES = 12, 4
_CHUNK_BYTES = 2**20


class Stored(NamedTuple):
    """A picture as it is kept: name, encoded bytes, width, height, and their SHA-256 in hexadecimal."""

    name: str
    num_bytes: int
    width: int
    height: int
    sha256: str


class Record(NamedTuple):
    """A record of a shard: where its data begins, its length, and the picture or the two of a pair."""

    offset: int
    length: int
    pictures: tuple[Stored, ...]


class Shard(NamedTuple):
    """A shard as index.json has it. `index_sha256` is that of the file with its records."""

    file: str
    count: int
    num_bytes: int
    sha256: str
    index_sha256: str


class Split(NamedTuple):
    """A split: pictures of one domain, or pairs."""

    paired: bool
    shards: tuple[Shard, ...]


def as_json(values: Any) -> bytes:
    """JSON text that keeps every file name that a disk can have."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", errors="surrogatepass")


def from_json(data: bytes) -> Any:
    """Reads what `as_json` wrote. Raises ValueError for other text."""
    return json.loads(data.decode("utf-8", errors="surrogatepass"))


def example_of(pictures: Sequence[tuple[Stored, bytes]]) -> bytes:
    """The serialized Example of one picture, or of two that are a pair."""
    import tensorflow as tf  # here, since the index alone needs it not

    example = tf.train.Example()
    features = example.features.feature
    for side, (stored, data) in zip(SIDES, pictures):
        # Of the bytes: a name tells of the file that the picture came from.
        kind = open_header(io.BytesIO(data), stored.name).format.lower()
        for name, value in ((ENCODED, data), (FORMAT, kind.encode()), (SHA256, stored.sha256.encode()),
                            (FILENAME, stored.name.encode("utf-8", errors="surrogateescape"))):
            features[of_side(name, side)].bytes_list.value[:] = [value]
        for name, number in ((HEIGHT, stored.height), (WIDTH, stored.width)):
            features[of_side(name, side)].int64_list.value[:] = [number]
    return example.SerializeToString(deterministic=True)


def of_side(feature: str, side: str) -> str:
    """`target/encoded` for image/encoded and target."""
    return f"{side}/{feature.partition('/')[2]}"


def load_records(folder: str, file: str) -> tuple[list[Record], str]:
    """Records of a shard by its index, and the SHA-256 of that file. Raises InputError naming it if it is damaged."""
    place = places.join(folder, file + RECORDS_SUFFIX)
    data = places.read_bytes(place)
    try:
        records = [Record(offset, length, tuple(Stored(*one) for one in pictures))
                   for offset, length, *pictures in from_json(data)["records"]]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{place}: must be the index of a shard as tools.make_records writes it, found "
                         f"{type(error).__name__}: {error}") from error
    return records, hashlib.sha256(data).hexdigest()


def load_index(folder: str) -> dict[str, Split]:
    """Splits by name. Raises InputError if the folder has no whole index.json."""
    place = places.join(folder, INDEX)
    rule = "must be a folder that tools.make_records has written to its end"
    if not places.exists(place):
        begun = places.exists(places.join(folder, PLAN))
        raise InputError(f"--dataset=records:{folder} {rule}, found " + (
            "one that it has begun: its command goes on" if begun else f"no {INDEX} in it"))
    try:
        values = from_json(places.read_bytes(place))
        if values["format"] != INDEX_FORMAT:
            raise InputError(f"{place}: must have the format {INDEX_FORMAT}, found {values['format']}")
        return {name: Split(bool(split["paired"]), tuple(Shard(**shard) for shard in split["shards"]))
                for name, split in values["splits"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place}: must be the index of tools.make_records, found {type(error).__name__}: "
                         f"{error}") from error


def check_shards(folder: str, splits: Iterable[Split], read_all: bool) -> None:
    """Compares all shards with the index: their lengths, and if `read_all`, every byte by its checksum.

    Raises:
      InputError: naming the shards that are missing, cut short or damaged, and the rule that each breaks.
    """
    shards = [shard for split in splits for shard in split.shards]
    with ThreadPoolExecutor() as pool:
        problems = [problem for problem in pool.map(lambda shard: _problem(folder, shard, read_all), shards) if problem]
    if problems:
        raise InputError("\n".join([
            f"--dataset=records:{folder} must have the shards of its {INDEX}, found {len(problems)} of {len(shards)} "
            "that differ:", *first_lines([f"  {problem}" for problem in problems]),
            "Without these files, tools.make_records writes them again"]))


def _problem(folder: str, shard: Shard, read_all: bool) -> str:
    """What is wrong with a shard, or an empty string."""
    place = places.join(folder, shard.file)
    rule = "must have the checksum (SHA-256) of the index, found another"
    try:
        found = places.size_bytes(place)
        if found != shard.num_bytes:
            return f"{place}: must have {shard.num_bytes} bytes, found {found}"
        if read_all and sha256_of(place) != shard.sha256:
            return f"{place}: {rule}"
        if load_records(folder, shard.file)[1] != shard.index_sha256:
            return f"{place}{RECORDS_SUFFIX}: {rule}"
    except InputError as error:
        return str(error)
    return ""


def sha256_of(place: str) -> str:
    """SHA-256 of a file in hexadecimal. Raises InputError naming it if it cannot be read."""
    digest = hashlib.sha256()
    with places.named(place, "must be a readable file"), places.opened(place) as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


class RecordsDomain:
    """The pictures of a split, or one side of its pairs, in the order in which they were written.

    Args:
      folder: of the records.
      split: its shards.
      side: 0 for the picture, or the first of a pair; 1 for the second.

    Raises:
      InputError: if the index of a shard is damaged.
    """

    def __init__(self, folder: str, split: Split, side: int = 0) -> None:
        self._folder, self._shards, self._side = folder, split.shards, side
        self._records = [load_records(folder, shard.file)[0] for shard in split.shards]
        self._ends = list(itertools.accumulate(map(len, self._records)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def name(self, index: int) -> str:
        return self._stored(index).name

    def load(self, index: int) -> np.ndarray:
        return decode_image(self.encoded(index), self._where(index))

    def encoded(self, index: int) -> bytes:
        """The picture's file. Raises InputError if it is not the one that was written."""
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        shard, number = self._find(index)
        record, place = self._records[shard][number], places.join(self._folder, self._shards[shard].file)
        with places.named(place, "must be a readable shard"), places.opened(place) as file:
            file.seek(record.offset + HEAD_BYTES)
            data = file.read(record.length)
        try:
            features = tf.train.Example.FromString(data).features.feature
            encoded = features[of_side(ENCODED, SIDES[self._side])].bytes_list.value[0]
        except (DecodeError, IndexError) as error:
            raise InputError(f"{self._where(index)}: must be a whole record, found {type(error).__name__}") from error
        if hashlib.sha256(encoded).hexdigest() != self._stored(index).sha256:
            raise InputError(f"{self._where(index)}: must have the checksum of the index, found another")
        return encoded

    def size(self, index: int) -> tuple[int, int]:
        stored = self._stored(index)
        return stored.width, stored.height

    def origin(self, index: int) -> Origin:
        return Origin(self._where(index), self._stored(index).num_bytes)

    def key(self, index: int) -> int:
        return index

    def _find(self, index: int) -> tuple[int, int]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _stored(self, index: int) -> Stored:
        shard, number = self._find(index)
        return self._records[shard][number].pictures[self._side]

    def _where(self, index: int) -> str:
        shard, number = self._find(index)
        return f"{places.join(self._folder, self._shards[shard].file)}, record {number}, {self._stored(index).name}"
