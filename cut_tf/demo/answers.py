"""What the page answers to its users: pictures, a sentence, a file to download. Knows nothing of Gradio."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.common.strength import blend
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import WRITABLE_SUFFIXES, encode_image, read_bytes
from cut_tf.demo.batch import DONE, Progress, translate_files
from cut_tf.demo.models import Models
from cut_tf.demo.pictures import Limits, Translation, read_picture, sentence

ARCHIVE = "translated.zip"
_NOTHING = "Drop a picture to begin."


class Answer(NamedTuple):
    """To one picture.

    Attributes:
      text: a sentence: what was done, or why not.
      pair: the picture and the blended output, uint8 [H, W, 3]; None if there is none.
      download: the blended output as a file.
      translation: what the next change of strength starts from.
    """

    text: str
    pair: tuple[np.ndarray, np.ndarray] | None = None
    download: Path | None = None
    translation: Translation | None = None


class BatchAnswer(NamedTuple):
    """To a batch: a sentence, rows as of `batch.COLUMNS`, and the zip if anything is in it."""

    text: str
    rows: list[list[str]]
    download: Path | None = None


class Answers:
    """Answers users' requests; holds nothing of theirs but the files for download.

    Args:
      models: what translates.
      limits: of pictures and batches.
      folder: for downloads, each in a folder of its own with a name that cannot be guessed; it exists.
    """

    def __init__(self, models: Models, limits: Limits, folder: Path) -> None:
        self._models, self._limits, self._folder = models, limits, folder

    def picture(self, file: str | None, model: str, strength: float, shrinks: bool) -> Answer:
        """Translates a user's file. Never raises: what is wrong is the answer's text."""
        if file is None:
            return Answer(_NOTHING)
        path = Path(file)
        try:
            source, stored_px = read_picture(path, self._limits, shrinks)
            profile = color_profile(read_bytes(path), path.name)
            output, seconds = self._models.translate(model, source, path.name)
            return self.blended(Translation(path.name, source, output, stored_px, seconds, profile), strength)
        except Exception as error:  # a user must get an answer
            return Answer(sentence(path.name, error))

    def blended(self, translation: Translation | None, strength: float) -> Answer:
        """The answer at another strength; the generator does not run."""
        if translation is None:
            return Answer(_NOTHING)
        name, source, output, (width, height), seconds, profile = translation
        try:
            mixed = blend(source, output, strength, name)
            suffix = Path(name).suffix if Path(name).suffix.lower() in WRITABLE_SUFFIXES else ".png"
            download = self._new_folder() / f"{Path(name).stem}_translated{suffix}"
            replace_file(download, encode_image(mixed, download.name, profile))
        except Exception as error:  # a disk that is full, say
            return Answer(sentence(name, error))
        size = f"{source.shape[1]}x{source.shape[0]} px"
        stored = "" if (height, width) == source.shape[:2] else f", made smaller from {width}x{height} px"
        return Answer(f"{name}: {size}{stored}, translated in {seconds:.2f} s.", (source, mixed), download, translation)

    def batch(self, files: Sequence[str] | None, model: str, strength: float, shrinks: bool,
              progress: Progress) -> BatchAnswer:
        """Translates many files into a zip. Never raises."""
        try:
            archive = self._new_folder() / ARCHIVE
            rows = translate_files([Path(file) for file in files or []], self._models, model, strength, shrinks,
                                   self._limits, archive, progress)
        except InputError as error:
            return BatchAnswer(str(error), [])
        except Exception as error:
            return BatchAnswer(sentence(ARCHIVE, error), [])
        done = sum(row[-1] == DONE for row in rows)
        return BatchAnswer(f"{done} of {len(rows)} pictures translated.", rows, archive if done else None)

    def _new_folder(self) -> Path:
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        return folder
