"""The serving graph on encoded pictures: every format, every trouble, and two thousand damaged files."""

from __future__ import annotations

import io
import resource
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.export.saved_model.encoded_images import translate_encoded

LIMIT = 64 * 64


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _inverted(encoded):
    """Translates by inverting, so that pixels can be checked without a network."""
    return translate_encoded(encoded, lambda pixels: 255 - pixels, LIMIT)


def _picture(height: int = 24, width: int = 33, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decoded(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG" and image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_keep_every_pixel(kind):
    image = _picture()
    found, = _inverted([_encoded(image, kind)]).numpy()
    np.testing.assert_array_equal(_decoded(found), 255 - np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_other_png_modes_become_rgb(mode):
    if mode == "I;16":
        levels = np.linspace(0, 65535, 24 * 33).reshape(24, 33).astype(np.uint16)
        image, expected = Image.fromarray(levels), np.repeat((levels / 257.0)[:, :, None], 3, 2)
    else:
        image = _picture().convert(mode)
        expected = np.asarray(image.convert("RGBA").convert("RGB") if mode == "RGBA" else image.convert("RGB"))
    found, = _inverted([_encoded(image, "PNG")]).numpy()
    assert np.abs(255 - _decoded(found).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(mode, options):
    smooth = Image.fromarray(np.fromfunction(lambda y, x, c: 5 * y + 3 * x + 20 * c, (24, 33, 3)).astype(np.uint8))
    data = _encoded(smooth.convert(mode), "JPEG", quality=95, **options)
    found, = _inverted([data]).numpy()
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(255 - _decoded(found).astype(int) - expected).mean() < 3


def test_first_frame_of_a_gif():
    frames = [_picture(seed=seed).quantize(16) for seed in (1, 2)]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    found, = _inverted([data]).numpy()
    assert np.abs(255 - _decoded(found).astype(int) - np.asarray(frames[0].convert("RGB"))).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_a_bmp_of_levels_keeps_them(mode):
    image = _picture().convert(mode)
    found, = _inverted([_encoded(image, "BMP")]).numpy()
    np.testing.assert_array_equal(_decoded(found), 255 - np.asarray(image.convert("RGB")))


def test_a_bmp_whose_masks_are_bytes_keeps_its_levels():
    found, = _inverted([_bmp_with_masks(0xFF0000, 0xFF00, 0xFF)]).numpy()
    np.testing.assert_array_equal(_decoded(found), 255 - np.asarray(_picture()))


def _bmp_with_masks(red: int, green: int, blue: int) -> bytes:
    """A BMP of 32 bits a pixel, whose header says where the levels of each colour are."""
    pixels = np.asarray(_picture().convert("RGBA"))[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 33, 24, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    start = 14 + 40 + 12
    return (b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header
            + struct.pack("<III", red, green, blue) + pixels)


def test_sizes_may_differ_and_the_batch_may_be_empty():
    images = [_picture(16, 40), _picture(40, 16), _picture(16, 16)]
    found = _inverted([_encoded(image, "PNG") for image in images]).numpy()
    assert [_decoded(png).shape[:2] for png in found] == [(16, 40), (40, 16), (16, 16)]
    assert _inverted(tf.zeros([0], tf.string)).shape == [0]


def _bomb(side: int) -> bytes:
    """A PNG that declares side x side pixels and holds hardly any."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 3_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


GOOD = _encoded(_picture(), "PNG")


@pytest.mark.parametrize("bad, reason", [
    (b"", "must be a JPEG, PNG, GIF or BMP picture, found other 0 bytes"),
    (b"hello, this is no picture", "must be a JPEG, PNG, GIF or BMP picture, found other 25 bytes"),
    (b"\x89PNG\r\n\x1a\n", "must be a whole picture, found no end of it in 8 bytes"),
    (GOOD[:-20], f"must be a whole picture, found no end of it in {len(GOOD) - 20} bytes"),
    (_encoded(_picture(), "JPEG")[:-30], "must be a whole picture, found no end of it in "),
    (_encoded(_picture(1, 1), "PNG"), "sides must be at least 16 px, found 1x1"),
    (_encoded(_picture(15, 300), "BMP"), "sides must be at least 16 px, found 300x15"),
    (_encoded(_picture(65, 64), "JPEG"), "must have at most 4096 pixels, found 64x65"),
    (_encoded(_picture(65, 64).quantize(8), "GIF"), "must have at most 4096 pixels, found 64x65"),
    (_encoded(_picture(65, 64), "BMP"), "must have at most 4096 pixels, found 64x65"),
    (_encoded(_picture().quantize(200), "BMP"), "a BMP must have .* found 8 bits, packing 0"),
    (_encoded(_picture().convert("1"), "BMP"), "a BMP must have .* found 1 bits, packing 0"),
    (_bmp_with_masks(0xFF000000, 0xFF0000, 0xFF00), "a BMP must have .* found 32 bits, packing 3"),
    (b"BM" + bytes(5), "a BMP must have .* found 0 bits, packing 0"),
    (_bomb(20_000), "must have at most 4096 pixels, found 20000x20000"),
    (_bomb(2**31 - 1), "must have at most 4096 pixels, found 2147483647x2147483647"),
    (b"GIF89a" + b"\x20\x00\x20\x00" + b"\0" * 300_000, "a GIF must have at most 262144 bytes, found 300010 bytes"),
], ids=["empty", "text", "signature", "cut-png", "cut-jpeg", "1x1", "thin", "jpeg", "gif", "bmp",
        "bmp-palette", "bmp-1-bit", "bmp-masks", "bmp-cut", "bomb", "huge", "gif-bytes"])
def test_trouble_names_element_and_reason_before_decoding(bad, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"element 1: {reason}"):
        _inverted([GOOD, bad, GOOD])
    assert _inverted([GOOD]).shape == [1]  # and the next call is answered


@pytest.mark.slow
def test_two_thousand_damaged_pictures_neither_crash_nor_fill_the_memory():
    rng = np.random.default_rng(0)
    originals = [GOOD, _encoded(_picture(), "JPEG"), _encoded(_picture(), "BMP"),
                 _encoded(_picture().quantize(16), "GIF"), _encoded(_picture(), "JPEG", progressive=True)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answered = refused = 0
    for number in range(2_000):
        data = bytearray(originals[number % len(originals)])
        if number % 3 == 0:
            data = data[:rng.integers(0, len(data))]
        for _ in range(rng.integers(1, 8)):
            if data:
                data[rng.integers(0, min(len(data), 60 if number % 2 else len(data)))] = rng.integers(0, 256)
        try:
            found, = _inverted([bytes(data)]).numpy()
            assert np.prod(_decoded(found).shape[:2]) <= LIMIT
            answered += 1
        except tf.errors.InvalidArgumentError:
            refused += 1
    assert answered + refused == 2_000 and answered > 100 and refused > 500
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 300, f"memory grew by {grown_mib:.0f} MiB"
    np.testing.assert_array_equal(_decoded(_inverted([GOOD]).numpy()[0]), 255 - np.asarray(_picture()))
