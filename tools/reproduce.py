"""Trains and measures all that a table compares: python -m tools.reproduce --suite=dehazing --output=DIR

Each run is a `cut_tf.train` process of its own, all with the same number of steps: --steps, or what fits into
--budget_minutes by a calibration at the start, or that of the base flagfile. What is there, at any moment:

    OUTPUT/README.md, pictures.png      the table and the test pictures of all runs that are finished
    OUTPUT/results/ROW_seedK.json       what was measured of a run, with all its settings; never done again
    OUTPUT/pictures/ROW_seedK/          its first test pictures at full size
    OUTPUT/runs/ROW_seedK, logs/ROW_seedK.log   the run, and what it printed
    OUTPUT/plan.json                    what was asked for; other flags for the same folder are refused

It may be interrupted or killed: the same command goes on, also within a run. `tools.reproduce_suites` has the tables.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

import cut_tf
from cut_tf import command_line
from cut_tf.data import open_dataset
from cut_tf.data.image_files import write_png
from cut_tf.errors import InputError
from cut_tf.files import replace_file
from tools import reproduce_report, reproduce_runs
from tools.reproduce_report import result_name
from tools.reproduce_suites import (
    EPOCHS,
    SUITES,
    Cost,
    Row,
    flat,
    select_rows,
    set_flags,
    settings_of,
    steps_within,
    whole_epochs,
)

_BASES = {"scenes": "quickstart"}
_OTHER_BASE = "cut_dehaze_folder"
_CALIBRATION_STEPS = 2 * EPOCHS
_INTERRUPTED = 130


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

    def check(self) -> None:
        """Raises InputError naming the flag if a value is not possible."""
        if not self.output.name:
            raise InputError(f"--output must be a folder, found {str(self.output)!r}")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds must be different integers, zero or more, found {list(self.seeds)}")
        if self.steps < 0 or self.steps % EPOCHS:
            raise InputError(f"--steps must be a multiple of {EPOCHS}, found {self.steps}")
        if self.budget_minutes < 0 or (self.steps and self.budget_minutes):
            raise InputError(f"--budget_minutes must be above zero, and not be given with --steps, found "
                             f"{self.budget_minutes} and --steps={self.steps}")

    def command(self) -> str:
        """The command line that continues."""
        words = [f"--{name}={value}" for name, value in (
            ("suite", self.suite), ("dataset", self.dataset), ("output", self.output),
            ("seeds", ",".join(map(str, self.seeds))), ("rows", ",".join(self.rows)), ("base", self.base),
            ("steps", self.steps), ("budget_minutes", self.budget_minutes)) if value]
        return shlex.join(["python", "-m", "tools.reproduce", *words, *(f"--set={item}" for item in self.assignments)])


class Reproduction:
    """A suite in its folder. Making one checks the flags and the dataset and writes nothing.

    Raises:
      InputError: if flags, base flagfile or dataset are not as they must be.
    """

    def __init__(self, options: Options) -> None:
        options.check()
        self._options, self._output = options, options.output
        base = options.base or _BASES.get(options.dataset, _OTHER_BASE)
        self._base = _flagfile(base)
        self._common = [self._base, *set_flags(options.assignments)]
        settings = settings_of([*self._common, f"--dataset={options.dataset}"])
        self._rows, self._same = select_rows(options.suite, options.rows, self._common)
        self._trained = [row for row in self._rows if row.trained]
        self._data = settings.data
        self._test = open_dataset(self._data)
        if not self._test.test_paired:
            raise InputError(f"--dataset must have pairs of hazy and clear test pictures (testA and testB with the "
                             f"same names), found none in {options.dataset}")
        train = settings.train
        per_epoch = train.steps_per_epoch or max(len(self._test.source),
                                                 len(self._test.target)) // self._data.batch_size
        self._base_steps = whole_epochs((train.constant_epochs + train.decay_epochs) * per_epoch)
        self._runs: list[tuple[Row, int | None]] = [(row, None) for row in self._rows if not row.trained]
        self._runs += [(row, seed) for seed in options.seeds for row in self._trained]
        self._asked = json.loads(json.dumps({
            "cut_tf": cut_tf.__version__, "suite": options.suite, "dataset": options.dataset, "base": base,
            "seeds": options.seeds, "steps": options.steps, "budget_minutes": options.budget_minutes,
            "rows": {row.name: " ".join(row.flags) for row in self._rows}, "settings": flat(settings)}))
        self._plan: dict[str, Any] = {}

    def work(self) -> int:
        """Does all runs that have no result yet. Returns the number of runs done now.

        Raises:
          InputError: if the folder belongs to another set of flags or is in use.
          RunError: if a run fails.
        """
        self._plan = self._begun()
        try:
            for name in ("results", "runs", "logs", "pictures"):
                (self._output / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--output must be a folder that can be written, found {error}") from error
        with _locked(self._output / ".lock") as lock:
            self._save_plan()
            self._write_references()
            done = 0
            for number, (row, seed) in enumerate(self._runs, 1):
                if self._result_path(row, seed).exists():
                    continue
                if seed is not None and not self._plan["steps"]:
                    self._calibrate(lock)
                print(f"run {number} of {len(self._runs)}: {result_name(row.name, seed)}{self._time_left()}",
                      flush=True)
                self._run(row, seed, lock)
                self._report()
                done += 1
            if not done:
                self._report()
        return done

    def _begun(self) -> dict[str, Any]:
        """The plan of an earlier start with the same flags, or a new one."""
        path = self._output / "plan.json"
        if not path.exists():
            if self._output.exists() and (not self._output.is_dir() or any(self._output.iterdir())):
                raise InputError(f"--output must be a new or empty folder, or that of a suite, found other files in "
                                 f"{self._output}")
            steps = 0 if self._options.budget_minutes else self._options.steps or self._base_steps
            return {"asked": self._asked, "steps": steps, "expected_sec": {}}
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
        replace_file(self._output / "plan.json", _json(self._plan))

    def _write_references(self) -> None:
        """The first test pictures, hazy and true, for the grid."""
        for name, domain in (("hazy", self._test.test_source), ("truth", self._test.test_target)):
            folder = self._output / "pictures" / name
            folder.mkdir(exist_ok=True)
            for index in range(min(reproduce_runs.PICTURES, len(domain))):
                write_png(folder / f"{index}.png", domain.load(index))

    def _result_path(self, row: Row, seed: int | None) -> Path:
        return self._output / "results" / f"{result_name(row.name, seed)}.json"

    def _run(self, row: Row, seed: int | None, lock: int) -> None:
        """Trains a row if it is to be, measures it, and writes its result."""
        name = result_name(row.name, seed)
        result: dict[str, Any] = {"row": row.name, "label": row.label, "seed": seed, "flags": list(row.flags)}
        run = None
        if seed is not None:
            run = self._output / "runs" / name
            result.update(steps=self._plan["steps"], **self._trained_once(row, run, seed, lock))
        since = time.monotonic()
        result.update(reproduce_runs.in_own_process(reproduce_runs.evaluate, row.name, run, self._data,
                                                    self._output / "pictures" / name))
        result["evaluate_sec"] = time.monotonic() - since
        replace_file(self._result_path(row, seed), _json(result))

    def _trained_once(self, row: Row, run: Path, seed: int, lock: int) -> dict[str, Any]:
        """Trains to the end, or tells what that took before: evaluation may have been interrupted."""
        path = self._output / "logs" / f"{run.name}.json"
        if not path.exists():
            replace_file(path, _json(self._train(row, run, seed, self._plan["steps"], lock)))
        return json.loads(path.read_text(encoding="utf-8"))

    def _train(self, row: Row, run: Path, seed: int, steps: int, lock: int) -> dict[str, Any]:
        base, *rest = self._common
        arguments = [base, *reproduce_runs.pace_flags(steps), *rest, *row.flags,
                     *reproduce_runs.run_flags(run, steps, seed, self._options.dataset)]

        def note(child: int) -> None:
            (self._output / ".lock").write_text(f"{os.getpid()} {child}\n", encoding="ascii")

        log = self._output / "logs" / f"{run.name}.log"
        return reproduce_runs.train(arguments, run, log, steps, note, lock)._asdict()

    def _calibrate(self, lock: int) -> None:
        """Measures the time of each trained row, and sets the number of steps by it."""
        folder, costs = self._output / "calibration", {}
        spent_sec = sum(result["evaluate_sec"] for result in self._results())
        for row in self._trained:
            path = folder / f"{row.name}.json"
            if not path.exists():
                print(f"calibration: {row.name}, {_CALIBRATION_STEPS} steps", flush=True)
                replace_file(path, _json(self._measure_cost(row, folder / f"calibration_{row.name}", lock)))
            found = json.loads(path.read_text(encoding="utf-8"))
            costs[row.name] = Cost(found["step_sec"], found["fixed_sec"])
            spent_sec += found["took_sec"]
        budget_sec = 60 * self._options.budget_minutes
        steps = steps_within(budget_sec - spent_sec, list(costs.values()), len(self._options.seeds))
        expected_sec = {name: cost.fixed_sec + steps * cost.step_sec for name, cost in costs.items()}
        total_sec = spent_sec + len(self._options.seeds) * sum(expected_sec.values())
        print(f"calibration: {steps} steps per run, about {total_sec / 60:.1f} minutes in all", flush=True)
        if total_sec > budget_sec:
            print(f"note: more than --budget_minutes={self._options.budget_minutes:g}, since {EPOCHS} steps are the "
                  "least; fewer --rows or --seeds take less time", flush=True)
        self._plan.update(steps=steps, expected_sec=expected_sec)
        self._save_plan()

    def _measure_cost(self, row: Row, run: Path, lock: int) -> dict[str, float]:
        """A short run from its start to its evaluation."""
        run.parent.mkdir(exist_ok=True)
        shutil.rmtree(run, ignore_errors=True)  # of a stopped calibration, whose time is not known
        since = time.monotonic()
        self._train(row, run, self._options.seeds[0], _CALIBRATION_STEPS, lock)
        found = reproduce_runs.in_own_process(reproduce_runs.evaluate, row.name, run, self._data, run / "pictures")
        took_sec = time.monotonic() - since
        step_sec = found["step_sec"]
        return {"step_sec": step_sec, "fixed_sec": max(took_sec - _CALIBRATION_STEPS * step_sec, 0.0),
                "took_sec": took_sec}

    def _results(self) -> list[dict[str, Any]]:
        return reproduce_report.read_results(self._output / "results")

    def _time_left(self) -> str:
        """An estimate from the runs so far and the calibration; empty if there is neither."""
        results = self._results()
        there = {(result["row"], result["seed"]) for result in results}
        known: dict[str, list[float]] = {}
        for result in results:
            if result["seed"] is not None and not result["continued_from_step"]:
                known.setdefault(result["row"], []).append(result["train_sec"] + result["evaluate_sec"])
        usual = {**self._plan["expected_sec"], **{name: statistics.fmean(times) for name, times in known.items()}}
        if not usual:
            return ""
        other_sec = statistics.fmean(usual.values())
        left_sec = sum(usual.get(row.name, other_sec) for row, seed in self._runs
                       if seed is not None and (row.name, seed) not in there)
        return f", about {left_sec / 60:.1f} minutes left for all"

    def _report(self) -> None:
        """Table and pictures of all that is finished."""
        results = self._results()
        shown = {"command": self._options.command(), "same": self._same, "steps": self._plan["steps"],
                 "base_flags": [f"--flagfile={self._asked['base']}", *self._common[1:]]}
        text = reproduce_report.report(f"{self._options.suite} on {self._options.dataset}", self._rows, results,
                                       len(self._runs), shown)
        pictures, count = self._output / "pictures", min(reproduce_runs.PICTURES, len(self._test.test_source))
        names = {"hazy": "hazy", **{result_name(row.name, seed): row.label for row, seed in self._runs
                                    if row.name != "input" and seed in (None, self._options.seeds[0])
                                    and self._result_path(row, seed).exists()}, "truth": "truth"}
        reproduce_report.write_grid(self._output / "pictures.png", [
            (label, [pictures / name / f"{index}.png" for index in range(count)]) for name, label in names.items()])
        replace_file(self._output / "README.md", text.encode("utf-8", "surrogateescape"))


def _flagfile(base: str) -> str:
    try:
        return command_line.with_flagfile_paths([f"--flagfile={base}"])[0]
    except InputError as error:
        raise InputError(f"--base must be a flagfile of cut_tf.train: {error}") from error


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode("ascii")


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


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because the training flags have some of the same names."""
    flags.DEFINE_enum("suite", "dehazing", sorted(SUITES), "what to compare", flag_values=flag_values)
    flags.DEFINE_string("dataset", "scenes", "scenes (no download); a folder with trainA (hazy), trainB (clear) and "
                        "the pairs testA, testB; or haze:TRAIN_DIR,TEST_DIR", flag_values=flag_values)
    flags.DEFINE_string("output", "", "folder of the results; made if missing", flag_values=flag_values)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the runs of each trained row", flag_values=flag_values)
    flags.DEFINE_list("rows", [], "names of rows of the suite; empty means all", flag_values=flag_values)
    flags.DEFINE_string("base", "", "flagfile of cut_tf.train with what all rows share, a path or a name; empty means "
                        f"{_BASES['scenes']} for scenes and {_OTHER_BASE} for others", flag_values=flag_values)
    flags.DEFINE_integer("steps", 0, f"steps of each run, a multiple of {EPOCHS}; 0 takes those of the base flagfile",
                         flag_values=flag_values)
    flags.DEFINE_float("budget_minutes", 0.0, "time for everything; sets the steps of all runs by a calibration",
                       flag_values=flag_values)
    flags.DEFINE_multi_string("set", [], "NAME=VALUE, a flag of cut_tf.train for all runs, after those of the base "
                              "flagfile and before those of the row; may be repeated", flag_values=flag_values)


def _options(flag_values: flags.FlagValues) -> Options:
    try:
        seeds = tuple(int(seed) for seed in flag_values.seeds)
    except ValueError as error:
        found = ",".join(flag_values.seeds)
        raise InputError(f"--seeds must be integers with commas between, found {found!r}") from error
    return Options(flag_values.suite, flag_values.dataset, Path(flag_values.output), seeds, tuple(flag_values.rows),
                   flag_values.base, flag_values.steps, flag_values.budget_minutes, tuple(flag_values.set))


def main(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0; 1 if a run failed; 2 for bad flags or files; 130 after Ctrl-C or SIGTERM (told on stderr)."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if len(argv) > 1:
            raise InputError(f"everything must be given as a flag, found {' '.join(argv[1:])}")
        options = _options(flag_values)
        done = Reproduction(options).work()
    except (InputError, reproduce_runs.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(f"{options.output / 'README.md'}: {done} runs done now")
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
