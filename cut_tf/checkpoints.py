"""Checkpoints that a killed process cannot spoil: written under a temporary name, then renamed.

    RUN/checkpoints/step_0000001000/   variables.index, variables.data-*, checkpoint.json
    RUN/checkpoints/best.json          step and value of the best metric
    RUN/checkpoints/final.json         step of the finished run

Variables are stored by the names of `TranslationMethod.state`, the same on both TensorFlow stacks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.common.places import AnyPath
from cut_tf.settings import Settings

_AT_STEP = re.compile(r"(.+)@(\d+)")
_STEP_FOLDER = re.compile(r"step_(\d{10})")
# In the folder of a run that was not trained here: where its weights came from.
IMPORTED = "imported.json"
_PREFIX, SETTINGS = "variables", "settings.json"
_STORED_NAME = re.compile(r"state/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
_FORMAT = 1


class CheckpointStore:
    """The checkpoints of one run.

    Args:
      run: folder of the run; a URL may be read only.
      keep: number of newest checkpoints to keep, besides the best and the final one.
      writes: false in processes other than the chief, which take part in saving but leave nothing on disk.
    """

    def __init__(self, run: AnyPath, keep: int, writes: bool = True) -> None:
        self._folder = run / "checkpoints"
        self._keep = keep
        self._writes = writes

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        matches = (_STEP_FOLDER.fullmatch(name.rstrip("/")) for name in places.names_in(str(self._folder)))
        return sorted(int(match.group(1)) for match in matches if match)

    def path(self, step: int) -> AnyPath:
        return self._folder / f"step_{step:010d}"

    def index(self, step: int) -> AnyPath:
        """The file of a checkpoint that identifies its weights: it holds a checksum of each."""
        return self.path(step) / f"{_PREFIX}.index"

    def save(self, state: Mapping[str, tf.Variable], step: int, settings: Settings) -> Path:
        """Writes a checkpoint, then removes old ones. An existing one of that step stays as it is.

        Raises:
          InputError: if it cannot be written. Earlier checkpoints are then still there.
        """
        path = self.path(step)
        if path.is_dir() and self._writes:
            return path
        aside = self._folder / f".{path.name}.{os.getpid()}.tmp"
        try:
            if self._writes:
                aside.mkdir(parents=True, exist_ok=True)
            else:
                aside = Path(tempfile.mkdtemp())
            tf.train.Checkpoint(state=dict(state)).write(str(aside / _PREFIX))
            if self._writes:
                contents = {"format": _FORMAT, "step": step, "variables": len(state)}
                (aside / "checkpoint.json").write_text(json.dumps(contents) + "\n", encoding="utf-8")
                (aside / SETTINGS).write_text(settings.to_json(), encoding="utf-8")
                os.replace(aside, path)
        except (OSError, tf.errors.OpError) as error:
            raise InputError(f"{path}: checkpoint cannot be written: {error}. Earlier checkpoints are untouched; "
                             "the same command continues from the last of them") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if self._writes:
            self._remove_old()
        return path

    def restore(self, state: Mapping[str, tf.Variable], step: int, partial: bool = False) -> None:
        """Sets all variables of `state` from the checkpoint of that step.

        Args:
          state: variables by the names that they were saved under.
          step: of the checkpoint.
          partial: whether the checkpoint may hold more than `state`.

        Raises:
          InputError: if the checkpoint is damaged or lacks a variable.
        """
        path = self.path(step)
        try:
            status = tf.train.Checkpoint(state=dict(state)).read(str(path / _PREFIX))
            if partial:
                status.expect_partial().assert_existing_objects_matched()
            else:
                status.assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            raise InputError(f"{path}: checkpoint cannot be read: {error}") from error

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Shapes of all that the checkpoint of that step holds, by the names of `save`'s state.

        Raises:
          InputError: if it is damaged.
        """
        path = self.path(step)
        try:
            found = tf.train.load_checkpoint(str(path / _PREFIX)).get_variable_to_shape_map()
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(f"{path}: checkpoint cannot be read: {error}") from error
        shapes = {}
        for key, shape in found.items():
            match = _STORED_NAME.fullmatch(key)
            if match:
                # TensorFlow writes . for what separates parts of a name.
                shapes[match[1].replace(".S", "/").replace("..", ".")] = tuple(shape)
        return shapes

    def networks(self, step: int) -> set[str]:
        """Names of the networks whose weights the checkpoint of that step holds, and of others that have parts."""
        return {name.partition("/")[0] for name in self.shapes(step) if "/" in name}

    def mark(self, name: str, step: int, **values: object) -> None:
        """Names a checkpoint `best` or `final`, which keeps it from being removed."""
        if self._writes:
            replace_file(self._folder / f"{name}.json", (json.dumps({"step": step, **values}) + "\n").encode())

    def marked(self, name: str) -> dict | None:
        """What `mark` was given, or None. Raises InputError for a damaged file."""
        path = self._folder / f"{name}.json"
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_bytes())
            return values if self.path(int(values["step"])).is_dir() else None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a mark of a checkpoint: {error}") from error

    def find(self, weights: str) -> int:
        """Step of the checkpoint called best, last or ema (the last one's running means).

        Raises:
          InputError: if there is none.
        """
        steps = self.steps()
        if not steps:
            raise InputError(f"--run must be a folder with a checkpoint, found none in {self._folder}")
        if weights != "best":
            return steps[-1]
        best = self.marked("best")
        if best is None:
            raise InputError(f"--weights=best needs a run with test pairs, found no evaluation in {self._folder}; "
                             "use last or ema")
        return int(best["step"])

    def check(self, step: int) -> int:
        """The same step. Raises InputError if it has no checkpoint."""
        if step not in self.steps():
            raise InputError(f"{self._folder.parent}@{step} must name a step with a checkpoint, found "
                             f"{', '.join(map(str, self.steps())) or 'none'}")
        return step

    def _remove_old(self) -> None:
        marks = [self.marked(name) for name in ("best", "final")]
        protected = {int(mark["step"]) for mark in marks if mark}
        for step in self.steps()[:-self._keep]:
            if step not in protected:
                # Renamed first, so that a kill in between leaves no half checkpoint under its real name.
                aside = self._folder / f".removed_{step:010d}"
                os.replace(self.path(step), aside)
                shutil.rmtree(aside, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Removes what a killed process left half written or half removed. Call at the start of a run."""
        for pattern in (".step_*.tmp", ".removed_*"):
            for leftover in self._folder.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)


def run_and_step(run: str | Path) -> tuple[AnyPath, int | None]:
    """Folder and step of DIR@STEP, which names one checkpoint of a run; no step of DIR alone.

    If there is a folder of that whole name, it is the run, without a step.
    """
    match = _AT_STEP.fullmatch(str(run))
    if match and not places.is_folder(str(run)):
        return places.path_of(match.group(1)), int(match.group(2))
    return places.path_of(str(run)), None


def run_folder(run: str | Path) -> Path:
    """The folder of a run to be written. Raises InputError for a URL, and where TensorFlow could not read it again."""
    if places.is_remote(str(run)):
        raise InputError(f"--run must be a folder of this machine, found {run}")
    places.check_tensorflow_can_read(Path(run), "--run")
    return Path(run)


def read_settings(folder: AnyPath, flag: str = "--run") -> Settings:
    """The settings of a run. Raises InputError, naming the flag, if the folder is none or they are damaged."""
    path = folder / SETTINGS
    with places.named(str(path), "must be a readable file"):
        if not path.is_file():
            raise InputError(f"{flag} must be the folder of a run, found no settings.json in {folder}")
        data = path.read_bytes()
    try:
        return Settings.from_json(data.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8, found {error}") from error


def check_same_settings(folder: Path, settings: Settings) -> None:
    """Raises InputError if the folder holds a run of other settings, or files that are no run, or cannot be read."""
    with places.named(str(folder), "must be a folder that can be read"):
        _check_same_settings(folder, settings)


def _check_same_settings(folder: Path, settings: Settings) -> None:
    if (folder / IMPORTED).is_file():
        raise InputError(f"--run must be a new folder, found {folder}, which holds imported weights; training begins "
                         f"with them by --init_from={folder}")
    path = folder / SETTINGS
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"--run must be a new or empty folder, or that of a run, found other files in {folder}")
        return
    differences = read_settings(folder).differences(settings)
    if differences:
        raise InputError(f"--run={folder} holds a run of other settings (its own against the given ones):\n  "
                         + "\n  ".join(differences) + "\nName another folder, or give the run's own settings")


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes `settings.json` into a folder unless it is there. Raises InputError if the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--run={folder} cannot be created: {error}") from error
    path = folder / SETTINGS
    if not path.exists():
        replace_file(path, settings.to_json().encode())
