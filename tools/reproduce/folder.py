"""A suite of `tools.reproduce` in its folder: the plan, the runs that are still to be done, the table of the others."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import shlex
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cut_tf
from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.data.domain import TranslationData
from tools.reproduce import report
from tools.reproduce.report import result_name
from tools.reproduce.rows import flat, select_rows, set_flags, settings_of
from tools.reproduce.suites import SUITES, Row


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of the command; `assignments` are those of --set, `name=value`. Zero or empty: not given."""

    suite: str
    dataset: str
    output: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] = ()
    base: str = ""
    steps: int = 0
    budget_minutes: float = 0
    assignments: tuple[str, ...] = ()
    feature_extractor: str = ""
    teacher: str = ""

    def check(self) -> None:
        """Raises InputError naming the flag if a value is not possible with any suite."""
        if not self.output.name:
            raise InputError(f"--output must be a folder, found {str(self.output)!r}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds must be different integers, zero or more, found {list(self.seeds)}")
        if self.steps < 0:
            raise InputError(f"--steps must be zero or more, found {self.steps}")
        if self.budget_minutes < 0 or (self.steps and self.budget_minutes):
            raise InputError(f"--budget_minutes must be above zero, and not be given with --steps, found "
                             f"{self.budget_minutes} and --steps={self.steps}")

    def command(self) -> str:
        """The command line that continues."""
        words = [f"--{name}={value}" for name, value in (
            ("suite", self.suite), ("dataset", self.dataset), ("output", self.output),
            ("seeds", ",".join(map(str, self.seeds))), ("rows", ",".join(self.rows)), ("base", self.base),
            ("steps", self.steps), ("budget_minutes", self.budget_minutes),
            ("feature_extractor", self.feature_extractor), ("teacher", self.teacher)) if value]
        return shlex.join(["python", "-m", "tools.reproduce", *words, *(f"--set={item}" for item in self.assignments)])


class RunError(RuntimeError):
    """A run failed. The message says how, and names its log if it has one."""


def check_test_pictures(data: TranslationData, options: Options) -> None:
    """Raises InputError unless both domains have test pictures."""
    if data.test_source is None or data.test_target is None:
        raise InputError("--dataset must have test pictures of both domains (testA and testB), found not both in "
                         f"{options.dataset}")


