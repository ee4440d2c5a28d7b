"""Pictures that users of the demo bring: limits as in serving, read."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import decode_image, image_size, read_bytes
from cut_tf.export.options import DEFAULT_PIXEL_LIMIT

_LOG = logging.getLogger(__name__)
# Of a picture that is made smaller: those of today's phones. It is decoded, at 3 to 7 bytes a pixel, never translated.
MOST_PIXELS_SHRUNK = 50_000_000
MOST_BYTES = 32 * 2**20
# What the page's box for that says, and messages name.
SHRINKS = "make large pictures smaller"


class Limits(NamedTuple):
    """What the demo takes.

    Attributes:
      pixels: greatest height times width of a picture, unless it is to be made smaller. Read from its header.
      file_bytes: greatest size of a file.
      batch_files: most files of a batch.
    """

    pixels: int = DEFAULT_PIXEL_LIMIT
    file_bytes: int = MOST_BYTES
    batch_files: int = 100


class Translation(NamedTuple):
    """A picture and what a generator made of it, both uint8 [H, W, 3].

    Attributes:
      name: of the user's file.
      stored_px: (width, height) of the file's picture, which may have been larger.
      seconds: that the generator took.
      profile: ICC profile of the user's file.
    """

    name: str
    source: np.ndarray
    output: np.ndarray
    stored_px: tuple[int, int]
    seconds: float
    profile: bytes


def read_picture(path: Path, limits: Limits, shrinks: bool = False) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads a user's picture. Its size is looked up in its header before anything is decoded.

    Args:
      path: of the file; messages tell its last part alone.
      limits: of its size.
      shrinks: make a picture of more than `limits.pixels` smaller, up to MOST_PIXELS_SHRUNK; else it is refused.

    Returns:
      uint8 [H, W, 3], and the (width, height) that the file has.

    Raises:
      InputError: if it is no picture, is damaged, has a side below images.MIN_SIDE_PX, or is too large.
    """
    if path.is_file() and path.stat().st_size > limits.file_bytes:
        raise InputError(f"{path.name}: must have at most {limits.file_bytes} bytes, found {path.stat().st_size}")
    data = read_bytes(path)
    width, height = image_size(data, path.name)
    if width * height > max(limits.pixels, MOST_PIXELS_SHRUNK if shrinks else 0):
        advice = "" if shrinks or width * height > MOST_PIXELS_SHRUNK else f"; tick '{SHRINKS}'"
        most = MOST_PIXELS_SHRUNK if shrinks else limits.pixels
        raise InputError(f"{path.name}: must have at most {most} pixels, found {width}x{height}{advice}")
    picture = decode_image(data, path.name)
    if width * height > limits.pixels:
        picture = _within(picture, limits.pixels)
    images.check_image(picture, path.name)
    return picture, (width, height)


def _within(picture: np.ndarray, pixels: int) -> np.ndarray:
    """The picture with at most so many pixels, its sides in the same ratio as far as whole numbers allow."""
    height, width = picture.shape[:2]
    scale = math.sqrt(pixels / (height * width))
    size = max(int(width * scale), 1), max(int(height * scale), 1)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def sentence(name: str, error: Exception) -> str:
    """Why a picture was not translated, for a user; what is nobody's input error is logged with its trace."""
    if isinstance(error, InputError):
        return str(error)
    _LOG.error("%s: not translated", name, exc_info=error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"{name}: cannot be translated; it is too large for the memory of this machine"
    return f"{name}: cannot be translated; the log of the demo tells the reason ({type(error).__name__})"
