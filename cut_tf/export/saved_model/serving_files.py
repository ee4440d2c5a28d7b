"""The files that TF Serving needs beside the models: its configuration, a docker compose file and a README.

A model folder holds numbered versions. The folder around it, such as saved_models/, holds these files and may hold
several models. Every file starts with a digest of the rest. So a file that was changed by hand is recognised and left
alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.export.saved_model.serving_texts import (
    BATCHING,
    COMPOSE,
    KUBERNETES,
    MODEL_ENTRY,
    MODELS_HEAD,
    MODELS_TAIL,
    MONITORING,
    README,
)

MODELS_CONFIG = "models.config"
_LOG = logging.getLogger(__name__)
# Characters that REST addresses, gRPC and text protos all accept without escapes.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEAD = ("Written by python -m cut_tf.export, which leaves this file alone once it has been changed. sha256 of the "
         "lines below: ")
_SIGNED = re.compile(r"[^\n]*" + re.escape(_HEAD) + r"([0-9a-f]{64})[^\n]*\n(.*)", re.DOTALL)
_ENTRY_NAME = re.compile(r'^ *name: "([^"]+)"$', re.MULTILINE)


def model_name(folder: Path) -> str:
    """Name by which TF Serving will serve the model in `folder`: the folder's own.

    Raises:
      InputError: unless it consists of letters, digits, dots, hyphens and underscores, or if TensorFlow could not read
        a model in that folder.
    """
    places.check_tensorflow_can_read(folder, "--output")
    name = _absolute(folder).name
    if not _MODEL_NAME.fullmatch(name):
        raise InputError(f"--output must end in the model's name: letters, digits, dots, hyphens and underscores, of "
                         f"which the first is a letter or digit, found {name!r}")
    return name


def write_serving_files(folder: Path) -> Callable[[], None]:
    """Writes or updates the files beside a model's folder, each atomically, except models.config.

    In models.config the model is added, and models whose folder is gone are removed. Files that were written or changed
    by hand stay as they are. That is logged, with the lines to add if models.config does not name the model.

    Args:
      folder: of the model, which exists.

    Returns:
      A function that writes models.config. Call it once the model's version exists: a server serves what that file
      names.

    Raises:
      InputError: if the folder's name is no model name, or a file cannot be written.
      OSError: if a file cannot be read.
    """
    name, parent = model_name(folder), _absolute(folder).parent
    texts = {"batching.config": _signed(BATCHING), "monitoring.config": _signed(MONITORING),
             "docker-compose.yml": _signed(COMPOSE), "kubernetes.yaml": _signed(KUBERNETES.replace("MODEL", name)),
             "README.md": _signed(README.replace("MODEL", name), "<!-- ", " -->")}
    foreign = [file for file, text in texts.items() if not _write_own(parent / file, text)]
    if foreign:
        _LOG.info("left alone in %s, since they are not as this command writes them: %s", parent, ", ".join(foreign))
    config = parent / MODELS_CONFIG
    _own_text(config)  # if it cannot be read, say so now
    return lambda: _add_model(config, name)


def _absolute(folder: Path) -> Path:
    """The absolute path without following links, so that a link keeps its own name and place."""
    return Path(os.path.abspath(folder))


def _signed(text: str, start: str = "# ", end: str = "") -> str:
    return f"{start}{_HEAD}{hashlib.sha256(text.encode()).hexdigest()}{end}\n{text}"


def _own_text(path: Path) -> str | None:
    """The text of a file that `_signed` made, without its first line; "" if there is no file; None for other files."""
    if not path.exists():
        return ""
    found = _SIGNED.fullmatch(path.read_bytes().decode("utf-8", errors="replace"))
    return found[2] if found and hashlib.sha256(found[2].encode()).hexdigest() == found[1] else None


def _write_own(path: Path, text: str) -> bool:
    """Writes the file unless it was written or changed by hand. Returns whether it now has that text."""
    own = _own_text(path)
    if own is None:
        return False
    if not text.endswith(f"\n{own}") or not own:  # a file that stays the same keeps its time
        replace_file(path, text.encode())
    return True


def _add_model(path: Path, name: str) -> None:
    """Names the model in models.config, or logs the lines to add if that file was changed by hand."""
    own = _own_text(path)
    entry = MODEL_ENTRY.replace("MODEL", name)
    if own is None:
        named = re.search(rf"name\s*:\s*([\"']){re.escape(name)}\1", path.read_text(encoding="utf-8", errors="replace"))
        if not named:
            _LOG.warning("%s was changed by hand and is left alone; for TF Serving to serve the model, add to its "
                         "model_config_list:\n%s", path, entry.rstrip("\n"))
        return
    names = {known for known in _ENTRY_NAME.findall(own) if (path.parent / known).is_dir()} | {name}
    entries = "".join(MODEL_ENTRY.replace("MODEL", each) for each in sorted(names))
    _write_own(path, _signed(f"{MODELS_HEAD}{entries}{MODELS_TAIL}"))
