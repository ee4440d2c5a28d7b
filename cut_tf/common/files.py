"""Writing files so that neither a killed process nor a full disk leaves half of one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from cut_tf.common.errors import InputError
from cut_tf.common.places import AnyPath, RemotePath, write_bytes

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

_LOG = logging.getLogger(__name__)
# What is left of a URL's scheme in a path. Drives of Windows have one letter.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def replace_file(path: AnyPath, data: bytes) -> None:
    """Writes a file atomically: to a temporary file in the same folder, which then takes the place of `path`.

    Raises:
      InputError: naming the file and the reason, if it cannot be written. No temporary file is left behind.
    """
    if isinstance(path, RemotePath):
        write_bytes(str(path), data)
        return
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: must be writable, found: {error.strerror or error}") from error


@contextlib.contextmanager
def whole_folder(folder: Path, last: str) -> Iterator[Path]:
    """A folder to write into, all of which is moved to `folder` at the end of the block, or, after an error, nothing.

    Args:
      folder: new, or empty, also under the name of a link to it or as the working folder.
      last: the file that is moved last if `folder` is there already, so that a killed process leaves none that looks
        whole.

    Raises:
      OSError: if the disk refuses.
    """
    whole = Path(os.path.realpath(folder))
    # An empty folder may be all that we may write to, and a file system of its own.
    aside = (whole if whole.is_dir() else whole.parent) / f".{uuid.uuid4().hex}.tmp"
    try:
        aside.mkdir(parents=True)
        yield aside
        if aside.parent == whole:
            for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
                os.replace(path, whole / path.name)
        else:
            os.replace(aside, whole)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_can_write(folder: AnyPath, name: str) -> None:
    """Checks, before any work, that files can be written into a folder. Nothing is left behind.

    Args:
      folder: of the results. If it is not there, the nearest folder above it is looked at. A RemotePath is not.
      name: begins the message, such as `--output=DIR`.

    Raises:
      InputError: if a file is in the way, the system does not let us write there, or a Path was made of a URL.
    """
    if isinstance(folder, RemotePath):
        return
    if _SCHEME.fullmatch(folder.parts[0] if folder.parts else "") and not folder.exists():
        raise InputError(f"{name} must be a folder of this machine, found a URL")
    there = Path(os.path.abspath(folder))
    rule = f"{name} must be a folder that can be written"
    while not os.path.lexists(there):
        there = there.parent
    probe = there / f".{uuid.uuid4().hex}.tmp"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except NotADirectoryError as error:
        raise InputError(f"{rule}, found the file {there}") from error
    except OSError as error:
        raise InputError(f"{rule}, found for {there}: {error.strerror or error}") from error


@contextlib.contextmanager
def only_process(folder: Path, rule: str) -> Iterator[None]:
    """A context in which no other process that asks for it has the folder. It is free again however a process ends.

    Where the system or the file system has no locks, nobody is kept out.

    Args:
      folder: is there, or was until another process removed it just now.
      rule: begins the message: what must be done by one process at a time.

    Raises:
      InputError: if another process has it, or has removed it, or if it cannot be read.
    """
    if fcntl is None:
        yield
        return
    busy = InputError(f"{rule} by one process at a time, found another one at work; wait until it ends")
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise busy from None
    except OSError as error:
        raise InputError(f"{folder}: must be a folder that can be read, found: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError as error:
            _LOG.warning("%s: no locks here (%s), so nothing keeps out a second process", folder, error)
        if not folder.exists() or not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise busy
        yield
    finally:
        os.close(descriptor)


def check_results(plan: Sequence[tuple[Path, Sequence[Path]]], folder: Path, overwrite: bool) -> None:
    """Refuses, before any work, what would replace a file that must not be replaced, or could not be written.

    Args:
      plan: of all pictures, (picture, every file that will be written for it).
      folder: of the results.
      overwrite: replace results that are there already.

    Raises:
      InputError: if a file to be written is one of the pictures, is to be written for another picture too, or,
        without `overwrite`, is there already; or if the folder cannot be written.
    """
    # Links to nothing are no files yet; whoever reads them says so.
    pictures = {_identity(picture): picture for picture, _ in plan if picture.exists()}
    broken = {_place(picture): picture for picture, _ in plan if not picture.exists()}
    picture_of: dict[Path, Path] = {}
    present = []
    for picture, results in plan:
        for result in results:
            place = _place(result)
            if place in picture_of:
                raise InputError("--input must not hold two pictures of one stem, whose results would be one file, "
                                 f"found {picture_of[place].name} and {picture.name}, both for {result}")
            picture_of[place] = picture
            if not os.path.lexists(result):
                continue
            present.append(result)
            replaced = pictures.get(_identity(result)) if result.exists() else broken.get(place)
            if replaced is not None:
                raise InputError("--output must be another folder than that of --input, found that the result "
                                 f"{result} would replace the picture {replaced}")
    if present and not overwrite:
        raise InputError(f"--output={folder} has {len(present)} of the results already, such as {present[0]}; name "
                         "another folder or give --overwrite")
    check_can_write(folder, f"--output={folder}")


def _place(path: Path) -> Path:
    """The path in its folder's own name, since a folder may be named in several ways, through links for example.

    A link that leads back to itself stays as it is: `check_can_write` refuses a folder behind it.
    """
    return Path(os.path.realpath(path.parent)) / path.name


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode: equal for all names of one file, also on file systems that ignore upper and lower case."""
    status = path.stat()
    return status.st_dev, status.st_ino
