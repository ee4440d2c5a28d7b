"""Units of work, the plans that hold them, and the files that are their results."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cut_tf.batch.inputs import FILES, Item, kind_of
from cut_tf.batch.records import SUFFIX_OF, DamagedError, Picture, Sample, read_samples
from cut_tf.batch.translation import result_name
from cut_tf.batch.worker import STATE, Part
from cut_tf.common import places
from cut_tf.common.errors import InputError

FORMAT = 1
_CONTENTS = {"translator", "output", "input", "pictures_per_shard", "pinned", "units"}
MOST_PART_BYTES = 2**26


class Unit(NamedTuple):
    """Pictures, or one shard of them, that belong together for good.

    Attributes:
      name: shard-NUMBER-PLAN, where PLAN is random, so that workers of a job that was begun anew report to no other.
      kind: FILES, TFRECORD or TAR.
      items: the pictures, or the one shard.
      pictures_per_part: most samples of a part.
      num_bytes: of the shard when it was planned.
      folder: of the output, for results of a shard that are files; empty for others.
      reads_links: whether links of a tar count as its members. Plans of earlier versions leave them out, and their
        parts are counted so.
      names_differ: whether two pictures of a shard must not have one result, as in a folder, and in a tar. Those of
        `folder` must not anyway; plans of earlier versions do not ask it of a tar.
    """

    name: str
    kind: str
    items: tuple[Item, ...]
    pictures_per_part: int
    num_bytes: int = 0
    folder: str = ""
    reads_links: bool = False
    names_differ: bool = False

    def parts(self, done: frozenset[str]) -> Iterator[Part]:
        """Its parts that are not done, in order. Shards are read as far as needed, in bounded memory.

        Raises:
          InputError: if a shard cannot be read now. What a damaged one lacks is the problem of its last part.
        """
        if self.kind == FILES:
            name = f"{self.name}-{0:05d}"
            if name not in done:
                yield Part(name, tuple(Sample((Picture(item.key, place=item.place),)) for item in self.items), True)
            return
        held: list[Sample] = []
        number, num_bytes, problem = 0, 0, ""
        try:
            for sample in self._samples():
                size = sum(len(picture.data or b"") for picture in sample.pictures)
                if held and (len(held) == self.pictures_per_part or num_bytes + size > MOST_PART_BYTES):
                    part = Part(f"{self.name}-{number:05d}", tuple(held), False)
                    held, number, num_bytes = [], number + 1, 0
                    if part.name not in done:
                        yield part
                held.append(sample)
                num_bytes += size
        except DamagedError as error:
            problem = str(error)
        name = f"{self.name}-{number:05d}"
        if name not in done:
            yield Part(name, tuple(held), True, problem)
        elif problem:  # where reading went well at an earlier start
            raise DamagedError(problem)

    def _samples(self) -> Iterator[Sample]:
        (item,) = self.items
        samples = (sample for sample in read_samples(self.kind, item.place, self.reads_links) if sample.pictures)
        return self._checked(samples) if self.folder or self.names_differ else samples

    def _checked(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples with their pictures in the unit's folder. Those whose result has been there already say so."""
        seen: set[str] = set()
        for sample in samples:
            pictures = []
            for picture in sample.pictures:
                key = f"{self.folder}/{picture.key}" if self.folder else picture.key
                result = result_name(key)
                problem = (f"{key}: names of results must differ, upper and lower case aside, found {result} twice"
                           if result.lower() in seen else "")
                seen.add(result.lower())
                pictures.append(dataclasses.replace(picture, key=key, problem=picture.problem or problem))
            yield dataclasses.replace(sample, pictures=tuple(pictures))

    def check_unchanged(self) -> None:
        """Raises InputError if a shard has another length than when it was planned: its parts would be others."""
        if self.kind == FILES:
            return
        found = places.size_bytes(self.items[0].place)
        if found != self.num_bytes:
            raise InputError(f"{self.items[0].place}: must stay as it was when the work began, found {found} bytes "
                             f"instead of {self.num_bytes}")


def unit_name(number: int, plan: str) -> str:
    """Name of a unit by its number and the random name of its plan."""
    return f"shard-{number:05d}-{plan}"


def unit_of(part: str) -> str:
    """Name of the unit that a part belongs to."""
    return part.rpartition("-")[0]


def json_bytes(values: object) -> bytes:
    """One line of JSON. Names of files that are not UTF-8 keep their bytes."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", errors="surrogatepass")


def place_of(folder: str, number: int) -> str:
    """Where a plan is."""
    return places.join(folder, f"{STATE}/plan-{number:04d}.json")


def load(folder: str) -> list[dict]:
    """The plans of the job in an output folder, in order. Raises InputError for what is no plan."""
    plans = []
    while places.exists(place := place_of(folder, len(plans))):
        rule = f"{place}: must be a plan as cut_tf.translate writes it"
        try:
            plan = json.loads(places.read_bytes(place).decode("utf-8", errors="surrogatepass"))
        except ValueError as error:
            raise InputError(f"{rule}, found {error}") from error
        # Those of other versions have other contents, and are refused by their format.
        if not isinstance(plan, dict) or plan.get("format") == FORMAT and _CONTENTS - plan.keys():
            raise InputError(f"{rule}, found {str(plan)[:60]}")
        plans.append(plan)
    return plans


def unit_from(values: dict) -> Unit:
    """A unit as a plan holds it."""
    return Unit(**{**values, "items": tuple(Item(*item) for item in values["items"])})


def identity(place: str) -> str:
    """The same for all names of one file."""
    return place if places.is_remote(place) else os.path.realpath(place)


def results_in(folder: str) -> Callable[[str], bool]:
    """Tells for a place whether the job in an output folder writes it: no input of that job, wherever it is found.

    Raises:
      InputError: if a plan in the folder is damaged.
    """
    files, folders, shards = set(), [], []
    for plan in load(folder):
        if plan.get("format") != FORMAT:  # refused when the work is planned
            continue
        for unit in map(unit_from, plan["units"]):
            if plan["output"] != FILES:
                shards.append((identity(places.join(folder, f"{unit.name}-")), SUFFIX_OF[plan["output"]]))
            elif unit.kind == FILES:
                files.update(identity(places.join(folder, result_name(item.key))) for item in unit.items)
            else:
                folders.append(identity(places.join(folder, unit.folder)) + "/")

    def is_result(place: str) -> bool:
        found = identity(place)
        return (found in files or kind_of(found) == FILES and found.startswith(tuple(folders))
                or any(found.startswith(start) and found.endswith(end) for start, end in shards))

    return is_result
