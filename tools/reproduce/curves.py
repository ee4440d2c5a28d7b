"""Records PSNR over steps of all finished runs of a suite, for `python -m tools.plots`.

    python -m tools.reproduce.curves --results=results/long --output=docs/results/odcr_psnr.csv
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from tools.plots.record import evaluations
from tools.plots.results import MethodEvaluation, to_csv
from tools.reproduce.report import read_results, result_name
from tools.reproduce.suites import SUITES


def evaluations_of_suite(folder: Path) -> list[MethodEvaluation]:
    """All evaluations of EMA weights, by row, in the order of the suite, and by seed.

    Args:
      folder: an output of `tools.reproduce`, whose runs evaluate themselves (--set=eval_steps=N).

    Raises:
      InputError: if it is none, or if a run has no evaluation.
    """
    try:
        suite = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["asked"]["suite"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--results must be an output of tools.reproduce, found no plan in {folder}: {error}"
                         ) from error
    labels = {row.name: row.label for row in SUITES[suite].rows}
    order = list(labels)
    results = sorted((result for result in read_results(folder / "results") if result["seed"] is not None),
                     key=lambda result: (order.index(result["row"]), result["seed"]))
    return [MethodEvaluation(labels[result["row"]], seed, step, psnr) for result in results
            for seed, step, weights, psnr in evaluations(
                folder / "runs" / result_name(result["row"], result["seed"]), with_input=False) if weights == "ema"]


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because other tools have some of the same names."""
    flags.DEFINE_string("results", "", "output folder of tools.reproduce", flag_values=flag_values)
    flags.DEFINE_string("output", "docs/results/odcr_psnr.csv", "CSV file to write", flag_values=flag_values)


def main(argv: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0, or 2 for bad flags or runs."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        command_line.start_tensorflow()
        rows = evaluations_of_suite(Path(flag_values.results))
        if not rows:
            raise InputError(f"--results must have finished runs, found none in {flag_values.results}")
        replace_file(Path(flag_values.output), to_csv(rows).encode())
        print(f"{len(rows)} evaluations in {flag_values.output}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
