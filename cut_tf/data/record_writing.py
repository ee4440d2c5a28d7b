"""Writes the pictures of a dataset as the TFRecord shards of `cut_tf.data.records`. A run that was stopped goes on.

The plan says which picture belongs into which shard. A shard is written aside and then renamed, and after it its index
of records: a shard that has its index is done. Whatever is killed, the same command writes the same files, and removes
what the killed one had begun.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import only_process
from cut_tf.data.domain import Domain, TranslationData, encoded_bytes, encoded_picture
from cut_tf.data.image_files import image_size
from cut_tf.data.records import (
    HEAD_BYTES,
    INDEX,
    INDEX_FORMAT,
    PLAN,
    RECORDS_SUFFIX,
    TAIL_BYTES,
    Shard,
    Stored,
    as_json,
    example_of,
    from_json,
    load_records,
    sha256_of,
)

_MIB = 2**20


class Part(NamedTuple):
    """A shard that is to be written: its file, and the pictures `first` to before `end` of each domain."""

    file: str
    domains: tuple[Domain, ...]
    first: int
    end: int


def splits_of(data: TranslationData, paired: bool) -> dict[str, tuple[Domain, ...]]:
    """The domains to write by split: one, or the two of pairs.

    Args:
      data: the dataset.
      paired: take its training pairs. Without it they are taken too where they are all of both domains.

    Raises:
      InputError: if there are no pairs and they are asked for.
    """
    if paired and data.pairs is None:
        raise InputError(f"--paired must not be given with a dataset without training pairs, found {data.description}")
    if paired or (data.pairs and data.pairs[0] is data.source and data.pairs[1] is data.target):
        splits = {"train": tuple(data.pairs)}
    else:
        splits = {"trainA": (data.source,), "trainB": (data.target,)}
    if data.test_paired:
        splits["test"] = (data.test_source, data.test_target)
    else:
        halves = (("testA", data.test_source), ("testB", data.test_target))
        splits.update({name: (domain,) for name, domain in halves if domain is not None})
    return splits


def write_records(splits: dict[str, tuple[Domain, ...]], folder: str, dataset: str, shards: int, max_mb: int,
                  workers: int, on_shard: Callable[[], None] = lambda: None) -> int:
    """Writes all shards that are not there yet, then index.json.

    Args:
      splits: as `splits_of` gives them.
      folder: of the records.
      dataset: name and settings of the dataset; another one is refused in the same folder.
      shards: of each split, at most one a picture; 0 for as many as `max_mb` makes.
      max_mb: most MiB of pictures in a shard; a larger picture is alone.
      workers: shards that are written at a time.
      on_shard: called for each shard, written now or before.

    Returns:
      The number of shards written now.

    Raises:
      InputError: if the folder has records of other pictures, naming the first ones, if a picture cannot be read, or
        if another process writes the folder.
    """
    with _alone(folder):
        return _write_missing(splits, folder, dataset, _parts(splits, shards, max_mb), workers, on_shard)


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """A context in which no other process of this machine writes the folder. What killed ones had begun is removed.

    Raises:
      InputError: if another process is at work, or the folder cannot be made.
    """
    if places.is_remote(folder):  # nothing is begun there: shards are copied whole
        yield
        return
    is_new = not places.exists(folder)
    with places.named(folder, "must be a folder that can be written"):
        os.makedirs(folder, exist_ok=True)
    with only_process(Path(folder), f"--output={folder} must be written"):
        if places.exists(places.join(folder, PLAN)):  # else it may be a folder of others
            places.remove_begun(folder)
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # it has files
                    os.rmdir(folder)


def _write_missing(splits: dict[str, tuple[Domain, ...]], folder: str, dataset: str, parts: Sequence[Part],
                   workers: int, on_shard: Callable[[], None]) -> int:
    plan = {"format": INDEX_FORMAT, "dataset": dataset,
            "shards": {part.file: [part.first, part.end] for part in parts},
            "pictures": {name: [_stamps(domain) for domain in domains] for name, domains in splits.items()}}
    earlier = _earlier_plan(folder)
    if earlier is None:
        places.write_bytes(places.join(folder, PLAN), as_json(plan))
    else:
        _check_same(folder, earlier, plan, splits, parts)
    pending = [part for part in parts if not _is_done(folder, part)]
    if pending:  # what an index tells must be there
        places.remove(places.join(folder, INDEX))
    for _ in range(len(parts) - len(pending)):
        on_shard()
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(_write_shard, folder, part) for part in pending]
        try:
            for future in running:
                future.result()
                on_shard()
        finally:
            for future in running:
                future.cancel()
    if pending or not places.exists(places.join(folder, INDEX)):
        places.write_bytes(places.join(folder, INDEX), as_json(_index(folder, dataset, splits, parts)))
    return len(pending)


def _parts(splits: dict[str, tuple[Domain, ...]], shards: int, max_mb: int) -> list[Part]:
    found = []
    for name, domains in splits.items():
        count = len(domains[0])
        ends = [count * (number + 1) // min(shards, count) for number in range(min(shards, count))] if shards else (
            _ends_by_bytes(domains, max_mb * _MIB))
        found += [Part(f"{name}-{number:05d}-of-{len(ends):05d}.tfrecord", domains, first, end)
                  for number, (first, end) in enumerate(zip([0, *ends], ends))]
    return found


def _ends_by_bytes(domains: Sequence[Domain], most: int) -> list[int]:
    """Where shards end that are filled one after the other."""
    ends, held = [], 0
    for index in range(len(domains[0])):
        size = sum(encoded_bytes(domain, index) for domain in domains)
        if held and held + size > most:
            ends.append(index)
            held = 0
        held += size
    return [*ends, len(domains[0])]


def _stamps(domain: Domain) -> list[list[Any]]:
    """Name, bytes and time of change of every picture's file; 0 for what is no file."""
    return [[domain.name(index), origin.file_bytes, _changed_ns(origin.place) if origin.file_bytes else 0]
            for index in range(len(domain)) for origin in [domain.origin(index)]]


