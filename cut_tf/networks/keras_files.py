"""Generators in Keras' own files, NAME.keras."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import keras

from cut_tf.common.errors import InputError
from cut_tf.networks.generators.base import Generator

SUFFIX = ".keras"


def save_keras_file(generator: keras.Model, path: Path, overwrite: bool = False) -> None:
    """Writes a generator, with its weights and what it is made of, whole or not at all.

    Args:
      generator: any of the table.
      path: NAME.keras; its folder is made if it is not there.
      overwrite: replace a file that is there.

    Raises:
      InputError: if it is there and must not be replaced, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} must not be there yet, found that it is; overwrite=True replaces it")
    aside = path.with_name(f".{uuid.uuid4().hex}{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            generator.save(str(aside))
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: must be writable, found: {error.strerror or error}") from error


def load_keras_file(path: Path) -> Generator:
    """The generator in a .keras file, not compiled.

    Raises:
      InputError: if it cannot be read, or holds something else.
    """
    try:
        found = keras.models.load_model(str(path), compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} must be a .keras file of a generator, found: {error}") from error
    if not isinstance(found, Generator):
        raise InputError(f"{path} must hold a generator of cut_tf, found {type(found).__name__}")
    return found
