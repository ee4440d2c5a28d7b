"""The tables in Markdown, and the sheet of real pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from cut_tf.metrics.reports.files import finite

_LABELS = {"clear_psnr": "clear kept, dB", "clear_psnr_least": "least", "once_psnr": "once, dB",
           "twice_psnr": "twice, dB", "noise": "noise", "noise_scenes": "in scenes", "noise_rooms": "in rooms",
           "sky_colour": "sky: colour", "sky_structure": "sky: structure",
           "dark_channel": "dark channel", "contrast_gain": "contrast gain", "colourfulness": "colourfulness"}
_DIGITS = {"noise": 2, "noise_scenes": 2, "noise_rooms": 2, "sky_colour": 2, "sky_structure": 3, "dark_channel": 3,
           "contrast_gain": 2}
_TILE_PX, _CAPTION_PX = 240, 16


def pair_table(scores: Mapping[str, Mapping[str, Mapping[str, float]]], counts: Mapping[str, int]) -> str:
    """PSNR / SSIM / CIEDE2000 of each set (rows) and model (columns).

    Args:
      scores: set, model and metric to the mean.
      counts: pairs of each set.
    """
    models = list(next(iter(scores.values())))
    lines = [f"| PSNR dB / SSIM / CIEDE2000 | {' | '.join(models)} |", "|---|" + "---|" * len(models)]
    for name, found in scores.items():
        cells = [f"{score['psnr']:.2f} / {score['ssim']:.3f} / {score['ciede2000']:.1f}" for score in found.values()]
        lines.append(f"| {name} ({counts[name]}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def check_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """One row per model, one column per measure."""
    measures = list(next(iter(scores.values())))
    lines = [f"| | {' | '.join(_LABELS[measure] for measure in measures)} |", "|---|" + "---:|" * len(measures)]
    for name, found in scores.items():
        cells = [f"{found[measure]:.{_DIGITS.get(measure, 1)}f}" for measure in measures]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_json(scores: Mapping[str, object]) -> str:
    """The scores as JSON, with null for what it has no number for: the skies of pictures without sky, for example."""
    return json.dumps(_numbers(scores), indent=2) + "\n"


def _numbers(scores: object) -> object:
    return {name: _numbers(value) for name, value in scores.items()} if isinstance(scores, Mapping) else finite(scores)


def sheet(names: Sequence[str], rows: Sequence[Mapping[str, np.ndarray]]) -> Image.Image:
    """Pictures side by side, none larger than 240x480 px: one row per input, one column per model.

    Args:
      names: of the inputs.
      rows: model to picture, uint8 [H, W, 3], the same models in each row.
    """
    columns = list(rows[0])
    sizes = [_tile(*row[columns[0]].shape[:2]) for row in rows]
    heights = [height for _, height in sizes]
    page = Image.new("RGB", (_TILE_PX * len(columns), sum(heights) + _CAPTION_PX * (len(rows) + 1)), "white")
    draw, top = ImageDraw.Draw(page), _CAPTION_PX
    for place, column in enumerate(columns):
        draw.text((_TILE_PX * place + 4, 2), column, fill="black")
    for name, row, (width, height) in zip(names, rows, sizes):
        draw.text((4, top + 2), name, fill="black")
        for place, column in enumerate(columns):
            tile = Image.fromarray(row[column]).resize((width, height), Image.Resampling.LANCZOS)
            page.paste(tile, (_TILE_PX * place, top + _CAPTION_PX))
        top += height + _CAPTION_PX
    return page


def _tile(height: int, width: int) -> tuple[int, int]:
    """(width, height) on the sheet."""
    scale = min(_TILE_PX / width, 2 * _TILE_PX / height)
    return max(1, round(scale * width)), max(1, round(scale * height))
