"""What is done to one picture, on one machine or on many: choose a translator, translate, name the result, say why not.

`python -m cut_tf.translate` uses these for a folder on this machine, the pipeline of `cut_tf.batch` on its workers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cut_tf.baselines import BASELINES
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.images import Translate
from cut_tf.common.strength import FULL, at_strength, check_strength
from cut_tf.data.image_files import WRITABLE_SUFFIXES

if TYPE_CHECKING:
    from cut_tf.checkpoints import CheckpointStore

RUN_METHOD = "run"
_SETTINGS = "settings.json"
_MODEL_FLAGS = ("saved_model", "tflite")


@dataclasses.dataclass(frozen=True)
class TranslatorChoice:
    """What translates. The fields are the flags of these names; folders and files may be URLs.

    Attributes:
      method: "run" for one of the three generators that follow, else a row of BASELINES.
      run: folder of a run, or DIR@STEP.
      saved_model: folder of an exported SavedModel.
      tflite: exported .tflite file.
      weights: of the run, one of `translators.WEIGHTS`, or empty.
      size: one of `translators.SIZES`.
      tf32: see `devices.set_up`.
      strength: from 0, the input, to 1, the output; see `common.strength`.
    """

    method: str = RUN_METHOD
    run: str = ""
    saved_model: str = ""
    tflite: str = ""
    weights: str = ""
    size: str = "native"
    tf32: bool = False
    strength: float = FULL

    def check(self) -> None:
        """Raises InputError unless there is one source of translations, and nothing that it does not use."""
        check_strength(self.strength)
        sources = [name for name in ("run", "saved_model", "tflite") if getattr(self, name)]
        if self.method != RUN_METHOD:
            if sources:
                raise InputError(f"--{sources[0]} must not be given with --method={self.method}, which uses no "
                                 f"generator, found {getattr(self, sources[0])!r}")
        elif len(sources) != 1:
            raise InputError("one of --run, --model, --saved_model, --tflite and --method must say what translates, "
                             "found "
                             f"{', '.join(f'--{name}={getattr(self, name)}' for name in sources) or 'none'}")
        for name, unused, users in (("weights", "", ["run"]), ("size", "native", ["run", "tflite"]),
                                    ("tf32", False, ["run", "saved_model"])):
            if getattr(self, name) != unused and not any(getattr(self, user) for user in users):
                needed = " or ".join(f"--{user}" for user in users)
                raise InputError(f"--{name} must not be given without {needed}, found {getattr(self, name)!r}")

    @property
    def uses_tensorflow(self) -> bool:
        """Whether TensorFlow translates, and may say which device it uses."""
        return bool(self.run or self.saved_model)

    def open(self) -> Translate:
        """Loads the translator, which works at the strength. Raises InputError if it cannot be loaded."""
        return at_strength(self._open(), self.strength)

    def _open(self) -> Translate:
        if self.method != RUN_METHOD:
            baseline = BASELINES[self.method]
            return lambda picture, _: baseline(picture)
        if self.tflite:
            from cut_tf.translators.exported import TFLiteTranslator

            with places.local_copy(self.tflite) as path:
                translator = TFLiteTranslator(path, threads=os.cpu_count() or 1, resize=self.size == "train")
            if self.size == "train" and translator.size_px is None:
                raise InputError("--size=train must be given with a .tflite file of one size, to which it resizes, "
                                 f"found --tflite={self.tflite}, which takes any")
            return translator
        from cut_tf import devices  # imports TensorFlow, like all below

        devices.set_up(self.tf32)
        if self.saved_model:
            from cut_tf.translators.exported import SavedModelTranslator

            return SavedModelTranslator(places.local_folder(self.saved_model))
        from cut_tf.translators.run import Translator

        if not places.is_remote(self.run):
            return Translator(self.run, self.weights, self.size)
        pinned = self.pinned()
        folder, store, step = pinned._checkpoint()
        copy = places.local_folder(folder, (_SETTINGS, f"{store.path(step).parent.name}/{store.path(step).name}/"))
        return Translator(f"{copy}@{step}", pinned.weights, self.size)

    def pinned(self) -> TranslatorChoice:
        """The same, with a run's checkpoint named by its step, so that all workers and all later starts take that one.

        Raises:
          InputError: if the run has no such checkpoint.
        """
        if not self.run:
            return self
        folder, store, step = self._checkpoint()
        if step is not None:
            store.check(step)
            return self
        step = store.find(self.weights or "ema")
        # The best checkpoint translates with the running means if the run kept them, as no name of weights does too.
        return dataclasses.replace(self, run=f"{folder}@{step}", weights=self.weights if self.weights != "best" else "")

    def fingerprint(self) -> dict[str, object]:
        """What the results depend on, as JSON values: the flags, and a digest of a model's files.

        Of a run, these are the settings alone: see `checkpoint_digest`.

        Raises:
          InputError: if the model's files are not there, or cannot be read.
        """
        values = {**dataclasses.asdict(self), "files": _digest(self._files())}
        if self.strength == FULL:
            del values["strength"]  # plans of earlier versions have none
        return values

    def at_places_of(self, other: TranslatorChoice) -> TranslatorChoice:
        """The same, with a model's files where another choice of the same fingerprint has them."""
        return dataclasses.replace(self, **{name: getattr(other, name) for name in _MODEL_FLAGS})

    def checkpoint_digest(self) -> str:
        """A digest of a run's weights, once `pinned`; empty for others. Raises InputError if they cannot be read."""
        if not self.run:
            return ""
        _, store, step = self._checkpoint()
        return _digest([str(store.index(step))])

    def _files(self) -> list[str]:
        if self.tflite:
            return [self.tflite]
        if self.run:
            return [places.join(self._checkpoint()[0], _SETTINGS)]
        if not self.saved_model:
            return []
        found = [place for place in places.files_below(self.saved_model)
                 if place.endswith("saved_model.pb") or "/variables/" in place]
        if not found:
            raise InputError(f"--saved_model={self.saved_model} must be the folder of a SavedModel, or of its numbered "
                             "versions, found none")
        return found

    def _checkpoint(self) -> tuple[str, CheckpointStore, int | None]:
        """Folder of the run, its checkpoints, and the step that the run's name tells."""
        from cut_tf.checkpoints import CheckpointStore, run_and_step

        folder, step = run_and_step(self.run)
        return str(folder), CheckpointStore(folder, keep=1, writes=False), step


