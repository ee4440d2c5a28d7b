"""Encoded pictures in and out of a serving graph: sizes read from headers before anything is decoded.

A few kilobytes of PNG can hold gigabytes of pixels, so a server must refuse them before decoding. A graph cannot catch
errors: one bad picture fails its batch, with a message that names the element and the reason. The server keeps running.
"""

from __future__ import annotations

import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.strength import blend_tensors

# Limit for GIFs, since all frames are decoded to take the first one.
_MOST_GIF_BYTES = 262_144
_HEADER_BYTES = 34
# TensorFlow takes a BMP's values for levels of red, green and blue, or of grey. So they have to be that: of 8 bits with
# a palette of greys, or of 24 or 32 bits, whose bytes may be described by these masks.
_GREYS = bytes(value for level in range(256) for value in (level, level, level, 0))
_BYTE_MASKS = bytes([0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0])
_BMP_HEADERS_BYTES = 54
_NOT_PACKED, _MASKS = 0, 3
# The end of a picture is searched in these last bytes, since some programs write data behind it.
_TAIL_BYTES = 1024


def decode_within(encoded: tf.Tensor, element: tf.Tensor, pixel_limit: int) -> tf.Tensor:
    """JPEG, PNG, BMP or the first frame of a GIF to pixels.

    Grey becomes RGB, palettes of PNG and GIF are applied, alpha is dropped, 16 bits of a PNG become 8. Transparent
    pixels of a GIF become black. EXIF orientation is not applied.

    Args:
      encoded: string scalar.
      element: int32 scalar, its place in the batch, for messages.
      pixel_limit: greatest height times width.

    Returns:
      uint8 [H, W, 3]. As a graph it raises InvalidArgumentError, naming the element and the reason, for empty strings,
      other formats, BMPs with colours in a palette or packed, sides below images.MIN_SIDE_PX, more pixels than the
      limit, and damaged data.
    """
    height, width = _declared_size(encoded, element)
    size = tf.strings.join([tf.strings.as_string(width), "x", tf.strings.as_string(height)])
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    limits = [
        _require(tf.minimum(height, width) >= images.MIN_SIDE_PX, element,
                 f"sides must be at least {images.MIN_SIDE_PX} px, found ", size),
        _require(pixels <= pixel_limit, element, f"must have at most {pixel_limit} pixels, found ", size),
    ]
    with tf.control_dependencies(limits):
        decoded = tf.io.decode_image(encoded, channels=3, dtype=tf.uint8, expand_animations=False)
    return tf.ensure_shape(decoded, [None, None, 3])


