"""Records PSNR over steps of all finished runs of a suite, for `python -m tools.plots`.

    python -m tools.reproduce.curves --results=results/long --output=docs/results/odcr_psnr.csv
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from tools.plots.record import evaluations, write_evaluations
from tools.plots.results import MethodEvaluation
from tools.reproduce.report import read_results, result_name
from tools.reproduce.suites import SUITES


def evaluations_of_suite(folder: Path) -> list[MethodEvaluation]:
    """All evaluations of EMA weights, by row, in the order of the suite, and by seed, after the hazy input's own.

    Args:
      folder: an output of `tools.reproduce`, whose runs evaluate themselves (--set=eval_steps=N).

    Raises:
      InputError: if it is none, or has no finished run, or if a run has no evaluation.
    """
    try:
        suite = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["asked"]["suite"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--results must be an output of tools.reproduce, found no plan in {folder}: {error}"
                         ) from error
    labels = {row.name: row.label for row in SUITES[suite].rows}
    order = list(labels)
    finished = read_results(folder / "results")
    results = sorted((result for result in finished if result["seed"] is not None),
                     key=lambda result: (order.index(result["row"]), result["seed"]))
    if not results:
        raise InputError(f"--results must have finished runs, found none in {folder}")
    inputs = [MethodEvaluation(labels["input"], 0, 0, result["metrics"]["psnr"]) for result in finished
              if result["row"] == "input"]
    outputs = [MethodEvaluation(labels[result["row"]], seed, step, psnr) for result in results
               for seed, step, weights, psnr in evaluations(
                   folder / "runs" / result_name(result["row"], result["seed"]), with_input=False) if weights == "ema"]
    return inputs + outputs


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because other tools have some of the same names."""
    flags.DEFINE_string("results", "", "output folder of tools.reproduce", flag_values=flag_values)
    flags.DEFINE_string("output", "docs/results/odcr_psnr.csv", "CSV file to write", flag_values=flag_values)


def main(argv: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0, or 2 for bad flags or runs."""
    return write_evaluations(argv, lambda: evaluations_of_suite(Path(flag_values.results)), flag_values.output)


if __name__ == "__main__":
    define()
    command_line.run(main)
