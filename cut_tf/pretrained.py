"""Files of published weights: the one that the user names, that of Keras' cache, or a download into it."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from cut_tf.common.errors import InputError


def find_weights(given: str, flag: str, url: str, md5: str, otherwise: str) -> Path:
    """The file of weights to load.

    Args:
      given: what the user named; the published file if empty.
      flag: name of that flag, for messages.
      url: where the file is published; its last part is its name.
      md5: checksum of the published file. A user's own file may be another one.
      otherwise: what to do without the file, for the message: a clause that follows "or".

    Returns:
      Path of an existing file, `models/NAME` in Keras' folder ($KERAS_HOME, ~/.keras) if none is given.

    Raises:
      InputError: if there is no such file, or it cannot be downloaded.
    """
    name = url.rsplit("/", 1)[-1]
    if given:
        if not Path(given).is_file():
            raise InputError(f"--{flag} must be a file of weights such as {name}, found no file {given}")
        return Path(given)
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        cache.mkdir(parents=True, exist_ok=True)  # or Keras would take /tmp/.keras
        return Path(keras.utils.get_file(name, url, cache_subdir="models", cache_dir=str(cache), file_hash=md5))
    except Exception as error:  # Keras raises bare Exception without a network, others for a disk or a checksum
        raise InputError(f"{name} cannot be downloaded from {url}: {error}. Put that file into {cache / 'models'}, "
                         f"name it with --{flag}=FILE, or {otherwise}") from error