def _require(holds: tf.Tensor, element: tf.Tensor, rule: str, found: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(holds, [tf.strings.join(["element ", tf.strings.as_string(element), ": ", rule, found])])


def _declared_size(encoded: tf.Tensor, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 height and width that the header of a known format declares; asserts that the format is known."""
    length = tf.strings.length(encoded)
    # Padded, so that reading past a short string gives zeros.
    head = tf.io.decode_raw(tf.strings.join([tf.strings.substr(encoded, 0, tf.minimum(length, _HEADER_BYTES)),
                                             tf.constant(b"\0" * _HEADER_BYTES)]), tf.uint8)[:_HEADER_BYTES]
    head = tf.cast(tf.reshape(head, [_HEADER_BYTES]), tf.int32)

    def starts(signature: bytes) -> tf.Tensor:
        return tf.reduce_all(head[:len(signature)] == tf.constant(list(signature), tf.int32))

    is_png, is_jpeg = starts(b"\x89PNG\r\n\x1a\n"), starts(b"\xff\xd8\xff")
    is_gif = tf.logical_or(starts(b"GIF87a"), starts(b"GIF89a"))
    is_bmp = starts(b"BM")
    known = tf.reduce_any([is_png, is_jpeg, is_gif, is_bmp])
    bits, packing = _number(head[28:30], False), _number(head[30:34], False)
    tail = tf.io.decode_raw(tf.strings.substr(encoded, length - tf.minimum(length, _TAIL_BYTES),
                                              tf.minimum(length, _TAIL_BYTES)), tf.uint8)
    whole = tf.case([(is_jpeg, lambda: _contains(tail, b"\xff\xd9")), (is_png, lambda: _contains(tail, b"IEND"))],
                    default=lambda: tf.constant(True), exclusive=True)
    count = tf.strings.join([tf.strings.as_string(length), " bytes"])
    checks = [
        _require(known, element, "must be a JPEG, PNG, GIF or BMP picture, found other ", count),
        _require(whole, element, "must be a whole picture, found no end of it in ", count),
        _require(tf.logical_or(tf.logical_not(is_gif), length <= _MOST_GIF_BYTES), element,
                 f"a GIF must have at most {_MOST_GIF_BYTES} bytes, found ", count),
        _require(tf.logical_or(tf.logical_not(is_bmp), _has_levels(encoded, bits, packing)), element,
                 "a BMP must have 24 or 32 bits a pixel, or 8 bits of grey, not packed, found ", tf.strings.join(
                     [tf.strings.as_string(bits), " bits, packing ", tf.strings.as_string(packing)])),
    ]
    with tf.control_dependencies(checks):
        return tf.case([
            (is_jpeg, lambda: _jpeg_size(encoded)),
            (is_png, lambda: (_number(head[20:24], True), _number(head[16:20], True))),
            (is_gif, lambda: (_number(head[8:10], False), _number(head[6:8], False))),
        ], default=lambda: (tf.abs(_number(head[22:26], False)), tf.abs(_number(head[18:22], False))), exclusive=True)


def _has_levels(encoded: tf.Tensor, bits: tf.Tensor, packing: tf.Tensor) -> tf.Tensor:
    """Whether a BMP's values are levels, as TensorFlow takes them."""

    def behind_headers(expected: bytes) -> tf.Tensor:
        start = tf.minimum(_BMP_HEADERS_BYTES, tf.strings.length(encoded))
        return tf.equal(tf.strings.substr(encoded, start, len(expected)), tf.constant(expected))

    plain = tf.equal(packing, _NOT_PACKED)
    described = tf.logical_and(tf.equal(packing, _MASKS), behind_headers(_BYTE_MASKS))
    return tf.reduce_any([
        tf.logical_and(tf.equal(bits, 24), plain),
        tf.logical_and(tf.equal(bits, 32), tf.logical_or(plain, described)),
        tf.reduce_all([tf.equal(bits, 8), plain, behind_headers(_GREYS)])])


def _contains(data: tf.Tensor, pattern: bytes) -> tf.Tensor:
    """Whether uint8 [N] holds these bytes in a row."""
    padded = tf.concat([data, tf.zeros([len(pattern)], tf.uint8)], 0)
    found = [padded[place:place + tf.size(data)] == value for place, value in enumerate(pattern)]
    return tf.reduce_any(tf.reduce_all(tf.stack(found), axis=0))


def _jpeg_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.image.extract_jpeg_shape(encoded)
    return shape[0], shape[1]


def _number(digits: tf.Tensor, big_endian: bool) -> tf.Tensor:
    """int32 from bytes. Like the formats' own fields it wraps around: too large sizes become negative or huge."""
    digits = digits if big_endian else tf.reverse(digits, [0])
    value = tf.zeros([], tf.int32)
    for digit in tf.unstack(digits):
        value = tf.bitwise.bitwise_or(tf.bitwise.left_shift(value, 8), digit)
    return value


def translate_encoded(encoded: tf.Tensor, translate: object, pixel_limit: int) -> tf.Tensor:
    """Translates the pictures of a batch one after the other, so that sizes may differ.

    Args:
      encoded: string [B]; B may be 0.
      translate: uint8 [1, H, W, 3] to the same shape.
      pixel_limit: of each picture.

    Returns:
      PNGs, string [B].
    """

    def one(arguments: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        data, element = arguments
        return tf.io.encode_png(translate(decode_within(data, element, pixel_limit)[None])[0])

    places = tf.range(tf.size(encoded))
    return tf.map_fn(one, (encoded, places), fn_output_signature=tf.TensorSpec([], tf.string), parallel_iterations=1)


def blend_encoded(encoded: tf.Tensor, strength: tf.Tensor, translate: object, pixel_limit: int) -> tf.Tensor:
    """Translates as `translate_encoded` does, and keeps a part of each translation.

    Args:
      encoded: string [B]; B may be 0.
      strength: float32 [B], or [1] for all pictures, from 0, the decoded input, to 1, the output.
      translate: uint8 [1, H, W, 3] to the same shape.
      pixel_limit: of each picture.

    Returns:
      PNGs, string [B]. As a graph it raises InvalidArgumentError if there is another number of strengths, or one of
      them is out of range or no number.
    """
    count = tf.size(encoded)
    fits = tf.logical_or(tf.equal(tf.size(strength), 1), tf.equal(tf.size(strength), count))
    found = tf.strings.join([tf.strings.as_string(tf.size(strength)), " for ", tf.strings.as_string(count)])
    rule = tf.debugging.Assert(fits, [tf.strings.join(["strength must have 1 value, or one for each picture, found ",
                                                       found])])
    with tf.control_dependencies([rule]):
        strengths = tf.broadcast_to(strength, [count])

    def one(arguments: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        data, share, element = arguments
        in_range = _require(tf.logical_and(share >= 0.0, share <= 1.0), element, "strength must be from 0, the input, "
                            "to 1, the output, found ", tf.strings.as_string(share, shortest=True))
        with tf.control_dependencies([in_range]):
            source = decode_within(data, element, pixel_limit)
        return tf.io.encode_png(blend_tensors(source, translate(source[None])[0], share))

    return tf.map_fn(one, (encoded, strengths, tf.range(count)), fn_output_signature=tf.TensorSpec([], tf.string),
                     parallel_iterations=1)
