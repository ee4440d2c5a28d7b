"""Tensors as PyTorch's files describe them: a part of a storage, checked before any of it is read."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from cut_tf.official.pickled import Functions, Name, PickleError

_MOST_DIMENSIONS = 8
# Of a number of values; products of _MOST_DIMENSIONS of them stay small enough to compute.
_MOST_VALUES = 2**40
# bfloat16 is the upper half of a float32, which NumPy has no type for.
BFLOAT16 = "bfloat16"
_STORAGES = {"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
             "BFloat16Storage": BFLOAT16, "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
             "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool"}


def numpy_type(name: str, byte_order: str = "little") -> np.dtype:
    """The type of a storage's values in a file; that of bfloat16 is uint16, which `to_float32` understands."""
    return np.dtype("uint16" if name == BFLOAT16 else name).newbyteorder(">" if byte_order == "big" else "<")


def to_float32(values: np.ndarray, name: str) -> np.ndarray:
    """Values of the type `name`, read as `numpy_type(name)`, as float32 of the same shape."""
    if name == BFLOAT16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(values, dtype=np.float32)


class Storage(NamedTuple):
    """Values that lie in a file one after the other."""

    key: str  # that of the record, or the place in the list of a legacy file
    type_name: str
    count: int  # values of the record
    first: int = 0  # of the part that this storage is
    length: int = 0  # of that part

    @property
    def nbytes(self) -> int:
        """Of the whole record."""
        return self.count * numpy_type(self.type_name).itemsize


class StoredTensor(NamedTuple):
    """A view of a storage: value i, j, ... is that at offset + i * strides[0] + j * strides[1] + ..."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of a copy."""
        return count_values(self.shape) * numpy_type(self.storage.type_name).itemsize

    def view(self, record: np.ndarray) -> np.ndarray:
        """The values, of `record`, which are those of the storage's whole record. Not a copy."""
        start = self.storage.first + self.offset
        if not count_values(self.shape):
            return np.empty(self.shape, record.dtype)
        strides = [stride * record.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(record[start:], self.shape, strides, writeable=False)


def count_values(shape: tuple[int, ...]) -> int:
    """Values of a tensor of that shape."""
    count = 1
    for side in shape:
        count *= side
    return count


def storage_of(reference: object) -> Storage:
    """What a pickle means by ("storage", type, key, device, count), or of legacy files, with a view as sixth entry.

    Raises:
      PickleError: if it is nothing like that.
    """
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise PickleError("its pickle refers to something that is no storage")
    _, kind, key, _, count, *view = reference
    known = isinstance(kind, Name) and kind.module in ("torch", "torch.cuda") and kind.name in _STORAGES
    if not known or not isinstance(key, str):
        raise PickleError("its pickle has a storage of an unknown type")
    _check_counts((count,), "a storage")
    if not view or view[0] is None:
        return Storage(key, _STORAGES[kind.name], count, 0, count)
    if not isinstance(view[0], tuple) or len(view[0]) != 3:
        raise PickleError("its pickle has a damaged view of a storage")
    _, first, length = view[0]
    _check_counts((first, length), "a view of a storage")
    if first + length > count:
        raise PickleError(f"its pickle has a view of {length} values from {first} on of a storage of {count}")
    return Storage(key, _STORAGES[kind.name], count, first, length)


def _check_counts(values: object, of_what: str) -> None:
    if not isinstance(values, tuple) or len(values) > _MOST_DIMENSIONS:
        raise PickleError(f"its pickle is damaged: the numbers of {of_what} are no tuple of at most "
                          f"{_MOST_DIMENSIONS}")
    for value in values:
        if type(value) is not int or not 0 <= value <= _MOST_VALUES:
            raise PickleError(f"its pickle has {of_what} with a number that is not between 0 and 2^40")


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise PickleError("its pickle makes a tensor of what is no storage")
    _check_counts((offset,), "a tensor")
    _check_counts(shape, "a tensor")
    _check_counts(strides, "a tensor")
    if len(shape) != len(strides):
        raise PickleError(f"its pickle has a tensor with {len(shape)} sides and {len(strides)} strides")
    if count_values(shape):
        end = offset + 1 + sum((side - 1) * stride for side, stride in zip(shape, strides))
        if end > storage.length:
            raise PickleError(f"its pickle has a tensor of the shape {list(shape)} that ends {end - storage.length} "
                              f"values behind its storage of {storage.length}")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(tensor: object, *_: object) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise PickleError("its pickle makes a parameter of what is no tensor")
    return tensor


def _size(sides: object = ()) -> tuple[int, ...]:
    _check_counts(sides, "a size")
    return sides


def _ordered_dict(items: object = ()) -> OrderedDict:
    """An OrderedDict; Python 2 pickled the items as its argument."""
    if not isinstance(items, (list, tuple)):
        raise PickleError("its pickle makes a dict of what are no items")
    made = OrderedDict()
    for item in items:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not isinstance(item[0], str):
            raise PickleError("its pickle has a dict with items that are no pairs of a text and a value")
        made[item[0]] = item[1]
    return made


# All that a state dict calls, by its name in the pickle.
FUNCTIONS: Functions = {
    ("collections", "OrderedDict"): _ordered_dict, ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor, ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter}
