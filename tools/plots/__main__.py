"""Draws the pictures of the documentation from recorded results. Needs Matplotlib: pip install '.[plots]'.

    python -m tools.plots [--results=docs/results] [--output=docs/images]

quickstart_psnr.csv becomes quickstart_psnr.png (`tools.plots.record` writes it from runs), odcr_psnr.csv odcr_psnr.png
(`tools.reproduce.curves` writes it from a suite; the other files odcr_*.csv likewise),
serving.csv serving.png (`tools.benchmark serving --csv` writes it), phones.csv phones.png and ceiling.csv ceiling.png.
The last two files hold figures of the tables in docs/phones.md and docs/speed.md.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write, replace_file
from tools.plots.results import Evaluation, Latency, Load, MethodEvaluation, Share, read_rows

_RESULTS = flags.DEFINE_string("results", "docs/results", "folder of the recorded results")
_OUTPUT = flags.DEFINE_string("output", "docs/images", "folder of the pictures; made if it is not there")
_DOTS_PER_INCH = 150
_SCENES, _PHOTOGRAPHS = "48 held-out scenes", "24 held-out photographs"
# Recorded suites of ODCR's pages: the generator of their runs, and the pictures of their evaluations.
_SUITES = {"odcr_psnr": ("the quickstart's generator", _SCENES), "odcr_light_psnr": ("the light generator", _SCENES),
           "odcr_resnet_psnr": ("a ResNet of 32 filters", _SCENES),
           "odcr_photographs_psnr": ("the light generator", _PHOTOGRAPHS),
           "odcr_photographs_resnet_psnr": ("a ResNet of 32 filters", _PHOTOGRAPHS)}


def draw_all(results: Path, output: Path) -> list[Path]:
    """Draws all pictures, and returns their paths. Raises InputError for missing or damaged results."""
    check_can_write(output, f"--output={output}")
    rows = {name: read_rows(results / f"{name}.csv", row_type) for name, row_type in
            (("quickstart_psnr", Evaluation), ("phones", Latency), ("ceiling", Share), ("serving", Load))}
    suites = {name: read_rows(results / f"{name}.csv", MethodEvaluation) for name in _SUITES}
    try:
        from tools.plots import figures
    except ImportError as error:
        raise InputError(f"pictures need matplotlib: pip install '.[plots]' ({error})") from error
    methods = list(dict.fromkeys(row.method for evaluations in suites.values() for row in evaluations if row.step))
    drawn = {"quickstart_psnr": figures.psnr_over_steps(rows["quickstart_psnr"]),
             **{name: figures.psnr_of_methods(suites[name], methods, generator, pictures)
                for name, (generator, pictures) in _SUITES.items()},
             "phones": figures.latency_against_psnr(rows["phones"]),
             "ceiling": figures.shares_of_the_ceiling(rows["ceiling"]),
             "serving": figures.latency_over_parallelism(rows["serving"])}
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
        replace_file(output / f"{name}.png", picture.getvalue())
    return [output / f"{name}.png" for name in drawn]


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for bad flags or results."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        print(*draw_all(Path(_RESULTS.value), Path(_OUTPUT.value)), sep="\n")
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
