"""Reads .pth files of both formats, and .safetensors: weights by name, in float32, without PyTorch.

A file is known by what it holds, not by its name: PyTorch's zip archive (from PyTorch 1.6 on), its older stream, which
is five pickles and then the values, and safetensors. Nothing in a file is executed, and no more memory is taken than
the file's own size allows.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.official.pickled import MOST_BYTES, PickleError, read_pickle
from cut_tf.official.tensors import FUNCTIONS, StoredTensor, count_values, numpy_type, storage_of, to_float32

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_CHUNK_BYTES = 2**20
_COUNT = struct.Struct("<q")
_HEADER = struct.Struct("<Q")
# What damaged archives make zipfile raise.
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error, ValueError, OSError,
               OverflowError, KeyError)
# Of safetensors to NumPy; F8 and others are no weights of these networks.
_SAFE_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
               "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


class _Refused(ValueError):
    """The file cannot be read. The message is the reason."""


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """All floating-point tensors of a file, float32, by their names; integers, which only count batches, are left out.

    Args:
      path: a bare state dict, as `torch.save(network.state_dict(), path)` or safetensors write it. A prefix `module.`
        of all names, which DataParallel adds, is taken away.

    Raises:
      InputError: naming the file and the reason, if it cannot be read, is damaged, holds anything but tensors by name,
        or values that are not finite.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            tensors = dict(_tensors_of(file, size))
    except (_Refused, PickleError) as error:
        raise InputError(f"{path}: must be a state dict of PyTorch, .pth or .safetensors, found: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not tensors:
        return {}
    bad = next((name for name, values in tensors.items() if not np.isfinite(values).all()), None)
    if bad is not None:
        raise InputError(f"{path}: weights must be finite, found others in {_short(bad)}")
    prefix = "module."
    return {name[len(prefix):]: values for name, values in tensors.items()} if all(
        name.startswith(prefix) for name in tensors) else tensors


def _tensors_of(file: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    begin = file.read(_HEADER.size + 1)
    file.seek(0)
    if begin.startswith(_ZIP):
        return _of_zip(file, size)
    if begin.startswith(_PICKLE):
        return _of_stream(file, size)
    if len(begin) > _HEADER.size and begin.endswith(b"{") and _HEADER.unpack(begin[:-1])[0] <= size:
        return _of_safetensors(file)
    raise _Refused("neither an archive or a stream of PyTorch nor safetensors" if begin else "an empty file")


def _checked(state: object, size: int) -> dict[str, StoredTensor]:
    """The tensors of a state dict. Those of a file are never larger than it, so that no copy is."""
    if not isinstance(state, dict):
        raise _Refused(f"no state dict but an object of the type {type(state).__name__}")
    other = next((name for name, value in state.items() if not isinstance(value, StoredTensor)), None)
    if other is not None:
        raise _Refused(f"a dict whose entry {_short(other)} is no tensor but of the type {type(state[other]).__name__}")
    if sum(tensor.nbytes for tensor in state.values()) > size:
        raise _Refused("tensors that together are larger than the file")
    return state


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}...")


def _floats(state: Mapping[str, StoredTensor], records: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in state.items():
        if _is_float(tensor.storage.type_name):
            yield name, to_float32(tensor.view(records[tensor.storage.key]), tensor.storage.type_name)


def _is_float(type_name: str) -> bool:
    return "float" in type_name


def _storages(state: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """A tensor of every record by the record's key."""
    found = {}
    for tensor in state.values():
        other = found.setdefault(tensor.storage.key, tensor).storage
        if (other.type_name, other.count) != (tensor.storage.type_name, tensor.storage.count):
            raise _Refused("one storage with two types or sizes")
    return found


# ---- archives -----------------------------------------------------------------------------------------------------


class _SmallReads(io.RawIOBase):
    """A file that gives a MiB at a time at most: a directory of an archive that is larger is that of no state dict."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def read(self, count: int = -1) -> bytes:
        left = os.fstat(self._file.fileno()).st_size - self._file.tell()
        count = left if count < 0 else min(count, left)
        if count > _CHUNK_BYTES:
            raise zipfile.BadZipFile("its directory is larger than 1 MiB")
        return self._file.read(max(count, 0))

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _of_zip(file: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    try:
        archive = zipfile.ZipFile(_SmallReads(file))
        entries = {entry.filename: entry for entry in archive.infolist()}
    except _ZIP_ERRORS as error:
        raise _Refused(f"a damaged archive: {error}") from error
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _Refused(f"an archive with {len(pickles)} files called data.pkl")
    folder = pickles[0][:-len("data.pkl")]
    if f"{folder}constants.pkl" in entries:
        raise _Refused("a TorchScript program, which is no state dict; save network.state_dict()")
    pickle = _entry(archive, entries, pickles[0], size, MOST_BYTES)
    order = "little"
    if f"{folder}byteorder" in entries:
        order = _entry(archive, entries, f"{folder}byteorder", size, 16).tobytes().decode("latin-1")
        if order not in ("little", "big"):
            raise _Refused("an unknown order of bytes")
    state = _checked(read_pickle(io.BytesIO(pickle.tobytes()), FUNCTIONS, storage_of), size)
    storages = {key: tensor.storage for key, tensor in _storages(state).items()}
    if sum(storage.nbytes for storage in storages.values()) > size:
        raise _Refused("storages that together are larger than the file")
    records = {}
    for key, storage in storages.items():
        content = _entry(archive, entries, f"{folder}data/{key}", size, storage.nbytes)
        if content.size != storage.nbytes:
            raise _Refused(f"a storage of {content.size} bytes that should have {storage.nbytes}")
        records[key] = content.view(numpy_type(storage.type_name, order))
    return _floats(state, records)


def _entry(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str, size: int,
           most_bytes: int) -> np.ndarray:
    """The bytes of an entry, uint8 [N]."""
    entry = entries.get(name)
    if entry is None:
        raise _Refused(f"an archive without the entry {_short(name)}")
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise _Refused(f"an archive with the compressed entry {_short(name)}; PyTorch writes none")
    if entry.file_size > min(size, most_bytes):
        raise _Refused(f"an archive whose entry {_short(name)} has {entry.file_size} bytes, more than it may have")
    content, filled = np.empty(entry.file_size, np.uint8), 0
    try:
        with archive.open(entry) as stored:  # compares the checksum at the end
            while chunk := stored.read(_CHUNK_BYTES):
                content[filled:filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
                filled += len(chunk)
    except _ZIP_ERRORS as error:
        raise _Refused(f"a damaged archive: entry {_short(name)}: {error}") from error
    if filled != content.size:
        raise _Refused(f"a damaged archive: entry {_short(name)} is cut off")
    return content


# ---- the older stream ---------------------------------------------------------------------------------------------


def _of_stream(file: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    head = io.BytesIO(file.read(min(size, MOST_BYTES)))

    def pickle(refers: bool = False) -> object:
        return read_pickle(head, FUNCTIONS if refers else {}, storage_of if refers else _no_storage)

    if pickle() != _LEGACY_MAGIC:
        raise _Refused("a pickle that torch.save did not write")
    protocol = pickle()
    if protocol != _LEGACY_PROTOCOL:
        raise _Refused("a stream of an unknown version of torch.save")
    if not isinstance(pickle(), dict):
        raise _Refused("a damaged stream: what it says of its system is no dict")
    state = _checked(pickle(refers=True), size)
    keys = pickle()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _Refused("a damaged stream: its list of storages is none")
    storages = {key: tensor.storage for key, tensor in _storages(state).items()}
    if set(storages) != set(keys) or len(set(keys)) != len(keys):
        raise _Refused("a damaged stream: its list of storages is not that of its tensors")
    file.seek(head.tell())
    records = {key: _next_record(file, storages[key].nbytes, storages[key].count,
                                 numpy_type(storages[key].type_name)) for key in keys}
    if file.tell() != size:
        raise _Refused(f"a damaged stream: {size - file.tell()} bytes follow its last storage")
    return _floats(state, records)


def _no_storage(_: object) -> object:
    raise PickleError("its pickle refers to a storage where none can be")


def _next_record(file: BinaryIO, nbytes: int, count: int, kind: np.dtype) -> np.ndarray:
    """The record where `file` stands: the number of its values, and these."""
    begin = file.read(_COUNT.size)
    if len(begin) < _COUNT.size:
        raise _Refused("a stream that is cut off")
    if _COUNT.unpack(begin)[0] != count:
        raise _Refused(f"a storage of {_COUNT.unpack(begin)[0]} values that should have {count}")
    if nbytes > os.fstat(file.fileno()).st_size - file.tell():
        raise _Refused("a stream that is cut off")
    return np.fromfile(file, kind, count)


# ---- safetensors --------------------------------------------------------------------------------------------------


def _of_safetensors(file: BinaryIO) -> Iterator[tuple[str, np.ndarray]]:
    try:
        import safetensors
    except ImportError as error:
        raise _Refused("safetensors, which this Python has no package for: pip install 'cut_tf[weights]'") from error
    try:
        found = safetensors.deserialize(file.read())
    except (safetensors.SafetensorError, json.JSONDecodeError, ValueError) as error:
        raise _Refused(f"damaged safetensors: {error}") from error
    for name, tensor in found:
        type_name = _SAFE_TYPES.get(tensor["dtype"])
        if type_name is None:
            raise _Refused(f"a tensor {_short(name)} of the unknown type {_short(tensor['dtype'])}")
        if _is_float(type_name):
            values = np.frombuffer(tensor["data"], numpy_type(type_name))
            if values.size != count_values(tuple(tensor["shape"])):
                raise _Refused(f"damaged safetensors: {_short(name)} has {values.size} values")
            yield name, to_float32(values, type_name).reshape(tensor["shape"])
