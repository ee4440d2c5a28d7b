"""Whatever is sent to the serving graph, it answers with a picture or with an error of that request."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from hypothesis import event, given
from PIL import Image

from cut_tf.export.saved_model.encoded_images import decode_within
from tests.properties.pictures import damaged, encoded

_LIMIT = 400
_FORMATS = ("JPEG", "PNG", "BMP", "GIF")


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _decode(data):
    return decode_within(data, tf.constant(7), _LIMIT)


@given(damaged((*_FORMATS, "TIFF")))
def test_any_bytes_are_a_picture_within_the_limit_or_are_refused(data):
    try:
        picture = _decode(tf.constant(data)).numpy()
    except tf.errors.InvalidArgumentError:
        event("refused")
        return
    event("a picture")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.shape[0] * picture.shape[1] <= _LIMIT


@given(encoded(("PNG", "BMP")))
def test_whole_pictures_are_those_of_pillow_and_larger_ones_are_refused_by_their_size(data):
    with Image.open(io.BytesIO(data)) as image:
        (width, height), mode = image.size, image.mode
        expected = np.asarray(image.convert("RGB"))
    try:
        picture = _decode(tf.constant(data)).numpy()
    except tf.errors.InvalidArgumentError as error:
        rule = f"must have at most {_LIMIT} pixels" if width * height > _LIMIT else "sides must be at least 16 px"
        assert width * height > _LIMIT or min(width, height) < 16, error
        assert f"element 7: {rule}, found {width}x{height}" in error.message or min(width, height) < 16
        return
    assert width * height <= _LIMIT and min(width, height) >= 16
    if mode in ("RGB", "L", "1"):
        np.testing.assert_array_equal(picture, expected)
