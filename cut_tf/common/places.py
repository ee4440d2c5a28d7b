"""Files at any place: paths of this machine, and URLs such as gs://bucket/folder that TensorFlow's tf.io.gfile reads.

Paths without a scheme never import TensorFlow.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import BinaryIO, Union

from cut_tf.common.errors import InputError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_READERS_WILDCARDS = ("[", "\\")
# Names of files that are not whole yet, here and in `files.replace_file`.
_BEGUN = re.compile(r"\.[0-9a-f]{32}\.tmp")


class RemotePath:
    """A URL, with as much of pathlib's interface as folders of pictures need. Equal for equal places.

    Args:
      place: the URL; slashes at its end do not count.
    """

    def __init__(self, place: str) -> None:
        self._place = place.rstrip("/")

    def __str__(self) -> str:
        return self._place

    def __repr__(self) -> str:
        return f"RemotePath({self._place!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._place == other._place

    def __lt__(self, other: RemotePath) -> bool:
        return self._place < other._place

    def __hash__(self) -> int:
        return hash(self._place)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(join(self._place, name))

    @property
    def name(self) -> str:
        """The last part."""
        return self._place.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder."""
        return RemotePath(self._place.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return exists(self._place)

    def is_dir(self) -> bool:
        """Whether there is a folder."""
        return is_folder(self._place)

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.exists() and not self.is_dir()

    def read_bytes(self) -> bytes:
        """All of a file. Raises InputError naming it if it cannot be read."""
        return read_bytes(self._place)


AnyPath = Union[Path, RemotePath]


def path_of(place: str) -> AnyPath:
    """A place as a path."""
    return RemotePath(place) if is_remote(place) else Path(place)


def is_remote(place: str) -> bool:
    """Whether it is a URL."""
    return _SCHEME.match(place) is not None


def check_tensorflow_can_read(folder: Path, flag: str) -> None:
    """Refuses a folder in which TensorFlow can write variables, but not read them again.

    Args:
      folder: of a run or a SavedModel.
      flag: that names it.

    Raises:
      InputError: if its path has a character that TensorFlow's reader takes for a part of a glob.
    """
    for character in _READERS_WILDCARDS:
        if character in folder.as_posix():
            raise InputError(f"{flag} must be a path without {' and '.join(_READERS_WILDCARDS)}, with which TensorFlow "
                             f"cannot read what it writes, found {folder}")


def join(folder: str, name: str) -> str:
    """The place of a file, by its relative name with slashes, in a folder."""
    return f"{folder.rstrip('/')}/{name}" if folder.rstrip("/") else f"/{name}"


def absolute(place: str) -> str:
    """The place from the root on, without `.` and `..`, as the system finds it. URLs stay as they are.

    `..` after a link leads out of the folder to which it leads. Other links stay as they are.
    """
    parts = place.split("/")
    if is_remote(place) or ".." not in parts:
        return place if is_remote(place) else os.path.abspath(place)
    found = "/" if place.startswith("/") else os.getcwd()
    for part in parts:
        if part == "..":
            found = os.path.dirname(os.path.realpath(found) if os.path.islink(found) else found)
        elif part not in ("", "."):
            found = join(found, part)
    return found


def exists(place: str) -> bool:
    """Whether there is a file or a folder. Raises InputError for a URL that TensorFlow cannot ask."""
    if not is_remote(place):
        return os.path.lexists(place)
    with named(place, "must be a place that TensorFlow can read"):
        return _gfile().exists(place)


def is_folder(place: str) -> bool:
    """Whether there is a folder."""
    return _gfile().isdir(place) if is_remote(place) else os.path.isdir(place)


def size_bytes(place: str) -> int:
    """Length of a file. Raises InputError naming it if it cannot be read."""
    with named(place, "must be a readable file"):
        return int(_gfile().stat(place).length) if is_remote(place) else os.path.getsize(place)


def names_in(folder: str) -> list[str]:
    """Sorted names of the files and folders in a folder; none if there is no such folder. Folders may end in "/"."""
    with named(folder, "must be a readable folder"):
        if not is_remote(folder):
            return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return sorted(_gfile().listdir(folder)) if _gfile().isdir(folder) else []


def files_below(folder: str) -> list[str]:
    """Sorted files in a folder and in all below it; none if there is no such folder."""
    with named(folder, "must be a readable folder"):
        return sorted(join(inside, name) for inside, names in walk(folder.rstrip("/") or "/") for name in names)


def walk(root: str, depth: float = math.inf, above: frozenset[tuple[int, int]] = frozenset()
         ) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, each with the names of its files. Links to folders are followed.

    Args:
      root: the folder.
      depth: steps down at most.
      above: device and number of each folder of this machine to which no link may lead back.
    """
    if not is_remote(root) and os.path.isdir(root):
        found = os.stat(root)
        own = (found.st_dev, found.st_ino)
        if own in above:
            return
        above = above | {own} if found.st_ino else above
    _, folders, names = next(iter(_gfile().walk(root) if is_remote(root) else os.walk(root)), (root, [], []))
    yield root, names
    for name in folders if depth > 0 else ():
        yield from walk(join(root, name), depth - 1, above)


def read_bytes(place: str) -> bytes:
    """All of a file. Raises InputError naming it if it cannot be read."""
    with named(place, "must be a readable file"), opened(place) as file:
        return file.read()


def opened(place: str) -> BinaryIO:
    """A file to read from its start. Raises OSError, or TensorFlow's OpError for a URL."""
    return _gfile().GFile(place, "rb") if is_remote(place) else open(place, "rb")


def write_bytes(place: str, data: bytes) -> None:
    """Writes a file so that, at any moment, it holds what it held before or all of `data`; makes its folder.

    Raises:
      InputError: naming the file, if it cannot be written.
    """
    with local_file(place) as path:
        path.write_bytes(data)


def write_new(place: str, data: bytes) -> bool:
    """Writes a file as `write_bytes` does, but never over one that is there. Returns whether it was written.

    Where there is no such operation, as in object stores, one that comes at the same moment may be replaced.

    Raises:
      InputError: naming the file, if it cannot be written.
    """
    aside = join(place.rpartition("/")[0] or ".", f".{uuid.uuid4().hex}.tmp")
    try:
        write_bytes(aside, data)
        with named(place, "must be writable"):
            return _rename_to_new(aside, place)
    finally:
        remove(aside)


def _rename_to_new(source: str, place: str) -> bool:
    if not is_remote(place):
        try:
            os.link(source, place)
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if os.path.lexists(place):
                return False
            os.replace(source, place)
            return True
    if exists(place):
        return False
    _gfile().rename(source, place)
    return True


@contextlib.contextmanager
def local_file(place: str) -> Iterator[Path]:
    """A new local file to write, which takes the place of `place` at the end of the block, whole or not at all.

    Raises:
      InputError: naming the place, if it cannot be written.
    """
    folder = place.rpartition("/")[0] or "."
    with named(place, "must be writable"):
        if not is_remote(place):
            os.makedirs(folder, exist_ok=True)
            path = Path(folder) / f".{uuid.uuid4().hex}.tmp"
            try:
                yield path
                os.replace(path, place)
            finally:
                path.unlink(missing_ok=True)
            return
        gfile = _gfile()
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "file"
            yield path
            # An object store shows an object when it is whole; elsewhere the rename makes it so.
            gfile.makedirs(folder)
            aside = join(folder, f".{uuid.uuid4().hex}.tmp")
            gfile.copy(str(path), aside)
            gfile.rename(aside, place, overwrite=True)


def remove(place: str) -> None:
    """Removes a file if it is there."""
    with named(place, "must be a file that can be removed"):
        if not is_remote(place):
            Path(place).unlink(missing_ok=True)
        elif _gfile().exists(place):
            _gfile().remove(place)


def remove_begun(folder: str) -> None:
    """Removes the files that killed processes had begun to write into a folder, which nobody else may write now."""
    for name in names_in(folder):
        if _BEGUN.fullmatch(name):
            remove(join(folder, name))


def remove_folder(folder: str) -> None:
    """Removes a folder and all that is in it, if it is there."""
    with named(folder, "must be a folder that can be removed"):
        if not is_remote(folder):
            shutil.rmtree(folder, ignore_errors=not os.path.lexists(folder))
        elif _gfile().isdir(folder):
            _gfile().rmtree(folder)


@contextlib.contextmanager
def local_copy(place: str) -> Iterator[Path]:
    """A file as one of this machine: itself, or a copy that is removed afterwards.

    Raises:
      InputError: naming the file, if it cannot be read.
    """
    size_bytes(place)
    if not is_remote(place):
        yield Path(place)
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / place.rpartition("/")[2]
        with named(place, "must be a readable file"):
            _gfile().copy(place, str(path))
        yield path


def local_folder(place: str, beginnings: tuple[str, ...] = ("",)) -> Path:
    """A folder as one of this machine: itself, or a copy, which is removed when this process ends.

    Args:
      place: of the folder.
      beginnings: of the relative names, with slashes, of the files to copy.

    Raises:
      InputError: naming the folder, if it cannot be read.
    """
    if not is_remote(place):
        return Path(place)
    copy = Path(tempfile.mkdtemp(prefix="cut_tf_"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    try:
        with named(place, "must be a readable folder"):
            _copy_folder(place.rstrip("/"), beginnings, copy)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy


def _copy_folder(place: str, beginnings: tuple[str, ...], copy: Path) -> None:
    if not is_folder(place):
        raise InputError(f"{place}: must be a readable folder, found none")
    for folder, _, names in _gfile().walk(place):
        inside = folder[len(place):].strip("/")
        for name in (f"{inside}/{name}".lstrip("/") for name in names):
            if name.startswith(beginnings):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                _gfile().copy(join(place, name), str(copy / name))


@contextlib.contextmanager
def named(place: str, rule: str) -> Iterator[None]:
    """A block in which what goes wrong with files becomes an InputError that names the place and the rule."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: {rule}, found: {error.strerror or error}") from error
    except Exception as error:
        if not type(error).__module__.startswith("tensorflow"):
            raise
        text = next(iter(str(error).splitlines()), "") or "nothing there"
        raise InputError(f"{place}: {rule}, found {type(error).__name__}: {text}") from error


def _gfile() -> ModuleType:
    import tensorflow as tf  # here, since paths need not wait for it

    return tf.io.gfile
