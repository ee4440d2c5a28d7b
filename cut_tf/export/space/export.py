"""A generator as the folder of a Hugging Face Space: app.py, requirements.txt, README.md, the model and the code."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from string import Template

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.export.options import DEFAULTS, ExportOptions
from cut_tf.export.saved_model.export import save_version
from cut_tf.export.saved_model.serving_files import model_name
from cut_tf.export.space import texts
from cut_tf.translators.run import Translator

_PACKAGE = Path(cut_tf.__file__).parent


def export_space(translator: Translator, folder: Path, options: ExportOptions = DEFAULTS) -> Path:
    """Writes a Space into `folder`. What else is in there, such as what git keeps of the Space, stays.

    Args:
      translator: the trained generator.
      folder: made if it is not there. Its last part becomes the model's name and the page's title.
      options: pixel limit of the page and of the model; licence of the weights, a name that hubs know such as
        apache-2.0.

    Returns:
      `folder`.

    Raises:
      InputError: if the folder's name is no model name, something of a Space is there already, the saved model draws
        other pictures, or the disk refuses; nothing is written then.
    """
    name = model_name(folder)
    written = _files(translator, name, options)
    entries = [*written, name, "cut_tf"]
    if name in (*written, "cut_tf"):
        raise InputError(f"--output must not end in the name of a part of the Space, found {name!r}")
    for entry in entries:
        if os.path.lexists(folder / entry):
            raise InputError(f"--output={folder}: {folder / entry} is there already and is not replaced; remove it or "
                             "name another folder")
    is_new = not folder.exists()
    aside = folder / f".{uuid.uuid4().hex}.tmp"
    moved: list[Path] = []
    done = False
    try:
        aside.mkdir(parents=True)
        save_version(translator, aside / name, options)
        for file, text in written.items():
            replace_file(aside / file, text.encode())
        shutil.copytree(_PACKAGE, aside / "cut_tf", ignore=_all_but_python)
        for entry in entries:
            os.rename(aside / entry, folder / entry)
            moved.append(folder / entry)
        done = True
    except OSError as error:
        raise InputError(f"--output={folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if not done:
            _remove(moved, folder if is_new else None)
    return folder


def _files(translator: Translator, name: str, options: ExportOptions) -> dict[str, str]:
    """Text of each file."""
    settings = translator.settings
    # In YAML as in JSON, quotes make a text of anything.
    line = "" if options.license == DEFAULTS.license else f"license: {json.dumps(options.license)}\n"
    values = {"name": name, "quoted_name": json.dumps(name), "pixels": options.pixel_limit, "license": options.license,
              "license_line": line, "generator": settings.generator.generator, "method": settings.train.method,
              "steps": f"{translator.step:,}",
              "gradio": texts.GRADIO, "python": texts.PYTHON}
    files = {"app.py": texts.APP, "requirements.txt": texts.REQUIREMENTS, "README.md": texts.README}
    return {file: Template(text).substitute(values) for file, text in files.items()}


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    """What of the package is left behind: a Space trains nothing, so it needs no flagfiles."""
    return [name for name in names if name == "__pycache__" or not (
        name.endswith(".py") or os.path.isdir(os.path.join(folder, name)))]


def _remove(moved: list[Path], folder: Path | None) -> None:
    for path in moved:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if folder is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