def _changed_ns(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:  # no file of this machine: a URL, or part of a larger file
        return 0


def _earlier_plan(folder: str) -> dict[str, Any] | None:
    place = places.join(folder, PLAN)
    if not places.exists(place):
        names = [name for name in places.names_in(folder) if not name.startswith(".")]
        if names:
            raise InputError(f"--output={folder} must be a new folder or that of the same records, found {names[0]}")
        return None
    try:
        plan = from_json(places.read_bytes(place))
        if not isinstance(plan, dict):
            raise ValueError(f"a {type(plan).__name__}")
    except ValueError as error:
        raise InputError(f"{place}: must be a plan of tools.make_records, found {error}") from error
    return plan


def _check_same(folder: str, earlier: dict[str, Any], plan: dict[str, Any], splits: dict[str, tuple[Domain, ...]],
                parts: Sequence[Part]) -> None:
    """Raises InputError if the folder's plan has other pictures, naming the first, or other shards."""
    rule = f"--output={folder} must be a new folder or that of the same records, found"
    for key, title in (("format", "the format"), ("dataset", "--input")):
        if earlier.get(key) != plan[key]:
            raise InputError(f"{rule} records with another value of {title}: {earlier.get(key)} there, {plan[key]} "
                             "here")
    before, now = earlier.get("pictures", {}), plan["pictures"]
    if list(before) != list(now):
        raise InputError(f"{rule} the splits {', '.join(before)} there, {', '.join(now)} here")
    touched: dict[str, list[tuple[int, int]]] = {}
    for name in now:
        for side, (old, new) in enumerate(zip(before[name], now[name])):
            for index, (one, other) in enumerate(itertools.zip_longest(old, new)):
                change = _change(one, other)
                if change:
                    raise InputError(f"{rule} another picture in {name}: {change}")
                if one[2] != other[2]:
                    touched.setdefault(name, []).append((side, index))
    if earlier.get("shards") != plan["shards"]:
        raise InputError(f"{rule} records with other values of --shards and --max_mb_per_shard")
    _check_touched(folder, rule, touched, splits, parts)


def _change(before: list[Any] | None, now: list[Any] | None) -> str:
    """What became of a picture, or an empty string."""
    if before is None or now is None or before[0] != now[0]:
        return f"{before[0] if before else 'none'} there, {now[0] if now else 'none'} here"
    return f"{now[0]} had {before[1]} bytes, has {now[1]}" if before[1] != now[1] else ""


def _check_touched(folder: str, rule: str, touched: dict[str, list[tuple[int, int]]],
                   splits: dict[str, tuple[Domain, ...]], parts: Sequence[Part]) -> None:
    """Reads the files that were written since: the same bytes are no change. Those of shards to come may be any."""
    for name, changes in touched.items():
        done = [part for part in parts if part.domains is splits[name] and _is_done(folder, part)]
        for part in done:
            records, _ = load_records(folder, part.file)
            for side, index in changes:
                if part.first <= index < part.end:
                    stored = records[index - part.first].pictures[side]
                    if hashlib.sha256(encoded_picture(splits[name][side], index)).hexdigest() != stored.sha256:
                        raise InputError(f"{rule} another picture in {name}: {stored.name} has other bytes now")


def _is_done(folder: str, part: Part) -> bool:
    """Whether a shard and its index of records are there, and as long as each other says."""
    place = places.join(folder, part.file)
    if not (places.exists(place) and places.exists(place + RECORDS_SUFFIX)):
        return False
    try:
        values = from_json(places.read_bytes(place + RECORDS_SUFFIX))
        return values["bytes"] == places.size_bytes(place) and len(values["records"]) == part.end - part.first
    except (ValueError, KeyError, TypeError):  # damaged: written again
        return False


def _write_shard(folder: str, part: Part) -> None:
    import tensorflow as tf

    place, records, offset = places.join(folder, part.file), [], 0
    places.remove(place + RECORDS_SUFFIX)
    with places.local_file(place) as path:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in range(part.first, part.end):
                pictures = [_stored(domain, index) for domain in part.domains]
                data = example_of(pictures)
                writer.write(data)
                records.append([offset, len(data), *(stored for stored, _ in pictures)])
                offset += HEAD_BYTES + len(data) + TAIL_BYTES
        num_bytes, sha256 = path.stat().st_size, sha256_of(str(path))
    places.write_bytes(place + RECORDS_SUFFIX, as_json({"bytes": num_bytes, "sha256": sha256, "records": records}))


def _stored(domain: Domain, index: int) -> tuple[Stored, bytes]:
    data, name = encoded_picture(domain, index), domain.name(index)
    width, height = image_size(data, domain.origin(index).place)
    return Stored(name, len(data), width, height, hashlib.sha256(data).hexdigest()), data


def _index(folder: str, dataset: str, splits: dict[str, tuple[Domain, ...]], parts: Sequence[Part]) -> dict[str, Any]:
    """The content of index.json."""
    found: dict[str, Any] = {name: {"paired": len(domains) == 2, "count": len(domains[0]), "shards": []}
                             for name, domains in splits.items()}
    for part in parts:
        values = from_json(places.read_bytes(places.join(folder, part.file + RECORDS_SUFFIX)))
        shard = Shard(part.file, part.end - part.first, values["bytes"], values["sha256"],
                      load_records(folder, part.file)[1])
        found[part.file.rsplit("-", 3)[0]]["shards"].append(shard._asdict())
    return {"format": INDEX_FORMAT, "dataset": dataset, "splits": found}
