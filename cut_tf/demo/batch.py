"""Many pictures at once, and a zip of what became of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cut_tf.common.errors import InputError
from cut_tf.common.strength import blend
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import WRITABLE_SUFFIXES, encode_image, read_bytes
from cut_tf.demo.models import Models
from cut_tf.demo.pictures import Limits, read_picture, sentence

# Columns of the rows that `translate_files` returns.
COLUMNS = ("file", "px", "seconds", "result")
DONE = "done"
# (done, total, name of the next file).
Progress = Callable[[int, int, str], None]


def translate_files(paths: Sequence[Path], models: Models, model: str, strength: float, shrinks: bool, limits: Limits,
                    archive: Path, progress: Progress) -> list[list[str]]:
    """Translates pictures into a zip, in the order given. One that cannot be translated gets a row that says why.

    Args:
      paths: of the users' files.
      models: what translates.
      model: the name of one of them.
      strength: from 0, the input, to 1, the output.
      shrinks: make pictures that are too large smaller.
      limits: of each picture and of their number.
      archive: path of the zip to write. It holds each picture under its own name and in its own format, PNG for GIF;
        a second file of one name gets a number.
      progress: called before each picture and at the end.

    Returns:
      A row of each picture, see COLUMNS.

    Raises:
      InputError: if there is no file, or there are more than `limits.batch_files`.
    """
    if not 0 < len(paths) <= limits.batch_files:
        raise InputError(f"a batch must have 1 to {limits.batch_files} pictures, found {len(paths)}")
    rows, names = [], set()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for index, path in enumerate(paths):
            progress(index, len(paths), path.name)
            try:
                picture, (width, height) = read_picture(path, limits, shrinks)
                output, seconds = models.translate(model, picture, path.name)
                name, profile = _unused(path, names), color_profile(read_bytes(path), path.name)
                zipped.writestr(name, encode_image(blend(picture, output, strength, path.name), name, profile))
                rows.append([path.name, f"{width}x{height}", f"{seconds:.2f}", DONE])
            except Exception as error:  # the next picture may well be fine
                rows.append([path.name, "", "", sentence(path.name, error)])
    progress(len(paths), len(paths), "")
    return rows


def _unused(path: Path, names: set[str]) -> str:
    """A name inside the zip that no picture has yet, whatever the case of its letters; it is added to `names`."""
    suffix = path.suffix if path.suffix.lower() in WRITABLE_SUFFIXES else ".png"
    name, count = f"{path.stem}{suffix}", 1
    while name.lower() in names:
        count += 1
        name = f"{path.stem}_{count}{suffix}"
    names.add(name.lower())
    return name
