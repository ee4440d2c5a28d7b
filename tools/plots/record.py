"""Records PSNR over steps of finished runs, from their TensorBoard events, for `python -m tools.plots`.

    python -m tools.plots.record --runs=runs/seed_0,runs/seed_1,runs/seed_2 --output=docs/results/quickstart_psnr.csv
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.settings import Settings
from tools.plots.results import Evaluation, to_csv

if TYPE_CHECKING:
    import tensorflow as tf

_TAGS = {"eval_raw/psnr": "raw", "eval_ema/psnr": "ema"}


def evaluations(run: Path, with_input: bool = True) -> list[Evaluation]:
    """PSNR of the input unless left out, then all evaluations of a run, by weights and step.

    Raises:
      InputError: if it has none.
    """
    import tensorflow as tf  # not at the head of the file: takes seconds

    try:
        settings = Settings.from_json((run / "settings.json").read_text(encoding="utf-8"), str(run))
    except OSError as error:
        raise InputError(f"--runs must be folders of runs, found no settings.json in {run}") from error
    found = {}
    for path in sorted(run.glob("events/*")):
        for event in events_of(path):
            for value in event.summary.value:
                if value.tag in _TAGS:  # a resumed run repeats steps, of which the last count
                    found[_TAGS[value.tag], event.step] = float(tf.make_ndarray(value.tensor))
    if not found:
        raise InputError(f"--runs must be runs with test pairs, found no PSNR in the events of {run}")
    seed = settings.train.seed
    return [*([Evaluation(seed, 0, "input", _input_psnr(settings))] if with_input else []),
            *(Evaluation(seed, step, weights, psnr) for (weights, step), psnr in sorted(found.items()))]


def events_of(path: Path) -> Iterator[tf.compat.v1.Event]:
    """The events of a file of TensorBoard, to its end or to the half record that a killed process has left."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(str(path)).ignore_errors().as_numpy_iterator():
        yield tf.compat.v1.Event.FromString(record)


def _input_psnr(settings: Settings) -> float:
    """Mean PSNR in dB of the test sources against their targets."""
    from cut_tf.data import open_dataset
    from cut_tf.data.pipeline import load_test_images
    from cut_tf.training.evaluation import mean_metrics

    data = open_dataset(settings)
    sources, targets = (load_test_images(side, settings.data) for side in (data.test_source, data.test_target))
    return mean_metrics(sources, targets)["psnr"]


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because other tools have some of the same names."""
    flags.DEFINE_list("runs", [], "folders of runs with test pairs, which differ in their seed",
                      flag_values=flag_values)
    flags.DEFINE_string("output", "docs/results/quickstart_psnr.csv", "CSV file to write", flag_values=flag_values)


def write_evaluations(argv: list[str], find: Callable[[], list], output: str) -> int:
    """Writes the evaluations that `find` gives, one at least, to a CSV file.

    Returns:
      Exit code 0, or 2 with a message if there are arguments that are no flags, or `find` raises InputError.
    """
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        command_line.start_tensorflow()
        rows = find()
        replace_file(Path(output), to_csv(rows).encode())
        print(f"{len(rows)} evaluations in {output}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def evaluations_of_runs(runs: Sequence[str]) -> list[Evaluation]:
    """`evaluations` of all runs. Raises InputError if there is no run, or as `evaluations` does."""
    if not runs:
        raise InputError("--runs must be folders of runs, found none")
    return [row for run in runs for row in evaluations(Path(run))]


def main(argv: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0, or 2 for bad flags or runs."""
    return write_evaluations(argv, lambda: evaluations_of_runs(flag_values.runs), flag_values.output)


if __name__ == "__main__":
    define()
    command_line.run(main)
