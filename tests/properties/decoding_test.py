"""Whatever the bytes of a file are, they become a picture or an InputError that names the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import decode_image, image_size, read_image, write_image
from tests.properties.pictures import damaged, encoded, small_pictures

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


@given(damaged(FORMATS))
def test_any_bytes_are_a_picture_or_are_named(data):
    try:
        picture = decode_image(data, "the file")
    except InputError as error:
        assert str(error).startswith("the file: ")
        return
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert image_size(data, "the file") == (picture.shape[1], picture.shape[0])


@given(encoded(FORMATS))
def test_whole_files_are_pictures_of_the_size_that_pillow_tells(data):
    with Image.open(io.BytesIO(data)) as image:
        expected = image.size
    picture = decode_image(data, "the file")
    assert image_size(data, "the file") == expected == (picture.shape[1], picture.shape[0])


@given(picture=small_pictures, suffix=st.sampled_from((".png", ".bmp", ".tif")))
def test_lossless_files_give_every_level_back(picture, suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    write_image(path, picture)
    np.testing.assert_array_equal(read_image(path), picture)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), picture)


def test_the_strategies_damage_files():
    with pytest.raises(InputError, match="^x: "):
        decode_image(b"\x89PNG", "x")
