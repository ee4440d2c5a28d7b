"""Made-up clear photographs for the tests of make_haze."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(10, axis=0).repeat(10, axis=1))


def save_photographs(folder: Path) -> Path:
    """Nine of them, JPEG and PNG, upright and not, into a new folder."""
    folder.mkdir()
    for number in range(9):
        suffix, size = "jpg" if number < 4 else "png", ((40, 30), (30, 50))[number % 2]
        photograph(number, *size).save(folder / f"p{number}.{suffix}")
    return folder


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
