"""The kind of `tools.reproduce` that asks each term of the loss, in states of a run, where it moves the output."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmark import measuring
from tools.reproduce import report, states
from tools.reproduce.folder import Options
from tools.reproduce.suites import Row
from tools.reproduce.training import TrainingReproduction

_NOTE = (
    "Of each term: the gradient with respect to the output picture, against which descent moves. Cosines of that move "
    "with: truth, what the output lacks (truth - output); haze, the line of the scattering model from the hazy input "
    "to the truth, (J - A)(1 - t); content, the part of what it lacks that is orthogonal to that line. Above zero is "
    "towards the truth, out of the haze, back to the content. size: length of the gradient, weight included, as a "
    "multiple of that of the GAN's. weights: the same of how the outputs change if the generator's weights take a "
    "small step of gradient descent on that term alone, which the identity term can do too. Means over "
    "pictures and seeds; after ±, the standard error over the pictures, the greatest of all seeds.")
_STATE_NOTE = (
    "haze left: part of the haze that the output still has, 1 for the hazy input, 0 for the truth. content error: "
    "length of what it lacks besides, as a part of the haze's.")
_CLASSIFIER_NOTE = (
    "Right: hazy and clear pictures that the classifier tells apart. Correlation: over the channels, of its weights "
    "|theta_h x| with the mean absolute difference between embeddings of the same places, hazy and clear.")
_COSINES = ("truth", "haze", "content")
_FIGURES = ("size", *_COSINES)


class AlignmentReproduction(TrainingReproduction):
    """Rows of CUT and ODCR that are trained, and the terms of their losses at each kept checkpoint."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._asking = self._asking._replace(checkpoints=True)

    def _evaluate(self, row: Row, run: Path | None, pictures: Path) -> dict[str, Any]:
        result = super()._evaluate(row, run, pictures)
        if run:
            result["alignment"] = measuring.in_own_process(states.measure, run)
        return result

    def _report(self, results: list[dict[str, Any]]) -> tuple[str, list[str]]:
        table, notes = super()._report(results)
        measured = [result for result in results if "alignment" in result]
        if not measured:
            return table, notes
        sections = [table]
        for row in self._rows:
            found = [result["alignment"] for result in measured if result["row"] == row.name]
            if found:
                sections += tables(row.label, found)
        return "\n\n".join(sections), [_NOTE, _STATE_NOTE, _CLASSIFIER_NOTE, *notes]


def tables(label: str, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Markdown of one row of the suite: headings and tables, the parts in the order of a page.

    Args:
      label: of the row.
      seeds: of each seed what `states.measure` returns; all with the same steps and terms.
    """
    steps = [state["step"] for state in seeds[0]]
    parts = [f"**{label}: all layers together, over the steps**", _over_steps(seeds, steps),
             f"**{label}: layer by layer, step {steps[-1]}**", _per_layer(seeds)]
    if seeds[0][-1]["classifier"]:
        parts += [f"**{label}: the classifier**", _classifier(seeds, steps)]
    return parts


def _over_steps(seeds: Sequence[Sequence[Mapping[str, Any]]], steps: Sequence[int]) -> str:
    lines = []
    for name, heading in (("haze_left", "output: haze left"), ("content_error", "output: content error")):
        lines.append([heading, "", *(_mean([run[index]["output"][name] for run in seeds])
                                     for index in range(len(steps)))])
    for number, term in enumerate(seeds[0][0]["terms"]):
        if term["layer"] != states.ALL_LAYERS:
            continue
        for name in (*_FIGURES, *(f"step_{name}" for name in _FIGURES)):
            if name in term:
                lines.append([term["term"], name.replace("step_", "weights: "), *(
                    _mean([run[index]["terms"][number][name] for run in seeds]) for index in range(len(steps)))])
    return report.markdown(["term", "figure", *(f"step {step}" for step in steps)], lines)


def _per_layer(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    lines = []
    for number, term in enumerate(seeds[0][-1]["terms"]):
        if "size" in term:
            rows = [run[-1]["terms"][number] for run in seeds]
            lines.append([term["term"], term["layer"], _mean([row["size"] for row in rows]), *(
                f"{_mean([row[name] for row in rows])} ± {max(row[f'{name}_error'] for row in rows):.2f}"
                for name in _COSINES)])
    return report.markdown(["term", "layer", "size", *_COSINES], lines)


def _classifier(seeds: Sequence[Sequence[Mapping[str, Any]]], steps: Sequence[int]) -> str:
    lines = []
    for number, layer in enumerate(seeds[0][0]["classifier"]):
        for name, heading in (("accuracy", "right"), ("weights_correlation", "correlation")):
            lines.append([layer["layer"], heading, *(_mean([run[index]["classifier"][number][name] for run in seeds])
                                                     for index in range(len(steps)))])
    return report.markdown(["layer", "figure", *(f"step {step}" for step in steps)], lines)


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f}"
