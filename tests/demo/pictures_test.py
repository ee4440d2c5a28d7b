"""Users' pictures: limits before anything is decoded, shrinking, sentences."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.demo import pictures
from cut_tf.demo.pictures import SHRINKS, Limits, read_picture, sentence
from cut_tf.export.options import DEFAULT_PIXEL_LIMIT

LIMITS = Limits(pixels=1200, file_bytes=40_000)


def _save(path: Path, width: int, height: int, **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, [height, width, 3], np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def _bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header tells a large size."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


def test_limits_are_those_of_serving():
    assert Limits().pixels == DEFAULT_PIXEL_LIMIT == 1_048_576


def test_a_picture_within_the_limits_is_read_as_it_is(tmp_path):
    path = _save(tmp_path / "a.png", 40, 30)
    picture, stored_px = read_picture(path, LIMITS)
    np.testing.assert_array_equal(picture, np.asarray(Image.open(path)))
    assert stored_px == (40, 30)


def test_one_pixel_row_more_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match=f"^a.png: must have at most 1200 pixels, found 40x31; tick '{SHRINKS}'$"):
        read_picture(_save(tmp_path / "a.png", 40, 31), LIMITS)


def test_a_picture_too_large_is_made_smaller_on_request(tmp_path):
    picture, stored_px = read_picture(_save(tmp_path / "a.png", 100, 50), LIMITS, shrinks=True)
    assert picture.shape == (24, 48, 3)  # sqrt(1200 / 5000) = 0.4899
    assert stored_px == (100, 50)


def test_a_picture_turned_by_exif_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, stored_px = read_picture(_save(tmp_path / "a.jpg", 40, 20, exif=exif), LIMITS)
    assert picture.shape == (40, 20, 3) and stored_px == (20, 40)


@pytest.mark.parametrize("shrinks", [False, True])
def test_a_bomb_is_refused_without_being_decoded(tmp_path, monkeypatch, shrinks):
    def decode(*arguments: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures, "decode_image", decode)
    with pytest.raises(InputError, match="must have at most (1200|50000000) pixels, found 10000x8000$"):
        read_picture(_bomb(tmp_path / "a.png", 10_000, 8_000), LIMITS, shrinks)


def test_a_file_too_large_is_refused_without_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "read_bytes", lambda path: pytest.fail("read"))
    path = tmp_path / "a.png"
    path.write_bytes(b"\0" * 40_001)
    with pytest.raises(InputError, match="^a.png: must have at most 40000 bytes, found 40001$"):
        read_picture(path, LIMITS)


@pytest.mark.parametrize(("content", "found"), [(b"", "an empty file"), (b"Dear diary", "10 bytes starting with")])
def test_what_is_no_picture_is_refused_by_its_own_name(tmp_path, content, found):
    path = tmp_path / "letter.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^letter.png: must be a complete JPEG.*found {found}"):
        read_picture(path, LIMITS)


def test_a_picture_too_narrow_is_refused_also_if_shrinking_made_it_so(tmp_path):
    with pytest.raises(InputError, match="a.png: sides must be at least 16 px, found 15x20"):
        read_picture(_save(tmp_path / "a.png", 15, 20), LIMITS)
    with pytest.raises(InputError, match="b.png: sides must be at least 16 px"):
        read_picture(_save(tmp_path / "b.png", 500, 16), LIMITS, shrinks=True)


def test_sentences(caplog):
    assert sentence("a.png", InputError("a.png: is blue")) == "a.png: is blue"
    assert "too large for the memory" in sentence("a.png", MemoryError())
    text = sentence("a.png", ZeroDivisionError("inner matters"))
    assert text == "a.png: cannot be translated; the log of the demo tells the reason (ZeroDivisionError)"
    assert "inner matters" in caplog.text