class Reproduction:
    """A suite in its folder. Making one checks the flags and writes nothing. A subclass is a kind of measurement.

    Attributes:
      table: the Markdown table of all that is finished, after `work`.

    Raises:
      InputError: if flags or base flagfile are not as they must be.
    """

    # Folders of the output, besides that of the results.
    folders: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        options.check()
        self._options, self._output, self._suite = options, options.output, SUITES[options.suite]
        base = options.base or self._suite.bases[options.dataset != "scenes"]
        self._base = _flagfile(base) if base else []
        self._common = [*self._base, *set_flags(options.assignments)]
        settings = settings_of([*self._common, f"--dataset={options.dataset}"])
        self._rows, self._same = select_rows(options.suite, options.rows, self._common, options.teacher)
        self._trained = [row for row in self._rows if row.trained]
        self._runs: list[tuple[Row, int | None]] = [(row, None) for row in self._rows if not row.trained]
        self._runs += [(row, seed) for seed in options.seeds for row in self._trained]
        self._settings = settings
        self._asked = json.loads(json.dumps({
            "cut_tf": cut_tf.__version__, "suite": options.suite, "dataset": options.dataset, "base": base,
            "seeds": options.seeds, "steps": options.steps, "budget_minutes": options.budget_minutes,
            "feature_extractor": options.feature_extractor,
            "rows": {row.name: " ".join(row.flags) for row in self._rows}, "settings": flat(settings)}))
        self._plan: dict[str, Any] = {}
        self.table = ""

    # ---- what a kind of measurement is ------------------------------------------------------------------------------

    def _first_steps(self) -> int:
        """Steps of each run, 0 if that is not known at the start."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Called once, before the runs."""

    def _before(self, seed: int | None, lock: int) -> None:
        """Called before each run."""

    def _measure(self, row: Row, seed: int | None, lock: int) -> dict[str, Any]:
        """Does a run. Returns what belongs into its result: `metrics`, `machine`, ...; raises RunError if it fails."""
        raise NotImplementedError

    def _took_sec(self, result: Mapping[str, Any]) -> float | None:
        """Time of a run, if its result tells that of the whole run."""
        raise NotImplementedError

    def _report(self, results: list[dict[str, Any]]) -> tuple[str, list[str]]:
        """The Markdown table of these results, and the paragraphs below it."""
        raise NotImplementedError

    # ---- all kinds --------------------------------------------------------------------------------------------------

    def work(self) -> int:
        """Does all runs that have no result yet. Returns the number of runs done now.

        Raises:
          InputError: if the folder belongs to another set of flags or is in use.
          RunError: if a run fails.
        """
        self._plan = self._begun()
        try:
            for name in ("results", *self.folders):
                (self._output / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--output must be a folder that can be written, found {error}") from error
        with _locked(self._output / ".lock") as lock:
            self._save_plan()
            self._prepare()
            done = 0
            for number, (row, seed) in enumerate(self._runs, 1):
                if self._result_path(row, seed).exists():
                    continue
                self._before(seed, lock)
                print(f"run {number} of {len(self._runs)}: {result_name(row.name, seed)}{self._time_left()}",
                      flush=True)
                head = {"row": row.name, "label": row.label, "seed": seed, "flags": list(row.flags)}
                try:
                    measured = self._measure(row, seed, lock)
                except BrokenProcessPool as error:
                    raise RunError(f"{result_name(row.name, seed)}: its process was killed, as systems do when memory "
                                   "is full. The same command goes on there") from error
                replace_file(self._result_path(row, seed), as_json({**head, **measured}))
                self._write_report()
                done += 1
            if not done:
                self._write_report()
        return done

    def _begun(self) -> dict[str, Any]:
        """The plan of an earlier start with the same flags, or a new one."""
        path = self._output / "plan.json"
        if not path.exists():
            if self._output.exists() and (not self._output.is_dir() or any(self._output.iterdir())):
                raise InputError(f"--output must be a new or empty folder, or that of a suite, found other files in "
                                 f"{self._output}")
            return {"asked": self._asked, "steps": self._first_steps(), "expected_sec": {}}
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            differences = _differences(plan["asked"], self._asked)
            plan = {name: plan[name] for name in ("asked", "steps", "expected_sec")}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: must be the plan of a suite, found {error!r}; remove the folder to start "
                             "anew") from error
        if differences:
            raise InputError(f"--output={self._output} holds results of other flags or settings (its own against the "
                             f"given ones): {'; '.join(differences)}. Name another folder, or give the same flags")
        return plan

    def _save_plan(self) -> None:
        replace_file(self._output / "plan.json", as_json(self._plan))

    def _result_path(self, row: Row, seed: int | None) -> Path:
        return self._output / "results" / f"{result_name(row.name, seed)}.json"

    def _results(self) -> list[dict[str, Any]]:
        return report.read_results(self._output / "results")

    def _time_left(self) -> str:
        """An estimate from the runs so far and the plan; empty if there is neither."""
        results = self._results()
        there = {(result["row"], result["seed"]) for result in results}
        known: dict[str, list[float]] = {}
        for result in results:
            took_sec = self._took_sec(result)
            if took_sec is not None:
                known.setdefault(result["row"], []).append(took_sec)
        usual = {**self._plan["expected_sec"], **{name: statistics.fmean(times) for name, times in known.items()}}
        if not usual:
            return ""
        other_sec = statistics.fmean(usual.values())
        left_sec = sum(usual.get(row.name, other_sec) for row, seed in self._runs
                       if seed is not None and (row.name, seed) not in there)
        return f", about {left_sec / 60:.1f} minutes left for all"

    def _write_report(self) -> None:
        """The table of all that is finished, in OUTPUT/README.md."""
        results = self._results()
        self.table, notes = self._report(results)
        shown = {"title": self._title(), "command": self._options.command(), "same": self._same,
                 "base_flags": [*([f"--flagfile={self._asked['base']}"] if self._base else []),
                                *self._common[len(self._base):]], "steps": self._plan["steps"]}
        text = report.page(self.table, notes, self._rows, results, len(self._runs), shown)
        replace_file(self._output / "README.md", text.encode("utf-8", "surrogateescape"))

    def _title(self) -> str:
        return f"{self._options.suite} on {self._options.dataset}"


def as_json(values: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON file."""
    return (json.dumps(values, indent=2) + "\n").encode("ascii")


def _flagfile(base: str) -> list[str]:
    try:
        return command_line.with_flagfile_paths([f"--flagfile={base}"])
    except InputError as error:
        raise InputError(f"--base must be a flagfile of cut_tf.train: {error}") from error


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], inside: str = "") -> list[str]:
    """One text per value that differs between two trees of the same kind."""
    lines = []
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        one, other = mine.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            lines += _differences(one, other, f"{name}.")
        elif one != other:
            lines.append(f"{inside}{name} {one!r} against {other!r}")
    return lines


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Keeps other processes out. A training run shares the lock, so that one that outlives us does too."""
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"--output={path.parent} is in use by a process that still runs, one of "
                             f"{path.read_text(encoding='ascii').strip() or 'those of another start'}") from error
        yield file.fileno()
