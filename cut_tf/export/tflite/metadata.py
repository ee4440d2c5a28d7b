"""The description inside a TFLite file: what a picture must look like, in the format of TFLite Metadata (1.0.1).

Written with flatbuffers by the field numbers of the public schema metadata_schema.fbs, since the package that wraps it,
tflite-support, needs a protobuf that no TensorFlow of today takes. Generic readers (ML Kit, MediaPipe, Android Studio)
find it in the buffer named TFLITE_METADATA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cut_tf.common import images

# Name of the metadata entry that readers look for, and the four letters that open it.
_ENTRY, _IDENTIFIER = b"TFLITE_METADATA", b"M001"
# Numbers of the schema's union and enumeration members.
_IMAGE_PROPERTIES, _NORMALIZATION, _RGB = 2, 1, 1


class Description(NamedTuple):
    """What a reader learns of a model."""

    name: str
    description: str
    version: str
    license: str


def with_metadata(model: bytes, description: Description, unit_range: bool = False) -> bytes:
    """The same model with a description of its input and output: RGB, and how its levels become values."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    for kept in parsed.buffers:
        # Some writers put weights behind the flatbuffer, at an offset that is wrong as soon as the file changes.
        if kept.offset > 1:
            kept.data = np.frombuffer(model, np.uint8, kept.size, kept.offset)
            kept.offset = kept.size = 0
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_metadata(description, unit_range), np.uint8)
    parsed.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _ENTRY, len(parsed.buffers) - 1
    parsed.metadata = [*(parsed.metadata or []), entry]
    parsed.description = description.description.encode("utf-8")
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _metadata(description: Description, unit_range: bool) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    # Value = (level - mean) / deviation.
    mean, deviation = (0.0, 255.0) if unit_range else (images.HALF_RANGE, images.HALF_RANGE)
    sides = [_tensor(builder, text, mean, deviation) for text in (
        f"picture to translate, value = (level - {mean:g}) / {deviation:g}",
        f"translated picture, level = {deviation:g} * value + {mean:g}")]
    vectors = [_vector(builder, [side]) for side in sides]
    subgraph = _table(builder, 10, {2: vectors[0], 3: vectors[1]})
    fields = {0: description.name, 1: description.description, 2: description.version, 4: "cut_tf",
              5: description.license, 7: "1.0.1"}
    places = {number: builder.CreateString(text) for number, text in fields.items()}
    places[3] = _vector(builder, [subgraph])
    builder.Finish(_table(builder, 8, places), _IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder: object, text: str, mean: float, deviation: float) -> int:
    """A TensorMetadata: an RGB image, its levels normalised by mean and deviation."""
    label, comment = builder.CreateString("image"), builder.CreateString(text)
    image = _table_of_byte(builder, _RGB)
    content = _union(builder, _IMAGE_PROPERTIES, image)
    options = _table(builder, 2, {number: _floats(builder, [value]) for number, value in
                                  enumerate((mean, deviation))})
    unit = _union(builder, _NORMALIZATION, options)
    stats = _table(builder, 2, {0: _floats(builder, [1.0] * 3), 1: _floats(builder, [(0.0 - mean) / deviation] * 3)})
    return _table(builder, 7, {0: label, 1: comment, 3: content, 4: _vector(builder, [unit]), 5: stats})


def _table(builder: object, size: int, places: dict[int, int]) -> int:
    builder.StartObject(size)
    for number, place in places.items():
        builder.PrependUOffsetTRelativeSlot(number, place, 0)
    return builder.EndObject()


def _table_of_byte(builder: object, value: int) -> int:
    builder.StartObject(2)
    builder.PrependInt8Slot(0, value, 0)
    return builder.EndObject()


def _union(builder: object, kind: int, place: int) -> int:
    """A table whose first two fields are a union: its member's number and the member."""
    builder.StartObject(3)
    builder.PrependUint8Slot(0, kind, 0)
    builder.PrependUOffsetTRelativeSlot(1, place, 0)
    return builder.EndObject()


def _vector(builder: object, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


def _floats(builder: object, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
