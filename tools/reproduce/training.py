"""The kind of `tools.reproduce` that trains each row with each seed and measures its pictures."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.data import open_dataset
from cut_tf.data.image_files import write_png
from tools.benchmark import measuring
from tools.reproduce import report, runs
from tools.reproduce.budget import EPOCHS, Cost, steps_within, whole_epochs
from tools.reproduce.folder import Options, Reproduction, as_json, check_test_pictures
from tools.reproduce.report import result_name
from tools.reproduce.rows import read_flags
from tools.reproduce.suites import Row

_CALIBRATION_STEPS = 2 * EPOCHS


class TrainingReproduction(Reproduction):
    """Rows that are trained, all with the same number of steps.

    Raises:
      InputError: also if the dataset is not as it must be, or the feature extractor cannot be had.
    """

    folders = ("runs", "logs", "pictures")

    def __init__(self, options: Options) -> None:
        if options.steps % EPOCHS:
            raise InputError(f"--steps must be a multiple of {EPOCHS} with --suite={options.suite}, found "
                             f"{options.steps}")
        super().__init__(options)
        self._test = open_dataset(self._settings)
        if self._suite.needs_pairs and not self._test.test_paired:
            raise InputError(f"--dataset must have pairs of hazy and clear test pictures (testA and testB with the "
                             f"same names), found none in {options.dataset}")
        check_test_pictures(self._test, options)
        extractor = options.feature_extractor or self._suite.feature_extractor
        self._asking = runs.Asked(extractor, self._suite.checkpoints, self._suite.clear)
        if options.feature_extractor:
            measuring.in_own_process(runs.check_extractor, extractor)

    def _first_steps(self) -> int:
        if self._options.budget_minutes:
            return 0
        optimizer = self._settings.optimizer
        per_epoch = optimizer.steps_per_epoch or max(len(self._test.source),
                                                     len(self._test.target)) // self._settings.data.batch_size
        return self._options.steps or whole_epochs((optimizer.constant_epochs + optimizer.decay_epochs) * per_epoch)

    def _prepare(self) -> None:
        """The first test pictures, for the grid."""
        for name, domain in (("hazy", self._test.test_source), ("truth", self._test.test_target)):
            folder = self._output / "pictures" / name
            folder.mkdir(exist_ok=True)
            for index in range(min(runs.PICTURES, len(domain))):
                write_png(folder / f"{index}.png", domain.load(index))

    def _before(self, seed: int | None, lock: int) -> None:
        if seed is not None and not self._plan["steps"]:
            self._calibrate(lock)

    def _measure(self, row: Row, seed: int | None, lock: int) -> dict[str, Any]:
        """Trains a row if it is to be, and measures its pictures."""
        name, result, run = result_name(row.name, seed), {}, None
        if seed is not None:
            run = self._output / "runs" / name
            result.update(steps=self._plan["steps"], **self._trained_once(row, run, seed, lock))
        since = time.monotonic()
        result.update(self._evaluate(row, run, self._output / "pictures" / name))
        result["evaluate_sec"] = time.monotonic() - since
        return result

    def _evaluate(self, row: Row, run: Path | None, pictures: Path) -> dict[str, Any]:
        return measuring.in_own_process(runs.evaluate, row.name, run, self._settings, pictures,
                                        self._asking)

    def _trained_once(self, row: Row, run: Path, seed: int, lock: int) -> dict[str, Any]:
        """Trains to the end, or tells what that took before: evaluation may have been interrupted."""
        path = self._output / "logs" / f"{run.name}.json"
        if not path.exists():
            replace_file(path, as_json(self._train(row, run, seed, self._plan["steps"], lock)))
        return json.loads(path.read_text(encoding="utf-8"))

    def _train(self, row: Row, run: Path, seed: int, steps: int, lock: int) -> dict[str, Any]:
        arguments = [*self._base, *runs.pace_flags(steps, self._asking.checkpoints),
                     *self._common[len(self._base):], *row.flags,
                     *runs.run_flags(run, steps, seed, self._options.dataset, self._suite.constant_epochs)]

        def note(child: int) -> None:
            (self._output / ".lock").write_text(f"{os.getpid()} {child}\n", encoding="ascii")

        log = self._output / "logs" / f"{run.name}.log"
        return runs.train(read_flags(arguments), run, log, steps, note, lock)._asdict()

    def _calibrate(self, lock: int) -> None:
        """Measures the time of each trained row, and sets the number of steps by it."""
        folder, costs = self._output / "calibration", {}
        spent_sec = sum(result["evaluate_sec"] for result in self._results())
        for row in self._trained:
            path = folder / f"{row.name}.json"
            if not path.exists():
                print(f"calibration: {row.name}, {_CALIBRATION_STEPS} steps", flush=True)
                replace_file(path, as_json(self._measure_cost(row, folder / f"calibration_{row.name}", lock)))
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
        step_sec = self._evaluate(row, run, run / "pictures")["step_sec"]
        took_sec = time.monotonic() - since
        return {"step_sec": step_sec, "fixed_sec": max(took_sec - _CALIBRATION_STEPS * step_sec, 0.0),
                "took_sec": took_sec}

    def _took_sec(self, result: Mapping[str, Any]) -> float | None:
        if result["seed"] is None or result["continued_from_step"]:
            return None
        return result["train_sec"] + result["evaluate_sec"]

    def _report(self, results: list[dict[str, Any]]) -> tuple[str, list[str]]:
        pictures, count = self._output / "pictures", min(runs.PICTURES, len(self._test.test_source))
        names = {"hazy": "hazy" if self._suite.needs_pairs else "source",
                 **{result_name(row.name, seed): row.label for row, seed in self._runs
                    if row.name != "input" and seed in (None, self._options.seeds[0])
                    and self._result_path(row, seed).exists()},
                 **({"truth": "truth"} if self._test.test_paired else {})}
        report.write_grid(self._output / "pictures.png", [
            (label, [pictures / name / f"{index}.png" for index in range(count)]) for name, label in names.items()])
        return (report.table(self._rows, results, self._suite.paper),
                report.training_notes(results, self._suite.source))
