"""The inputs of a run besides its settings: its training pictures, and the runs that it learns from.

    RUN/inputs.json   the pictures' paths and sizes, the steps of an epoch, and the checkpoints of other runs

A continued run must find the same inputs. Otherwise it would end with other weights, and nobody would notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cut_tf.checkpoints import CheckpointStore, run_and_step
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.data.checks import first_lines
from cut_tf.data.domain import Domain
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import Settings

_FILE = "inputs.json"
_FORMAT = 1
_RUN = "run:"


class OtherRun(NamedTuple):
    """A checkpoint of another run."""

    step: int
    digest: str  # SHA-256 of its index, which holds a checksum of every weight


class RunInputs(NamedTuple):
    """The record of a run's inputs."""

    # (place, bytes) of every training picture by domain, source and target, in their order.
    pictures: dict[str, list[tuple[str, int]]]
    steps_per_epoch: int
    # By the flag that names it.
    runs: dict[str, OtherRun]

    def pinned(self, settings: Settings) -> Settings:
        """The settings with DIR@STEP, one fixed checkpoint, in place of every run that this run learns from."""
        teacher, features = settings.distill.teacher, settings.contrastive.contrastive_features
        if teacher:
            teacher = f"{run_and_step(teacher)[0]}@{self.runs['teacher'].step}"
        if features.startswith(_RUN):
            folder = run_and_step(features[len(_RUN):])[0]
            features = f"{_RUN}{folder}@{self.runs['contrastive_features'].step}"
        return settings.having(teacher=teacher, contrastive_features=features)


def settle(folder: Path, stream: TrainingStream, settings: Settings) -> RunInputs:
    """The inputs that this run trains with: the recorded ones if it was begun before. Writes nothing.

    Args:
      folder: of the run.
      stream: its training pictures.
      settings: of the run.

    Raises:
      InputError: if the run was begun with other pictures or another checkpoint of another run, naming the first
        differences, unless --allow_changed_data; or if another run has no such checkpoint.
    """
    recorded = read(folder)
    pictures = {name: _places(domain) for name, domain in zip(("source", "target"), stream.domains)}
    if recorded is None:
        steps = settings.optimizer.steps_per_epoch or stream.steps_per_epoch()
        return RunInputs(pictures, steps, {flag: _newest(flag, run) for flag, run in _named_runs(settings)})
    lines = [f"  {line}" for name in pictures for line in _changes(name, recorded.pictures.get(name, []),
                                                                   pictures[name])]
    runs = {}
    for flag, run in _named_runs(settings):
        runs[flag] = recorded.runs.get(flag) or _newest(flag, run)
        change = _change_of_run(flag, run, runs[flag])
        if change:
            lines.append(f"  {change}")
            if settings.train.allow_changed_data:
                runs[flag] = _newest(flag, run)
    if lines and not settings.train.allow_changed_data:
        raise InputError("\n".join([
            f"--run={folder} was begun with other inputs than are found now ({len(lines)} differences):",
            *first_lines(lines), "Put them back, name another folder, or give --allow_changed_data, which goes on with "
            "what is there now"]))
    # Learning rates depend on the epochs, so the steps of an epoch stay those of the run's beginning.
    return RunInputs(pictures, recorded.steps_per_epoch, runs)


def read(folder: Path) -> RunInputs | None:
    """The inputs that `write` wrote, or None if there are none. Raises InputError for a damaged file."""
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pictures = {name: [(str(place), int(size)) for place, size in values["pictures"][name]]
                    for name in ("source", "target")}
        runs = {flag: OtherRun(int(run["step"]), str(run["digest"])) for flag, run in values["runs"].items()}
        return RunInputs(pictures, int(values["steps_per_epoch"]), runs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the record of a run's inputs: {type(error).__name__}: {error}") from error


def write(folder: Path, inputs: RunInputs) -> None:
    """Writes inputs.json unless it has this content already. Raises InputError if it cannot be written."""
    values = {"format": _FORMAT, "steps_per_epoch": inputs.steps_per_epoch,
              "runs": {flag: run._asdict() for flag, run in inputs.runs.items()}, "pictures": inputs.pictures}
    if read(folder) != inputs:
        replace_file(folder / _FILE, (json.dumps(values) + "\n").encode())


def _places(domain: Domain) -> list[tuple[str, int]]:
    return [tuple(domain.origin(index)) for index in range(len(domain))]


def _named_runs(settings: Settings) -> Iterator[tuple[str, str]]:
    """(flag, DIR or DIR@STEP) of every run that this run learns from."""
    if settings.distill.teacher:
        yield "teacher", settings.distill.teacher
    if settings.contrastive.contrastive_features.startswith(_RUN):
        yield "contrastive_features", settings.contrastive.contrastive_features[len(_RUN):]


def _newest(flag: str, run: str) -> OtherRun:
    folder, step = run_and_step(run)
    store = CheckpointStore(folder, keep=1, writes=False)
    try:
        step = store.find("last") if step is None else store.check(step)
        return OtherRun(step, _digest(store.path(step)))
    except InputError as error:
        raise InputError(f"--{flag}={run}: {error}") from error


def _change_of_run(flag: str, run: str, recorded: OtherRun) -> str:
    """The difference between a run and its record, or an empty string."""
    store = CheckpointStore(run_and_step(run)[0], keep=1, writes=False)
    steps = store.steps()
    if recorded.step not in steps:
        return f"--{flag}={run}: its checkpoint of step {recorded.step} is gone, found {steps or 'none'}"
    if _digest(store.path(recorded.step)) != recorded.digest:
        return f"--{flag}={run}: its checkpoint of step {recorded.step} has other weights"
    return ""


def _digest(checkpoint: Path) -> str:
    path = checkpoint / "variables.index"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _changes(name: str, before: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]]) -> Iterator[str]:
    """One line for each picture that is gone, new or of another size."""
    sizes: Mapping[str, int] = dict(now)
    known: Mapping[str, int] = dict(before)
    for place, size in known.items():
        if place not in sizes:
            yield f"{name}: {place} is gone"
        elif sizes[place] != size:
            yield f"{name}: {place} had {size} bytes, has {sizes[place]}"
    yield from (f"{name}: {place} is new" for place in sizes if place not in known)
    if known == sizes and list(before) != list(now):
        yield f"{name}: the same files make {len(now)} pictures in another order, not {len(before)}"
