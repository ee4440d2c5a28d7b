"""Which files are sent, in which encoding, and where the answers go."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.common.files import check_results, replace_file
from cut_tf.common.strength import FULL, blend
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import decode_image, encode_image, is_upright, open_header, pictures_at, read_bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
# The first bytes of files that are sent as they are. Of BMPs, graphs refuse those with a palette, or, if they were
# exported earlier, take its entries for greys.
_SENT_AS_THEY_ARE = (b"\xff\xd8\xff", _PNG, *_GIF)
# The graph decodes all frames of a GIF to take the first one, and therefore refuses larger files.
_MOST_GIF_BYTES = 262_144


class Job(NamedTuple):
    """A picture to send, and the PNG that the answer becomes."""

    source: Path
    result: Path


def plan_jobs(source: Path, folder: Path, overwrite: bool) -> list[Job]:
    """Plans all jobs, in the order of the names.

    Args:
      source: a picture, or a folder of pictures.
      folder: of the results, which have the pictures' names with the suffix `.png`.
      overwrite: replace results that are there already.

    Raises:
      InputError: if there is no picture, a result would replace its picture or, without `overwrite`, any file, or two
        pictures would have the same result.
    """
    jobs = [Job(path, folder / f"{path.stem}.png") for path in pictures_at(source)]
    check_results([(job.source, [job.result]) for job in jobs], folder, overwrite)
    return jobs


def encoded_picture(path: Path) -> bytes:
    """The file's own bytes if the exported graph reads them as `read_image` does, else its upright picture as PNG.

    Raises:
      InputError: naming the file, if it is not readable or no picture.
    """
    data = read_bytes(path)
    upright = is_upright(data, str(path))
    if data.startswith(_SENT_AS_THEY_ARE) and upright and _read_alike(data, str(path)):
        return data
    return _png(decode_image(data, str(path)), color_profile(data, str(path)))


def _read_alike(data: bytes, where: str) -> bool:
    """Whether the graph reads this picture as it is meant. Of GIFs it takes transparent pixels for black."""
    if not data.startswith(_GIF):
        return True
    return len(data) <= _MOST_GIF_BYTES and "transparency" not in open_header(io.BytesIO(data), where).info


def write_answer(job: Job, answer: bytes, sent: bytes, strength: float = FULL) -> None:
    """Writes the server's PNG atomically: byte for byte, or blended with the picture that was sent, whose ICC profile
    it gets, if there is one.

    Args:
      job: where it goes.
      answer: the server's.
      sent: the picture as it was sent.
      strength: of the answer, for models that do not take it themselves.

    Raises:
      InputError: if the answer is no complete PNG, or the result cannot be written.
    """
    if not answer.startswith(_PNG):
        raise InputError(f"{job.source}: the server must answer with a PNG, found {len(answer)} bytes starting with "
                         f"{answer[:8]!r}")
    output = decode_image(answer, f"answer for {job.source}")
    profile = color_profile(sent, str(job.source))
    if strength != FULL:
        output = blend(decode_image(sent, str(job.source)), output, strength, str(job.source))
    replace_file(job.result, _png(output, profile) if profile or strength != FULL else answer)


def _png(picture: np.ndarray, profile: bytes) -> bytes:
    return encode_image(picture, "picture.png", profile)
