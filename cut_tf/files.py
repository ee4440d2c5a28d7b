"""Writing files so that neither a killed process nor a full disk leaves half of one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from cut_tf.errors import InputError


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file atomically: to a temporary file in the same folder, which then takes the place of `path`.

    Raises:
      InputError: naming the file and the reason, if it cannot be written. No temporary file is left behind.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: must be writable, found: {error.strerror or error}") from error
