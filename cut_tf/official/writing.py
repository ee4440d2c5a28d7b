"""Writes weights as PyTorch's zip archive and as safetensors, without PyTorch."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}
# As torch.save calls the folder inside, and the version that it gives the format.
_FOLDER, _VERSION = "archive", b"3\n"
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def pth_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A state dict as `torch.save` writes it since PyTorch 1.6; `torch.load(..., weights_only=True)` reads it.

    Args:
      arrays: float32 or int64, by name.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        entries = {"data.pkl": _pickle(arrays), "byteorder": b"little",
                   **{f"data/{key}": _little(array).tobytes() for key, array in enumerate(arrays.values())},
                   "version": _VERSION}
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}"), data)
    return content.getvalue()


def safetensors_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The same as safetensors. Raises ImportError without the package (the extra `weights`)."""
    from safetensors import numpy

    return numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _little(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An OrderedDict of tensors, each a whole storage of its own."""
    parts = [b"\x80\x02", _ORDERED_DICT, b"("]
    for key, (name, array) in enumerate(arrays.items()):
        strides = [stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides]
        storage = b"".join([b"(", _text("storage"), f"ctorch\n{_STORAGES[array.dtype]}\n".encode(), _text(str(key)),
                            _text("cpu"), _int(array.size), b"tQ"])
        parts += [_text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, _int(0), _tuple(array.shape),
                  _tuple(strides), b"\x89", _ORDERED_DICT, b"tR"]
    return pickletools.optimize(b"".join([*parts, b"u."]))


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: object) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"
