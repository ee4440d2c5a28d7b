"""What `tools.reproduce` shows of its results: a Markdown table and a picture."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.data.image_files import read_image
from tools.reproduce.suites import Row

_WIDEST_PX = 256  # of a picture in the grid
_GAP_PX = 4


class Column(NamedTuple):
    """A measure in the table: its key in `metrics`, its heading, its digits after the point."""

    key: str
    heading: str
    digits: int


# Those that no result has are left out of the table.
MEASURES = (Column("psnr", "PSNR, dB", 2), Column("ssim", "SSIM", 4), Column("ciede2000", "CIEDE2000", 2),
            Column("clear_psnr", "clear, PSNR, dB", 2),
            Column("fid", "FID", 3), Column("kid", "KID", 5), Column("fid_best", "FID, best", 3),
            Column("kid_best", "KID, best", 5))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results of all finished runs. Raises InputError naming the file if one is damaged."""
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            results.append({name: result[name] for name in ("row", "seed", "metrics", "machine")} | result)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: must be the result of a run, found {error!r}; remove it to do that run "
                             "again") from error
    return results


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """`mean ± standard deviation` (divisor n - 1), the mean alone of one value, a dash of none."""
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table(rows: Sequence[Row], results: Sequence[Mapping[str, Any]], paper: Sequence[str] = ()) -> str:
    """The Markdown table of all rows that have a result, in the order of `rows`.

    Args:
      rows: of the suite.
      results: each with `row`, `metrics`, and of a trained row `steps`, `step_sec`, `peak_memory_mib`.
      paper: headings of the columns with the paper's numbers.
    """
    columns = [column for column in MEASURES if any(column.key in result["metrics"] for result in results)]
    lines = []
    for row in rows:
        found = [result for result in results if result["row"] == row.name]
        if not found:
            continue
        cells = [row.label, str(len(found)) if row.trained else "–"]
        for column in columns:
            values = [result["metrics"].get(column.key) for result in found]
            cells.append(mean_and_spread([value for value in values if value is not None], column.digits))
        if row.trained:
            cells += [", ".join(sorted({str(result["steps"]) for result in found})),
                      f"{statistics.fmean(result['step_sec'] for result in found):.3f}",
                      f"{max(result['peak_memory_mib'] for result in found):.0f}"]
        else:
            cells += ["–"] * 3
        lines.append([*cells, *(row.paper or ["–"] * len(paper))])
    return markdown(["method", "seeds", *(column.heading for column in columns), "steps", "s/step",
                     "peak memory, MiB", *(f"paper: {heading}" for heading in paper)], lines)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first flush right."""
    head = [f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 1)]
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in lines)])


def training_notes(results: Sequence[Mapping[str, Any]], source: str) -> list[str]:
    """Paragraphs below the table of trained rows; `source` is that of the suite."""
    notes = [
        "Mean and, after ±, standard deviation over seeds (divisor n - 1) of the means over "
        f"{results[0]['test_pictures']} test pictures: 8-bit RGB at full size, EMA weights at the last step. Lower "
        "CIEDE2000 is better. s/step: median over the run of what it noted at equal distances, the first note not "
        "counted, mean over seeds. Peak memory: of the training process, the greatest of all seeds, without memory of "
        "a GPU; of a run that was interrupted, of the process that ended it."]
    extractors = {f"{found['extractor']} ({found['layer']})" for result in results
                  for found in [result.get("feature_extractor")] if found}
    if extractors:
        notes.append(f"FID and KID: of the outputs for all test pictures to those of the target domain, features of "
                     f"{', '.join(sorted(extractors))}; lower is better. They compare only with figures of the same "
                     "features and the same number of pictures." + (
                         " best: at the kept checkpoint with the least FID, as in papers that report their best "
                         "epoch; it is chosen on the test pictures."
                         if any("fid_best" in result["metrics"] for result in results) else ""))
    return [*notes, *([source] if source else []),
            "![Test pictures: source, outputs of each method, truth](pictures.png)"]


def page(shown_table: str, notes: Sequence[str], rows: Sequence[Row], results: Sequence[Mapping[str, Any]], total: int,
         shown: Mapping[str, Any]) -> str:
    """The Markdown text of `OUTPUT/README.md`.

    Args:
      shown_table: Markdown.
      notes: paragraphs below it.
      rows: of the suite.
      results: of the finished runs, one at least.
      total: number of runs when all are finished.
      shown: with `title`, `command`, `base_flags`, `same` and `steps`.
    """
    state = f"All {total} runs are finished." if len(results) == total else (
        f"**{len(results)} of {total} runs are finished**; the command below continues.")
    machines = [", ".join(f"{name} {value}" for name, value in result["machine"].items()) for result in results]
    pairs = ", ".join(f"{one} ({other})" for one, other in shown["same"].items())
    same = [f"Not run, since all its settings are those of another row: {pairs}.", ""] if pairs else []
    base_flags = f"`{' '.join(shown['base_flags'])}`, " if shown["base_flags"] else ""
    lines = [
        f"# {shown['title']}", "", state, "", shown_table, "", *(line for note in notes for line in (note, "")),
        "## Command", "", "```bash", shown["command"], "```", "", *same,
        "## Settings", "", f"All trained rows: {base_flags}{shown['steps']} steps. Of each row:",
        "", "| row | flags | results |", "|---|---|---|",
    ]
    for row in rows:
        names = [_name(result) for result in results if result["row"] == row.name]
        if names:
            flags = f"`{' '.join(row.flags)}`" if row.flags else "–"
            lines.append(f"| {row.name} | {flags} | {', '.join(f'[{name}](results/{name}.json)' for name in names)} |")
    lines += ["", "Every setting of a run is in its result.", "", "## Machine", ""]
    lines += [f"- {text}" for text in dict.fromkeys(machines)]
    return "\n".join(lines) + "\n"


def result_name(row: str, seed: int | None) -> str:
    """Name of a run's files: ROW_seedK, or ROW for an untrained row."""
    return row if seed is None else f"{row}_seed{seed}"


