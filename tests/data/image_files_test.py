"""Every kind of image file that people have, and every way it can be broken."""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cut_tf.common import files
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import decode_image, image_size, list_images, pictures_at, read_image, write_png

_LEVELS_16 = np.array([[0, 128, 129, 257], [32767, 32768, 65406, 65535]], np.uint16)
_LEVELS_8 = np.array([[0, 0, 1, 1], [127, 128, 254, 255]], np.uint8)  # value / 257: 0.498, 0.502; 127.498, 127.502


def _picture(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file from its header values and its rows, each with its leading filter byte."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _tiff(width: int, height: int, bits: int, photometric: int, pixels: bytes) -> bytes:
    """A little-endian, uncompressed grey TIFF file of one strip."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1),
            (278, height), (279, len(pixels))]
    pixels += b"\0" * (len(pixels) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def _grey(levels) -> np.ndarray:
    return np.repeat(np.asarray(levels, np.uint8)[:, :, None], 3, axis=2)


def _assert_decodes(data: bytes, expected: np.ndarray, tolerance: int = 0) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = decode_image(data, "file")
        assert image_size(data, "file") == (expected.shape[1], expected.shape[0])
    assert result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_rgb_is_lossless(kind):
    _assert_decodes(_encoded(Image.fromarray(_picture()), kind, **({"lossless": True} if kind == "WEBP" else {})),
                    _picture())


def test_one_pixel():
    _assert_decodes(_encoded(Image.new("RGB", (1, 1), (3, 200, 7)), "PNG"), np.array([[[3, 200, 7]]]))


def test_rgb_jpeg_keeps_channel_order():
    image = np.empty((16, 24, 3), np.uint8)
    image[:] = (200, 100, 30)
    _assert_decodes(_encoded(Image.fromarray(image), "JPEG", quality=95), image, tolerance=3)


def test_grey_and_one_bit():
    levels = _picture()[:, :, 0]
    _assert_decodes(_encoded(Image.fromarray(levels), "PNG"), _grey(levels))
    bits = levels > 127
    _assert_decodes(_encoded(Image.fromarray(bits), "PNG"), _grey(bits * 255))
    _assert_decodes(_encoded(Image.fromarray(bits), "TIFF"), _grey(bits * 255))


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_and_without_transparency(kind, transparency):
    if kind == "GIF" and isinstance(transparency, bytes):
        transparency = 2
    index = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
    image = Image.frombytes("P", (3, 2), index.tobytes())
    colours = [[10, 20, 30], [200, 100, 0], [5, 255, 90]]
    image.putpalette(sum(colours, []))
    options = {} if transparency is None else {"transparency": transparency}
    _assert_decodes(_encoded(image, kind, **options), np.array(colours)[index])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_dropped_and_colours_stay(kind):
    alpha = _picture(5, 7)[:, :, :1] // 2
    alpha[0] = 0
    rgba = np.concatenate([_picture(), alpha], axis=2)
    _assert_decodes(_encoded(Image.fromarray(rgba), kind), _picture())
    grey_alpha = Image.fromarray(rgba[:, :, [0, 3]])
    assert grey_alpha.mode == "LA"
    _assert_decodes(_encoded(grey_alpha, kind), _grey(rgba[:, :, 0]))


def test_colour_key_transparency_leaves_colours():
    _assert_decodes(_encoded(Image.fromarray(_picture()), "PNG", transparency=tuple(_picture()[0, 0].tolist())),
                    _picture())
    _assert_decodes(_encoded(Image.fromarray(_picture()[:, :, 0]), "PNG", transparency=7), _grey(_picture()[:, :, 0]))


def test_cmyk_jpeg_with_adobe_inversion():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[:, :, 0] = 255
    data = _encoded(ink, "JPEG", quality=95)
    assert b"Adobe" in data
    _assert_decodes(data, expected, tolerance=3)
    _assert_decodes(_encoded(ink, "TIFF"), expected)


def test_lab_and_ycbcr_tiff():
    _assert_decodes(_encoded(Image.new("LAB", (4, 3), (255, 128, 128)), "TIFF"), np.full((3, 4, 3), 255), tolerance=2)
    grey = _encoded(Image.new("YCbCr", (4, 3), (90, 128, 128)), "TIFF", compression="tiff_lzw")
    _assert_decodes(grey, np.full((3, 4, 3), 90), tolerance=1)


@pytest.mark.parametrize("mode, order, compression", [
    ("I;16", "<", None), ("I;16B", ">", None), ("I;16", "<", "tiff_lzw"), ("I;16", "<", "tiff_deflate"),
])
def test_16_bit_grey_tiff(mode, order, compression):
    image = Image.frombytes(mode, (4, 2), _LEVELS_16.astype(f"{order}u2").tobytes())
    _assert_decodes(_encoded(image, "TIFF", compression=compression), _grey(_LEVELS_8))


def test_16_bit_grey_png_and_pgm():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in _LEVELS_16)
    _assert_decodes(_png(4, 2, 16, 0, rows), _grey(_LEVELS_8))
    _assert_decodes(b"P5\n4 2\n65535\n" + _LEVELS_16.astype(">u2").tobytes(), _grey(_LEVELS_8))


def test_16_bit_colour_png_keeps_the_high_byte():
    rgb = np.array([[[0, 255, 256], [32767, 32768, 65535]]], ">u2")
    assert rgb.dtype.byteorder == ">"
    _assert_decodes(_png(2, 1, 16, 2, b"\0" + rgb.tobytes()), np.array([[[0, 0, 1], [127, 128, 255]]]))
    grey_alpha = np.array([[[0x1234, 0], [0xFF00, 0xFFFF]]], ">u2")
    _assert_decodes(_png(2, 1, 16, 4, b"\0" + grey_alpha.tobytes()), _grey([[0x12, 0xFF]]))


def test_32_bit_integer_grey_is_taken_as_16_bit():
    _assert_decodes(_encoded(Image.fromarray(_LEVELS_16.astype(np.int32)), "TIFF"), _grey(_LEVELS_8))
    with pytest.raises(InputError, match=r"file: grey values must lie in 0..65535, found -3..70000"):
        decode_image(_encoded(Image.fromarray(np.array([[-3, 70000]], np.int32)), "TIFF"), "file")


def test_float_grey():
    _assert_decodes(_encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"), _grey([[0, 128, 255]]))
    _assert_decodes(_encoded(Image.fromarray(np.array([[0, 99.6, 254]], np.float32)), "TIFF"), _grey([[0, 100, 254]]))
    for bad in ([-0.1, 1.0], [0.0, 256.0], [np.nan, 1.0], [0.0, np.inf]):
        with pytest.raises(InputError, match="file: float grey values must lie in 0..1 or in 0..255, found"):
            decode_image(_encoded(Image.fromarray(np.array([bad], np.float32)), "TIFF"), "file")


def test_12_bit_grey_and_white_as_zero_tiff():
    _assert_decodes(_tiff(2, 1, 12, 1, bytes([0xFF, 0xF0, 0x10])), _grey([[255, 1]]))  # 4095 and 16, packed
    _assert_decodes(_tiff(2, 1, 16, 0, struct.pack("<2H", 0, 65535)), _grey([[255, 0]]))
    _assert_decodes(_tiff(2, 1, 16, 1, struct.pack("<2H", 0, 65535)), _grey([[0, 255]]))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = _encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    expected = np.zeros((6, 8, 3), np.uint8)
    expected[:, :, 0] = 255
    _assert_decodes(data, expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    # Four flat quarters on 16x32 px, so that JPEG keeps them; EXIF tells where row 0 and column 0 of the stored
    # picture belong in the shown one.
    shown = np.repeat(np.repeat(_grey([[10, 80], [160, 240]]), 16, axis=0), 8, axis=1)
    stored = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.swapaxes(0, 1),
        6: np.rot90(shown), 7: shown[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    data = _encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    _assert_decodes(data, shown, tolerance=2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage that is no TIFF header", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_damaged_exif_does_not_spoil_the_picture(exif):
    data = _encoded(Image.fromarray(np.full((8, 8, 3), 77, np.uint8)), "JPEG", exif=exif)
    assert np.abs(decode_image(data, "file").astype(int) - 77).max() <= 2
    assert image_size(data, "file") == (8, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_files(kind, part):
    data = _encoded(Image.fromarray(_picture(40, 50)), kind)
    with pytest.raises(InputError, match=r"dir/x\.bin: must be a complete JPEG.*found \S"):
        decode_image(data[: int(len(data) * part)], "dir/x.bin")


def test_corrupt_and_foreign_bytes():
    png = _encoded(Image.fromarray(_picture(40, 50)), "PNG")
    with pytest.raises(InputError, match="x: must be a complete"):
        decode_image(png[:200] + bytes(60) + png[260:], "x")
    with pytest.raises(InputError, match=r"x: .*found 14 bytes starting with b'just som'"):
        decode_image(b"just some text", "x")
    with pytest.raises(InputError, match="x: .*found an empty file"):
        decode_image(b"", "x")
    with pytest.raises(InputError, match="x: .*found OSError: Truncated"):
        image_size(png[:20], "x")


def test_decompression_bombs_are_refused_from_the_header():
    bomb = _png(60000, 60000, 8, 2, b"")
    for function in (decode_image, image_size):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match="x: must have at most 200000000 pixels, found 60000x60000"):
                function(bomb, "x")


def _gif_with_frame(width: int, height: int) -> bytes:
    """A GIF file whose header tells 1x1 px and whose frame claims another size."""
    data = _encoded(Image.new("RGB", (1, 1)), "GIF")
    frame = data.index(b",", 6 + 7 + 3 * 2)  # behind header and palette
    return data[: frame + 5] + struct.pack("<HH", width, height) + data[frame + 9:]


def test_bombs_found_by_pillow_itself_are_told_in_the_same_words():
    with pytest.raises(InputError, match="x: must have at most 200000000 pixels, found Image size"):
        decode_image(_gif_with_frame(60000, 60000), "x")


def test_large_pictures_below_the_limit_cause_no_warning():
    tiff = _tiff(12000, 12000, 8, 1, b"")
    files = [_png(12000, 12000, 1, 0, b""), _gif_with_frame(12000, 12000), tiff]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [image_size(data, "x") for data in files] == [(12000, 12000)] * 3
        with pytest.raises(InputError, match="x: must be a complete.*OSError"):  # not a warning turned error
            decode_image(tiff, "x")


def test_reading_from_several_threads():
    kinds = ["PNG", "BMP", "TIFF", "PPM", "GIF"]
    pictures = [_picture(20 + number, 30) for number in range(20)]
    grey = [picture[:, :, 0] for picture in pictures]
    files = [_encoded(Image.fromarray(levels), kinds[number % 5]) for number, levels in enumerate(grey)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda data: decode_image(data, "x"), files * 5))
    for result, levels in zip(results, grey * 5):
        np.testing.assert_array_equal(result, _grey(levels))


def test_read_image_names_files_that_cannot_be_read(tmp_path):
    folder = tmp_path / "x.png"
    folder.mkdir()
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for path, finding in ((folder, "Is a directory"), (tmp_path / "none.png", "No such file"), (text, "b'no pictu'")):
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: must be a") and finding in str(caught.value)


def test_a_picture_or_a_folder_of_them(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, np.zeros((4, 4, 3), np.uint8))
    assert pictures_at(path) == pictures_at(tmp_path) == [path]
    with pytest.raises(InputError, match="--input must be a picture or a folder of pictures, found no such file or "
                                         "folder: .*none$"):
        pictures_at(tmp_path / "none")


def test_list_images(tmp_path):
    for name in ("b.JPG", "a.png", "c.TiFf", "B.webp", ".hidden.png", "notes.txt", "png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "inner.png").write_bytes(b"")
    assert list_images(tmp_path) == [tmp_path / name for name in ("B.webp", "a.png", "b.JPG", "c.TiFf")]


def test_list_images_says_what_it_found(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: .*\\.jpeg, .*found 0 other files"):
        list_images(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="found 1 other file$"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="none: .*found no such folder"):
        list_images(tmp_path / "none")
    with pytest.raises(InputError, match="a.txt: .*found a file"):
        list_images(tmp_path / "a.txt")


def test_write_png_round_trip_replaces_the_old_file(tmp_path):
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    write_png(path, _picture())
    np.testing.assert_array_equal(read_image(path), _picture())
    write_png(path, _picture(9, 4)[:, ::-1])  # not contiguous
    np.testing.assert_array_equal(read_image(path), _picture(9, 4)[:, ::-1])
    assert os.listdir(tmp_path) == ["out.png"]


def test_write_png_refuses_other_arrays(tmp_path):
    for image in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            write_png(tmp_path / "out.png", image)
    assert not os.listdir(tmp_path)


def test_write_png_names_the_file_and_the_reason(tmp_path, monkeypatch):
    (tmp_path / "taken.png").mkdir()
    (tmp_path / "file").write_text("")
    for name, reason in (("taken.png", "directory"), ("none/out.png", "No such file"), ("file/out.png", "directory")):
        with pytest.raises(InputError) as caught:
            write_png(tmp_path / name, _picture())
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and reason in str(caught.value)

    def disk_full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out.png").write_bytes(b"old")
    monkeypatch.setattr(files.os, "replace", disk_full)
    with pytest.raises(InputError, match="out.png: .*No space left"):
        write_png(tmp_path / "out.png", _picture())
    assert (tmp_path / "out.png").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "out.png", "taken.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_write_png_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open", lambda path, mode: open("/dev/full", "wb"), raising=False)  # noqa: SIM115
    with pytest.raises(InputError, match="out.png: .*No space left"):
        write_png(tmp_path / "out.png", _picture())
    assert not os.listdir(tmp_path)


def test_write_png_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(InputError, match="out.png: .*Permission denied"):
            write_png(tmp_path / "out.png", _picture())
    finally:
        tmp_path.chmod(0o700)
