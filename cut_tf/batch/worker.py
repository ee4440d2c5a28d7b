"""What one process of many does: translate parts of the work, within a bound on the pixels that are in memory.

A part's output is written when all of it is translated, then a report that says so. So a part is done, or it is not:
whatever is killed, the next start does it again and writes the same files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cut_tf.batch.inputs import FILES, is_safe
from cut_tf.batch.records import SUFFIX_OF, WRITERS, FilesWriter, Picture, Result, Sample, Writer
from cut_tf.batch.translation import failure, result_name
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.images import Translate
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import decode_image, encode_image, size_of

_LOG = logging.getLogger(__name__)

STATE = ".batch"
_REPORTS = f"{STATE}/reports"


class Part(NamedTuple):
    """The unit of work: samples whose results are written together.

    Attributes:
      name: of its report, and of its shard in the output.
      samples: in the order of the input.
      last: whether it is the last one of its unit of the plan.
      problem: why the rest of its unit cannot be read, empty if it can.
    """

    name: str
    samples: tuple[Sample, ...]
    last: bool
    problem: str = ""

    @property
    def num_bytes(self) -> int:
        """Encoded bytes that it holds in memory."""
        return sum(len(picture.data or b"") for sample in self.samples for picture in sample.pictures)


class Target(NamedTuple):
    """Where results go: the folder, and FILES, TFRECORD or TAR."""

    folder: str
    kind: str


@dataclasses.dataclass
class PartReport:
    """What became of a part. `failures` are {"picture", "kind", "message"}, `written` names in the target's folder."""

    part: str
    last: bool
    pictures: int = 0
    pixels: int = 0
    seconds: float = 0.0
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list)
    written: list[str] = dataclasses.field(default_factory=list)

    def add_failure(self, picture: str, error: Exception, where: str) -> None:
        """Notes why a picture has no result."""
        found = failure(where, error)
        self.failures.append({"picture": picture, "kind": found.kind, "message": found.message})

    def add_siblings(self, sample: Sample, lost: Sequence[Picture]) -> None:
        """Notes that a sample has no results, since those of the pictures `lost` are missing, which are told."""
        for picture in sample.pictures:
            if not any(picture is one for one in lost):
                self.add_failure(picture.key, InputError(
                    f"{picture.where}: its sample must have results of all of its pictures, found that it lacks "
                    f"{', '.join(one.key for one in lost)}"), picture.where)

    def save(self, folder: str) -> None:
        """Writes it to the target's folder, atomically."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False)
        places.write_bytes(report_place(folder, self.part), text.encode("utf-8", errors="surrogatepass"))

    @staticmethod
    def load(folder: str, part: str) -> PartReport:
        """Reads what `save` wrote. Raises InputError if it is damaged."""
        place = report_place(folder, part)
        try:
            return PartReport(**json.loads(places.read_bytes(place)))
        except (ValueError, TypeError) as error:
            raise InputError(f"{place}: must be a report of a part, found {error}. Without it, the part is done "
                             "again") from error

    @staticmethod
    def remove(folder: str, part: str) -> None:
        """Removes what `save` wrote."""
        places.remove(report_place(folder, part))


def report_place(folder: str, part: str) -> str:
    """Where the report of a part is."""
    return places.join(folder, f"{_REPORTS}/{part}.json")


def reported_parts(folder: str) -> set[str]:
    """Names of the parts that are done."""
    return {name[:-len(".json")] for name in places.names_in(places.join(folder, _REPORTS))
            if name.endswith(".json") and not name.startswith(".")}


class PixelBudget:
    """How many pixels the threads of a process may have in memory at once.

    Args:
      most: the bound. A picture that is larger waits until it is alone.
    """

    def __init__(self, most: int) -> None:
        self._most, self._used = most, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, pixels: int) -> Iterator[None]:
        """A block in which so many pixels are in memory; waits until there is room for them."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + pixels <= self._most)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


class _Sized(NamedTuple):
    """A sample with the sizes (height, width) of its pictures."""

    sizes: tuple[tuple[int, int], ...]
    sample: Sample

    @property
    def pixels(self) -> int:
        return sum(height * width for height, width in self.sizes)