def same_results(fingerprint: dict[str, object], other: dict[str, object]) -> bool:
    """Whether two fingerprints are of one translator, wherever the files of its model are: they have a digest."""
    one, two = ({**values, **{name: bool(values.get(name)) for name in _MODEL_FLAGS}}
                for values in (fingerprint, other))
    return one == two


def _digest(files: list[str]) -> str:
    digest = hashlib.sha256()
    for place in files:
        digest.update(places.read_bytes(place))
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a picture has no result: one of KINDS, and one line that names the picture."""

    kind: str
    message: str


# Kinds of failures, as they are counted.
KINDS = {"refused": "unreadable, damaged, or of a size that cannot be translated", "memory": "too large for the memory",
         "error": "any other error while it was translated"}


def failure(name: str, error: Exception, work: str = "translated") -> Failure:
    """What to say about a picture that was not translated.

    Args:
      name: of the picture.
      error: what was raised.
      work: what could not be done with it.
    """
    if isinstance(error, InputError):
        return Failure("refused", str(error))
    first_line = next(iter(str(error).splitlines()), "")
    # By name, since TensorFlow need not be imported for a baseline.
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
    hint = "; it is too large for the memory of this machine" if no_memory else ""
    return Failure("memory" if no_memory else "error",
                   f"{name}: cannot be {work}{hint} ({type(error).__name__}: {first_line})")


def result_name(name: str) -> str:
    """The result's relative name with slashes: that of its picture; PNG for GIF, whose palette would spoil it."""
    path = PurePosixPath(name)
    return name if path.suffix.lower() in WRITABLE_SUFFIXES else str(path.with_suffix(".png"))


def result_path(picture: Path, folder: Path) -> Path:
    """Where the result of a picture of this machine goes."""
    return folder / result_name(picture.name)
