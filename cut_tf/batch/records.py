"""Shards of pictures as the field writes them: TFRecord files of tf.train.Example, and tar files of WebDataset.

TFRecord: features `image/encoded`, `image/format`, `image/filename`, `image/height`, `image/width`, as in TensorFlow's
model garden; of an input only the first is needed, and all other features are kept. Tar: consecutive members that agree
up to the first dot of their file name are one sample; members that are pictures are translated, all others kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from cut_tf.batch.inputs import FILES, TAR, TFRECORD, kind_of
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.data.records import ENCODED, FILENAME, FORMAT, HEIGHT, WIDTH

MOST_MEMBER_BYTES = 2**29
_READABLE = "must be a readable shard"
SUFFIX_OF = {TFRECORD: ".tfrecord", TAR: ".tar"}
# How the encoded bytes of a format begin, for records that do not tell a file name.
_BEGINNINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"GIF8": ".gif", b"RIFF": ".webp",
               b"II": ".tif", b"MM": ".tif"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture by its key. Its bytes are `data`, or those of the file `place`; `problem` is why it has no result."""

    key: str
    data: bytes | None = None
    place: str = ""
    problem: str = ""

    def read(self) -> bytes:
        """The encoded bytes. Raises InputError naming the file if it cannot be read."""
        return places.read_bytes(self.place) if self.data is None else self.data

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """A file of those bytes, of which only what is asked for is read. Raises InputError naming it likewise."""
        if self.data is not None:
            yield io.BytesIO(self.data)
            return
        with places.named(self.place, "must be a readable file"), places.opened(self.place) as file:
            yield file

    @property
    def where(self) -> str:
        """Its name for messages."""
        return self.place or self.key


@dataclasses.dataclass(frozen=True)
class Sample:
    """What belongs together: one picture, or the pictures of a WebDataset sample.

    Attributes:
      pictures: to translate.
      rest: what is kept as it is: members of a tar by name, or the serialized Example under "".
    """

    pictures: tuple[Picture, ...]
    rest: tuple[tuple[str, bytes], ...] = ()


@dataclasses.dataclass(frozen=True)
class Result:
    """The encoded result of a picture, and its size."""

    key: str
    data: bytes
    height: int
    width: int


class DamagedError(InputError):
    """A shard that is damaged, and will be at every start."""


def read_samples(kind: str, place: str, links: bool = True) -> Iterator[Sample]:
    """The samples of a shard, in its order, one at a time.

    Args:
      kind: TFRECORD or TAR.
      place: of the shard.
      links: whether members of a tar that are no files, but have the name of a picture, are told; else they are left
        out. A hard link to an earlier member is that picture, all others have a problem.

    Raises:
      DamagedError: where it is damaged.
      InputError: if it cannot be read now; the next start may go on.
    """
    return _read_tar(place, links) if kind == TAR else _read_tfrecord(place)


def _read_tar(place: str, links: bool) -> Iterator[Sample]:
    try:
        with contextlib.ExitStack() as opening, places.named(place, _READABLE), places.opened(place) as file, (
                tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member)) as archive:
            stem, members, linked = None, [], opening.enter_context(_Linked(place))
            for member in archive:
                if not member.isfile() and not (links and not member.isdir() and kind_of(member.name) == FILES):
                    continue
                if member.size > MOST_MEMBER_BYTES:
                    raise DamagedError(f"{place}: members must have at most {MOST_MEMBER_BYTES} bytes, found "
                                       f"{member.size} in {member.name}")
                if _sample_name(member.name) != stem and members:
                    yield _tar_sample(members)
                    members = []
                stem = _sample_name(member.name)
                members.append(linked.read(archive, member))
            if members:
                yield _tar_sample(members)
    except (EOFError, tarfile.TarError) as error:
        raise DamagedError(f"{place}: must be a whole tar file, found {type(error).__name__}: {error}") from error


class _Member(tarfile.TarInfo):
    """A member of a tar file that must have its end mark: tarfile takes one that is cut short as one that ends."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """A member of its header. Raises ReadError if the file ends where a header or the end mark must be."""
        if len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it is cut short, since it has no end mark")
        return super().frombuf(buf, encoding, errors)


def _sample_name(member: str) -> str:
    """`folder/0001` of folder/0001.left.jpg."""
    folder, slash, name = member.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


class _Linked:
    """Reads members of a tar, and for hard links those that they name, which have gone by, from the file opened anew.

    Args:
      place: of the tar.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._files: dict[str, tarfile.TarInfo] = {}
        self._again: tarfile.TarFile | None = None
        self._opening = contextlib.ExitStack()

    def __enter__(self) -> _Linked:
        return self

    def __exit__(self, *_: object) -> None:
        self._opening.close()

    def read(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, bytes, str]:
        """Name and bytes of the member that the archive is at, and why there are none."""
        if member.isfile():
            self._files[_plain(member.name)] = member
            return member.name, archive.extractfile(member).read(), ""
        target = self._files.get(_plain(member.linkname)) if member.islnk() else None
        if target is None:
            found = (f"a hard link to {member.linkname}, which is none" if member.islnk() else
                     f"a symbolic link to {member.linkname}" if member.issym() else "another special file")
            return member.name, b"", (f"{member.name}: must be a file, or a hard link to an earlier file of its tar, "
                                      f"found {found}")
        self._files[_plain(member.name)] = target
        if self._again is None:
            file = self._opening.enter_context(places.opened(self._place))
            again = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115 (closed by __exit__)
            self._again = self._opening.enter_context(again)
        return member.name, self._again.extractfile(target).read(), ""