class Worker:
    """A loaded translator, and all that it takes to do parts with it. Thread-safe if the translator is.

    Args:
      translate: what is done to a picture. If it has a method `many`, that takes a list of pictures of one size.
      target: where results go.
      most_pixels: the bound of PixelBudget.
      batch_size: most pictures for `many`. Batches may round a few values to the next level.
    """

    def __init__(self, translate: Translate, target: Target, most_pixels: int, batch_size: int = 1) -> None:
        self._translate, self._target, self._most_pixels = translate, target, most_pixels
        self._batch_size = batch_size if hasattr(translate, "many") else 1
        self._budget = PixelBudget(most_pixels)

    def do(self, part: Part) -> PartReport:
        """Translates a part, writes its results and its report.

        Raises:
          InputError: if something cannot be written. A picture that cannot be translated is in the report.
        """
        started, report = time.perf_counter(), PartReport(part.name, part.last)
        if part.problem:
            report.failures.append({"picture": part.name, "kind": "refused", "message": part.problem})
        sized = self._sized(part.samples, report)
        if self._target.kind == FILES:
            self._write(sized, FilesWriter(self._target.folder), report)
        elif sized:
            self._write_shard(sized, part.name + SUFFIX_OF[self._target.kind], report)
        report.seconds = time.perf_counter() - started
        report.save(self._target.folder)
        return report

    def _write_shard(self, sized: list[_Sized], name: str, report: PartReport) -> None:
        place = places.join(self._target.folder, name)
        with places.local_file(place) as path:
            self._write(sized, WRITERS[self._target.kind](path), report)
        if report.pictures:
            report.written = [name]
        else:
            places.remove(place)

    def _sized(self, samples: Iterable[Sample], report: PartReport) -> list[_Sized]:
        """Pictures of one size one after the other, for which a network need not be set up anew."""
        found = []
        for sample in samples:
            sizes = [_attempt(_size, picture) for picture in sample.pictures]
            wrong = [(picture, size) for picture, size in zip(sample.pictures, sizes) if isinstance(size, Exception)]
            for picture, error in wrong:
                report.add_failure(picture.key, error, picture.where)
            if wrong:
                report.add_siblings(sample, [picture for picture, _ in wrong])
            else:
                found.append(_Sized(tuple(sizes), sample))
        return sorted(found, key=lambda one: one.sizes)

    def _write(self, sized: list[_Sized], writer: Writer, report: PartReport) -> None:
        try:
            for group in self._groups(sized):
                for one, results in zip(group, self._results(group, report)):
                    if results is None:
                        continue
                    writer.add(one.sample, results)
                    report.pictures += len(results)
                    report.pixels += one.pixels
                    report.written += [result.key for result in results]
        finally:
            writer.close()

    def _groups(self, sized: list[_Sized]) -> Iterator[list[_Sized]]:
        """Samples that are translated together: of one picture each, of one size, within both bounds."""
        group: list[_Sized] = []
        for one in sized:
            fits = group and one.sizes == group[0].sizes and len(one.sizes) == 1 and len(group) < self._batch_size
            if group and not (fits and (len(group) + 1) * one.pixels <= self._most_pixels):
                yield group
                group = []
            group.append(one)
        if group:
            yield group

    def _results(self, group: list[_Sized], report: PartReport) -> list[list[Result] | None]:
        """Results of each sample; None if a picture of it fails, since without it the others are of no use."""
        owners = [(index, picture) for index, one in enumerate(group) for picture in one.sample.pictures]
        results: list[list[Result]] = [[] for _ in group]
        failed: dict[int, list[Picture]] = {}
        with self._budget.reserved(sum(one.pixels for one in group)):
            read = [_attempt(_decoded, picture) for _, picture in owners]
            decoded = [one if isinstance(one, Exception) else one.pixels for one in read]
            outputs = self._outputs(decoded, [picture.where for _, picture in owners])
            for (index, picture), one, output in zip(owners, read, outputs):
                result = output if isinstance(output, Exception) else _attempt(_encoded, picture, output, one.profile)
                if isinstance(result, Exception):
                    report.add_failure(picture.key, result, picture.where)
                    failed.setdefault(index, []).append(picture)
                else:
                    results[index].append(result)
        for index, lost in failed.items():
            report.add_siblings(group[index].sample, lost)
        return [None if index in failed else found for index, found in enumerate(results)]

    def _outputs(self, pictures: list[np.ndarray | Exception], wheres: list[str]) -> list[np.ndarray | Exception]:
        """One output per picture; what went wrong before or now in its place."""
        if len(pictures) > 1 and self._batch_size > 1 and not any(isinstance(one, Exception) for one in pictures):
            together = _attempt(self._translate.many, pictures)
            if not isinstance(together, Exception):
                return together
            _LOG.info("%s and %d others: one by one, since together: %s", wheres[0], len(wheres) - 1, together)
        return [picture if isinstance(picture, Exception) else _attempt(self._translate, picture, where)
                for picture, where in zip(pictures, wheres)]


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or the exception that it raises: after one bad picture, the next may be fine."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _size(picture: Picture) -> tuple[int, int]:
    """Height and width. Raises InputError for a key that leads out of the output folder, and for what has no result."""
    if picture.problem:
        raise InputError(picture.problem)
    if not is_safe(picture.key):
        raise InputError(f"{picture.where}: names of pictures must stay inside the output, found {picture.key!r}")
    with picture.opened() as file:
        width, height = size_of(file, picture.where)
    return height, width


class _Decoded(NamedTuple):
    """A picture, uint8 [H, W, 3], and its ICC profile."""

    pixels: np.ndarray
    profile: bytes


def _decoded(picture: Picture) -> _Decoded:
    data = picture.read()
    return _Decoded(decode_image(data, picture.where), color_profile(data, picture.where))


def _encoded(picture: Picture, output: np.ndarray, profile: bytes) -> Result:
    name = result_name(picture.key)
    return Result(name, encode_image(output, name, profile), *output.shape[:2])
