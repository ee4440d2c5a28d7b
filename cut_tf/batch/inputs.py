"""What --input names: one picture, a folder, a glob, a manifest, or shards of records.

Every picture has a key, a relative name with slashes, which is also the name of its result.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from cut_tf.batch.translation import result_name
from cut_tf.common import globs, places
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import IMAGE_SUFFIXES

FILES, TFRECORD, TAR = "files", "tfrecord", "tar"
_KINDS = (
    (re.compile(r"(?i).+\.tfrecords?(-\d+-of-\d+)?"), TFRECORD),
    (re.compile(r"(?i).+\.(tar|tar\.gz|tgz)"), TAR),
    (re.compile(rf"(?i).+({'|'.join(map(re.escape, IMAGE_SUFFIXES))})"), FILES),
)
_SHARD_SUFFIX = re.compile(r"(?i)\.(?:tfrecords?|tar|tar\.gz|tgz)(-\d+-of-\d+)?$")
_MANIFEST = ".txt"
_LEADING_DOTS = re.compile(r"(?:\./+)*")  # as find writes them
_FORMS = (f"a picture, a folder, a glob, a manifest (*{_MANIFEST}, one place a line), or shards (*.tfrecord, *.tar), "
          "on this machine or as URLs")


class Item(NamedTuple):
    """A picture's file or a shard: its key, and its place."""

    key: str
    place: str


class Inputs(NamedTuple):
    """All that is to be translated: of one kind, FILES, TFRECORD or TAR, sorted by key."""

    kind: str
    items: tuple[Item, ...]


def find_inputs(spec: str, is_result: Callable[[str], bool] | None = None) -> Inputs:
    """What --input names.

    Args:
      spec: a picture or a shard; a folder of either, without its subfolders and hidden files; a glob, whose keys are
        relative to the folder before its first wildcard; or a manifest, whose lines are absolute places, or places
        relative to its own folder. Keys of absolute lines are all behind the scheme or the first slash.
      is_result: whether a place is a result of the same job, which is left out; nothing is if None.

    Raises:
      InputError: if there is nothing, pictures and shards are mixed, or two pictures would have one result.
    """
    listed = _listed(spec)
    items = [item for item in listed if is_result is None or not is_result(item.place)]
    if listed and not items:
        raise InputError(f"--output must be another folder than that of --input, found that all of --input={spec} is "
                         f"what the job in it writes, such as {listed[0].place}")
    kinds = {item.key: kind_of(item.key) for item in items}
    unknown = [key for key, kind in kinds.items() if kind is None]
    if unknown:
        raise InputError(f"--input={spec} must name pictures ({', '.join(IMAGE_SUFFIXES)}) or shards, found "
                         f"{unknown[0]}")
    if not items:
        raise InputError(f"--input must be {_FORMS}, found none in {spec}")
    if len(set(kinds.values())) > 1:
        examples = [next(key for key in kinds if kinds[key] == kind) for kind in sorted(set(kinds.values()))]
        raise InputError("--input must name files of one kind, pictures, *.tfrecord or *.tar, found "
                         f"{' and '.join(examples)}")
    kind = next(iter(kinds.values()))
    _check_results_differ(items, spec, kind)
    return Inputs(kind, tuple(sorted(items)))


def kind_of(name: str) -> str | None:
    """FILES for a picture, TFRECORD or TAR for a shard, by the end of its name; None for others."""
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(name)), None)


def shard_stem(name: str) -> str:
    """Name of a shard without the suffix of its kind; its number, if it has one, stays."""
    return _SHARD_SUFFIX.sub(r"\1", name)


def is_safe(key: str) -> bool:
    """Whether a key names something inside a folder: relative, with no way up, and no hidden file."""
    parts = key.split("/")
    return bool(key) and "\0" not in key and not any(part in ("", ".", "..") for part in parts) and (
        not parts[0].startswith(".") and "\\" not in key)


def _listed(spec: str) -> list[Item]:
    typed = spec if places.is_remote(spec) else os.path.expanduser(spec)
    place = places.absolute(typed)
    if places.is_folder(place):
        return [Item(name, places.join(place, name)) for name in places.names_in(place)
                if not name.startswith(".") and not name.endswith("/") and kind_of(name)
                and not places.is_folder(places.join(place, name))]
    # Wildcards count in what was typed, not in the name of the folder in which it was.
    if globs.has_wildcard(typed) and not places.exists(place):
        return _found(typed)
    if place.lower().endswith(_MANIFEST):
        return _manifest(place)
    if not places.exists(place):
        raise InputError(f"--input must be {_FORMS}, found no such file: {place}")
    return [Item(PurePosixPath(place).name, place)]


def _found(pattern: str) -> list[Item]:
    """What a glob finds, but for hidden files and folders."""
    root, rest = globs.split(pattern)
    root = places.absolute(root)
    if not places.is_remote(root):
        rest = "/".join(part for part in rest.split("/") if part not in ("", "."))
    if ".." in rest.split("/"):
        raise InputError(f"--input={pattern} must have no '..' after its first wildcard, found {rest}")
    start = len(places.join(root, ""))
    keys = [(place[start:], place) for place in globs.matching(root, rest)]
    return [Item(key, place) for key, place in keys
            if kind_of(key) and not any(part.startswith(".") for part in key.split("/"))]


def _manifest(place: str) -> list[Item]:
    try:
        # Other ends of lines that Unicode knows may be within names.
        lines = places.read_bytes(place).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"--input={place} must be text in UTF-8, found {error}") from error
    folder, items = place.rpartition("/")[0], []
    for number, typed in enumerate((line.strip(" \t\r") for line in lines), 1):
        line = typed[_LEADING_DOTS.match(typed).end():]
        if not typed:
            continue
        absolute = places.is_remote(line) or line.startswith("/")
        key = line.partition("://")[2] if places.is_remote(line) else line.lstrip("/")
        if not is_safe(key):
            raise InputError(f"--input={place} must have places without '..' and hidden folders in its lines, found "
                             f"{typed!r} in line {number}")
        items.append(Item(key, line if absolute else places.join(folder, line)))
    return items


def _check_results_differ(items: list[Item], spec: str, kind: str) -> None:
    """Names that differ in upper and lower case only are one file on some disks."""
    results = [(result_name(item.key) if kind == FILES else item.key).lower() for item in items]
    counts = Counter(results)
    both = [item.key for item, result in zip(items, results) if counts[result] > 1]
    if both:
        both = [key for key in both if result_name(key).lower() == result_name(both[0]).lower()]
        raise InputError(f"--input={spec} must not hold two files whose results would be one, found {both[0]} and "
                         f"{both[1]}")