def _name(result: Mapping[str, Any]) -> str:
    return result_name(result["row"], result["seed"])


def write_grid(path: Path, columns: Sequence[tuple[str, Sequence[Path]]]) -> None:
    """Writes one PNG of pictures: columns from the left under their labels, a row per scene.

    Args:
      path: file to write.
      columns: label and pictures of each, all with the same number of pictures; wide ones are made smaller.
    """
    font = ImageFont.load_default()
    pictures = [[_small(read_image(file)) for file in files] for _, files in columns]
    labels = [_wrapped(label, max(picture.width for picture in column), font)
              for (label, _), column in zip(columns, pictures)]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = [measure.multiline_textbbox((0, 0), label, font=font) for label in labels]
    widths = [max(int(box[2]), *(picture.width for picture in column)) + _GAP_PX
              for box, column in zip(boxes, pictures)]
    heights = [max(picture.height for picture in row) + _GAP_PX for row in zip(*pictures)]
    head = max(int(box[3]) for box in boxes) + _GAP_PX
    canvas = Image.new("RGB", (sum(widths), head + sum(heights)), "white")
    draw, left = ImageDraw.Draw(canvas), 0
    for label, column, width in zip(labels, pictures, widths):
        draw.multiline_text((left, 0), label, fill="black", font=font)
        top = head
        for picture, height in zip(column, heights):
            canvas.paste(picture, (left, top))
            top += height
        left += width
    data = io.BytesIO()
    canvas.save(data, "PNG")
    replace_file(path, data.getvalue())


def _wrapped(label: str, width_px: int, font: Any) -> str:
    """The label in lines of at most that width, unless a word is wider."""
    lines: list[str] = []
    for word in label.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getbbox(longer)[2] <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _small(pixels: Any) -> Image.Image:
    """uint8 [H, W, 3] to a picture of at most _WIDEST_PX in width."""
    image = Image.fromarray(pixels)
    if image.width <= _WIDEST_PX:
        return image
    size = (_WIDEST_PX, max(round(image.height * _WIDEST_PX / image.width), 1))
    return image.resize(size, Image.Resampling.LANCZOS)