def _tar_sample(members: Sequence[tuple[str, bytes, str]]) -> Sample:
    pictures = tuple(Picture(_plain(name), data, problem=problem) for name, data, problem in members
                     if kind_of(name) == FILES)
    return Sample(pictures, tuple((_plain(name), data) for name, data, _ in members if kind_of(name) != FILES))


def _plain(name: str) -> str:
    return name[2:] if name.startswith("./") else name


def _read_tfrecord(place: str) -> Iterator[Sample]:
    import tensorflow as tf  # here, since tar files need it not
    from google.protobuf.message import DecodeError

    with places.named(place, _READABLE):
        try:
            for number, record in enumerate(tf.data.TFRecordDataset(place).as_numpy_iterator()):
                features = tf.train.Example.FromString(record).features.feature
                data = _bytes(features, ENCODED)
                if not data:
                    raise DamagedError(f"{place}: records must be a tf.train.Example with {ENCODED}, found "
                                       f"{', '.join(sorted(features)) or 'no features'} in record {number}")
                name = _bytes(features, FILENAME).decode("utf-8", errors="replace") or f"{number:08d}{_suffix(data)}"
                name = name if kind_of(name) == FILES else name + _suffix(data)
                yield Sample((Picture(name, data),), (("", record),))
        except (tf.errors.DataLossError, DecodeError) as error:
            text = next(iter(str(error).splitlines()), "")
            raise DamagedError(f"{place}: must be a whole TFRecord file of tf.train.Example, found "
                               f"{type(error).__name__}: {text}") from error


def _bytes(features: object, name: str) -> bytes:
    values = features[name].bytes_list.value if name in features else ()
    return values[0] if values else b""


def _suffix(data: bytes) -> str:
    return next((suffix for beginning, suffix in _BEGINNINGS.items() if data.startswith(beginning)), ".png")


class Writer(Protocol):
    """Takes the results of samples."""

    def add(self, sample: Sample, results: Iterable[Result]) -> None: ...

    def close(self) -> None: ...


class FilesWriter:
    """Writes a file for each picture, each whole or not at all."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def add(self, sample: Sample, results: Iterable[Result]) -> None:
        """Raises InputError if a file cannot be written."""
        del sample
        for result in results:
            places.write_bytes(places.join(self._folder, result.key), result.data)

    def close(self) -> None:
        """Nothing is open."""


class TarWriter:
    """Writes one tar file, the same for the same samples."""

    def __init__(self, path: Path) -> None:
        self._archive = tarfile.open(path, "w")  # noqa: SIM115 (closed by close)

    def add(self, sample: Sample, results: Iterable[Result]) -> None:
        """The results of a sample, then the members that it keeps."""
        kept = [pair for pair in sample.rest if pair[0]]
        for name, data in [*((result.key, result.data) for result in results), *kept]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            self._archive.addfile(member, io.BytesIO(data))

    def close(self) -> None:
        """Writes the end of the file."""
        self._archive.close()


class TFRecordWriter:
    """Writes one TFRecord file."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self._writer = tf.io.TFRecordWriter(str(path))

    def add(self, sample: Sample, results: Iterable[Result]) -> None:
        """One Example per result. If the sample was one, its other features are kept."""
        import tensorflow as tf

        for result in results:
            example = tf.train.Example()
            for name, record in sample.rest:
                if not name:
                    example.ParseFromString(record)
            features = example.features.feature
            kind = PurePosixPath(result.key).suffix[1:].lower().replace("jpg", "jpeg")
            for name, value in ((ENCODED, result.data), (FORMAT, kind.encode()), (FILENAME, result.key.encode())):
                features[name].bytes_list.value[:] = [value]
            for name, number in ((HEIGHT, result.height), (WIDTH, result.width)):
                features[name].int64_list.value[:] = [number]
            self._writer.write(example.SerializeToString(deterministic=True))

    def close(self) -> None:
        """Writes the end of the file."""
        self._writer.close()


WRITERS = {TAR: TarWriter, TFRECORD: TFRecordWriter}
