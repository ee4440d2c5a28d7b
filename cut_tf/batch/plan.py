"""Which picture belongs to which unit of work, written down before any work, so that every later start agrees.

    OUTPUT/.batch/plan-0000.json      what translates, and units of work; later numbers add pictures that came later
    OUTPUT/.batch/reports/UNIT-PART.json   one for each part that is done, written after its results
    OUTPUT/failures.jsonl, OUTPUT/summary.json   made from the reports at the end of every start
"""

from __future__ import annotations

import dataclasses
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cut_tf.batch.inputs import FILES, TFRECORD, Inputs, Item, shard_stem
from cut_tf.batch.records import SUFFIX_OF
from cut_tf.batch.translation import TranslatorChoice, result_name, same_results
from cut_tf.batch.units import FORMAT, Unit, identity, json_bytes, load, place_of, unit_from, unit_name, unit_of
from cut_tf.batch.worker import PartReport, Target, reported_parts
from cut_tf.common import places
from cut_tf.common.errors import InputError

FAILURES, SUMMARY = "failures.jsonl", "summary.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """All units of a job, those of earlier starts first."""

    target: Target
    choice: TranslatorChoice
    units: tuple[Unit, ...]

    def pending(self) -> tuple[list[Unit], frozenset[str]]:
        """Units that are not done to the end, and the parts that are done. Raises InputError for a damaged report."""
        done = frozenset(_reported(self.target.folder, self.units))
        # Pictures that are files are one part; of a shard only the reports know which part is the last.
        whole = {unit.name for unit in self.units if unit.kind == FILES}
        ended = {unit_of(name) for name in done
                 if unit_of(name) in whole or PartReport.load(self.target.folder, name).last}
        return [unit for unit in self.units if unit.name not in ended], done

    def reports(self) -> list[PartReport]:
        """Of all parts that are done."""
        return _reports(self.target.folder, self.units)


def _reported(folder: str, units: Iterable[Unit]) -> list[str]:
    """Sorted names of the parts of these units that are done. Other reports are of jobs that were begun anew."""
    names = {unit.name for unit in units}
    return sorted(part for part in reported_parts(folder) if unit_of(part) in names)


def _reports(folder: str, units: Iterable[Unit]) -> list[PartReport]:
    return [PartReport.load(folder, part) for part in _reported(folder, units)]


def settle(inputs: Inputs, target: Target, choice: TranslatorChoice, pictures_per_shard: int,
           overwrite: bool = False, retry_failed: bool = False) -> Plan:
    """The plan of the output folder: a new one, or the one that is there with what is new in `inputs` added.

    Args:
      inputs: what is to be translated now.
      target: where results go.
      choice: what translates.
      pictures_per_shard: most pictures of a part.
      overwrite: begin anew; removes what an earlier job wrote.
      retry_failed: plan pictures again that failed.

    Raises:
      InputError: if the output holds results of something else, or would replace one of the pictures. Nothing has
        changed then.
    """
    found = load(target.folder)
    earlier = [] if overwrite else found
    head = {"format": FORMAT, "translator": choice.fingerprint(), "output": target.kind, "input": inputs.kind,
            "pictures_per_shard": pictures_per_shard}
    for plan in earlier:
        _check_same(head, plan, target)
    pinned = (TranslatorChoice(**earlier[0]["pinned"]).at_places_of(choice) if earlier else choice).pinned()
    head["checkpoint"] = pinned.checkpoint_digest()
    if earlier and earlier[0].get("checkpoint", head["checkpoint"]) != head["checkpoint"]:
        raise InputError(f"--run={pinned.run} must have the weights with which --output={target.folder} began, found "
                         "others. --overwrite begins anew")
    units = [unit_from(values) for plan in earlier for values in plan["units"]]
    added = _new_items(inputs, units, target)
    again = _failed_items(inputs, units, target) if retry_failed else []
    _check_results_differ([item for unit in units for item in unit.items], added, inputs.kind, target)
    results = _result_names(inputs.kind, added, target)
    _check_sources_stay(inputs, units, target, results, _written(target.folder) if overwrite else [])
    if not overwrite:
        _check_free(target, results, is_first=not earlier)
    elif found:
        _remove(target.folder, len(found))
    if added or again:
        new = _units(sorted(added + again), inputs.kind, target.kind, pictures_per_shard, len(units))
        values = {**head, "pinned": dataclasses.asdict(pinned), "units": [unit._asdict() for unit in new]}
        place = place_of(target.folder, len(earlier))
        if not places.write_new(place, json_bytes(values)):
            raise InputError(f"{place}: must be written by one start alone, found that of another start, which adds "
                             "pictures now. The same command, given again, goes on from there")
        units += new
    plan = Plan(target, pinned, tuple(units))
    for unit in plan.pending()[0]:
        unit.check_unchanged()
    return plan


def _check_same(head: dict, plan: dict, target: Target) -> None:
    """Raises InputError if the plan is of another job than the flags say."""
    flags = {"translator": "what translates", "output": "--output_format", "input": "the kind of --input",
             "pictures_per_shard": "--pictures_per_shard"}
    if plan.get("format") != FORMAT:
        raise InputError(f"--output={target.folder} must be a new folder, found the plan of another version of cut_tf")
    for name, title in flags.items():
        same = same_results(head[name], plan[name]) if name == "translator" else head[name] == plan[name]
        if not same:
            raise InputError(f"--output={target.folder} must be a new folder or that of the same job, found results "
                             f"with another value of {title}: {plan[name]} there, {head[name]} here. --overwrite "
                             "begins anew")


def _result_names(kind: str, items: list[Item], target: Target) -> list[str]:
    """What the items become in the output folder: files, or folders of files. Shards are named by parts: then none."""
    if target.kind != FILES:
        return []
    return [result_name(item.key) if kind == FILES else shard_stem(item.key) for item in items]


def _check_results_differ(known: list[Item], added: list[Item], kind: str, target: Target) -> None:
    """Raises InputError if two items would have one result, upper and lower case aside."""
    items: dict[str, Item] = {}
    for item, name in zip(known + added, _result_names(kind, known + added, target)):
        if items.setdefault(name.lower(), item).key != item.key:
            raise InputError(f"--input must not hold two files whose results would be one, found {item.key} and "
                             f"{items[name.lower()].key}, with {places.join(target.folder, name)}")


def _check_sources_stay(inputs: Inputs, units: list[Unit], target: Target, results: list[str], removed: list[str]
                        ) -> None:
    """Raises InputError if a file of the input is among the results, or among what is removed to begin anew."""
    items = [*inputs.items, *(item for unit in units for item in unit.items)]
    sources = {identity(item.place) for item in items}
    for names, fate in ((results, "replaced"), (removed, "removed")):
        lost = [place for place in (places.join(target.folder, name) for name in names) if identity(place) in sources]
        if lost:
            raise InputError(f"--output must be another folder than that of --input, found that {lost[0]}, which is in "
                             f"the input, would be {fate}")


def _check_free(target: Target, results: list[str], is_first: bool) -> None:
    """Raises InputError if a result would replace a file that no plan knows, or be among shards that none knows."""
    folders = {name.rpartition("/")[0] for name in results}
    present = {f"{folder}/{name}".strip("/") for folder in folders
               for name in places.names_in(places.join(target.folder, folder) if folder else target.folder)}
    found = [name for name in results if name in present]
    if target.kind != FILES and is_first:
        found = [name for name in places.names_in(target.folder) if name.endswith(tuple(SUFFIX_OF.values()))]
    if found:
        raise InputError(f"--output={target.folder} has {len(found)} of the results already, such as {found[0]}; name "
                         "another folder or give --overwrite")


def _written(folder: str) -> list[str]:
    """Names of all results in the output folder that a report tells of."""
    return [name for part in sorted(reported_parts(folder)) for name in PartReport.load(folder, part).written]


def _remove(folder: str, plans: int) -> None:
    """Removes what a job wrote: results, reports, and its plans last, so that a kill in between leaves a known job."""
    for part in sorted(reported_parts(folder)):
        for name in PartReport.load(folder, part).written:
            places.remove(places.join(folder, name))
        PartReport.remove(folder, part)
    for number in reversed(range(plans)):
        places.remove(place_of(folder, number))


def _new_items(inputs: Inputs, units: list[Unit], target: Target) -> list[Item]:
    """Items that no unit has.

    Raises:
      InputError: if a unit has a picture of that name from another place.
    """
    known = {item.key: item.place for unit in units for item in unit.items}
    others = [item for item in inputs.items if known.get(item.key, item.place) != item.place]
    if others:
        raise InputError(f"--output={target.folder} must be a new folder or that of the same job, found the result of "
                         f"{known[others[0].key]} under the name of {others[0].place}")
    return [item for item in inputs.items if item.key not in known]


def _failed_items(inputs: Inputs, units: list[Unit], target: Target) -> list[Item]:
    """Items that failed, to be tried again. Raises InputError for shards."""
    if inputs.kind != FILES:
        raise InputError("--retry_failed must not be given with shards as --input, found it. Translate the "
                         f"pictures that {FAILURES} names from files, or begin anew with --overwrite")
    again = {failure["picture"] for failure in failures(units, _reports(target.folder, units))}
    return [item for item in inputs.items if item.key in again]


def _units(items: list[Item], kind: str, output: str, pictures_per_shard: int, first: int) -> list[Unit]:
    plan = uuid.uuid4().hex[:8]
    if kind != FILES:
        return [Unit(unit_name(first + number, plan), kind, (item,), pictures_per_shard, places.size_bytes(item.place),
                     shard_stem(item.key) if output == FILES else "", reads_links=True, names_differ=output != TFRECORD)
                for number, item in enumerate(items)]
    groups = [items[start:start + pictures_per_shard] for start in range(0, len(items), pictures_per_shard)]
    return [Unit(unit_name(first + number, plan), kind, tuple(group), pictures_per_shard)
            for number, group in enumerate(groups)]


def failures(units: list[Unit], reports: list[PartReport]) -> list[dict[str, str]]:
    """What failed, but for pictures that a later unit has tried again, in the order of the reports."""
    newest = {item.key: unit.name for unit in units if unit.kind == FILES for item in unit.items}
    return [{**failure, "part": report.part} for report in reports for failure in report.failures
            if newest.get(failure["picture"], unit_of(report.part)) == unit_of(report.part)]


class Totals(NamedTuple):
    """What all starts together have done."""

    pictures: int
    pixels: int
    seconds: float
    failures: list[dict[str, str]]
    unfinished: int

    def lines(self) -> list[str]:
        """What a person wants to read."""
        megapixels = self.pixels / 1e6
        lines = [f"{self.pictures} pictures, {megapixels:.1f} megapixels, {self.seconds:.1f} s of work"
                 + (f", {1e3 * self.seconds / megapixels:.0f} ms per megapixel" if megapixels else "")]
        counts = Counter(failure["kind"] for failure in self.failures)
        lines += [f"failed, {kind}: {count}" for kind, count in sorted(counts.items())]
        return lines + ([f"units not finished: {self.unfinished}"] if self.unfinished else [])


def conclude(plan: Plan) -> Totals:
    """Writes failures.jsonl, if there are any, and summary.json from all reports. Returns their totals."""
    reports, folder = plan.reports(), plan.target.folder
    failed = failures(list(plan.units), reports)
    totals = Totals(sum(report.pictures for report in reports), sum(report.pixels for report in reports),
                    sum(report.seconds for report in reports), failed, len(plan.pending()[0]))
    place = places.join(folder, FAILURES)
    if failed:
        places.write_bytes(place, b"".join(json_bytes(failure) + b"\n" for failure in failed))
    else:
        places.remove(place)
    counts = Counter(failure["kind"] for failure in failed)
    places.write_bytes(places.join(folder, SUMMARY), json_bytes({
        "pictures": totals.pictures, "pixels": totals.pixels, "seconds": round(totals.seconds, 3),
        "failed": len(failed), "failed_by_kind": dict(sorted(counts.items())), "unfinished_units": totals.unfinished,
        "translator": dataclasses.asdict(plan.choice)}) + b"\n")
    return totals
