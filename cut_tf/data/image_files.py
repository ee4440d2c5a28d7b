"""Image files to RGB bytes and back, with Pillow and numpy alone. Every failure names its file.

What a file may be, and how its picture becomes uint8 [H, W, 3] RGB:

  * EXIF orientation is applied, so height and width are those that a viewer shows.
  * Grey, 1-bit, palette, CMYK, YCCK, YCbCr, HSV and LAB become RGB as Pillow converts them, without ICC profiles.
  * Alpha is dropped: the colour channels stay as stored, they are not composited on any background.
  * 16-bit grey becomes round(value / 257). 16-bit colour is reduced by Pillow, to the high byte of each value.
  * Float grey is taken as 0..1 if no value exceeds 1, else as 0..255.
  * Animations give their first frame.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.common.places import AnyPath, RemotePath

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 200_000_000

# The formats' own classes, since Image.open warns about large pictures before it tells their size, and would try
# formats that have no place here (EPS starts another program).
_OPENERS = (
    (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    (re.compile(rb"P[1-6f]\s"), PpmImagePlugin.PpmImageFile),
)
_JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
_WRITERS = {
    ".bmp": ("BMP", {}), ".jpeg": ("JPEG", _JPEG_OPTIONS), ".jpg": ("JPEG", _JPEG_OPTIONS), ".png": ("PNG", {}),
    ".ppm": ("PPM", {}), ".tif": ("TIFF", {}), ".tiff": ("TIFF", {}), ".webp": ("WEBP", {"lossless": True}),
}
WRITABLE_SUFFIXES = tuple(_WRITERS)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_RULE = "must be a complete JPEG, PNG, BMP, GIF, WebP, TIFF or PPM file"
_SIZE_RULE = f"must have at most {MAX_PIXELS} pixels"
_DEEP_GREY_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_PNG_ORIENTATION_KEYS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_SIGNATURE_BYTES, _PNG_CHUNK_HEAD_BYTES, _PNG_CHECKSUM_BYTES = 8, 8, 4
# The longest start that _OPENERS look at.
_START_BYTES = 16
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 262, 274
_WARNINGS_LOCK = threading.Lock()


def list_images(folder: AnyPath) -> list[AnyPath]:
    """The image files of a folder: by suffix in any case, sorted by name, no hidden files, no subfolders.

    Args:
      folder: the folder to look in, on this machine or behind a URL; its subfolders are not searched.

    Returns:
      One path or more, each `folder / name`.

    Raises:
      InputError: if there is none; the message names the folder, the suffixes looked for and what was found.
    """
    rule = f"must be a folder with images ({', '.join(IMAGE_SUFFIXES)})"
    try:
        names = _remote_files(folder) if isinstance(folder, RemotePath) else _files(folder)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: {rule}, found no such folder") from error
    except NotADirectoryError as error:
        raise InputError(f"{folder}: {rule}, found a file") from error
    except OSError as error:
        raise InputError(f"{folder}: {rule}, found {error.strerror or error}") from error
    images = [name for name in names if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise InputError(f"{folder}: {rule}, found {len(names)} other file{'' if len(names) == 1 else 's'}")
    return [folder / name for name in images]


def _files(folder: Path) -> list[str]:
    """Sorted names of the files of a folder."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.is_dir())


def _remote_files(folder: RemotePath) -> list[str]:
    """The same of a folder behind a URL, where a picture's name is taken for that of a file."""
    if not folder.is_dir():
        raise NotADirectoryError if folder.exists() else FileNotFoundError
    return [name for name in places.names_in(str(folder)) if not name.endswith("/")]


def pictures_at(source: Path) -> list[Path]:
    """The picture itself if `source` is a file, else the pictures of that folder as `list_images` gives them.

    Raises:
      InputError: if there is neither, or the folder has no pictures.
    """
    if source.is_file():
        return [source]
    if not source.exists():
        raise InputError(f"--input must be a picture or a folder of pictures, found no such file or folder: {source}")
    return list_images(source)


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decodes the bytes of an image file; the module's docstring says how each kind becomes RGB. Thread-safe.

    Args:
      data: the whole file.
      where: name for messages, usually the path.

    Returns:
      uint8 [H, W, 3], RGB, contiguous and writable.

    Raises:
      InputError: if the bytes are no image, are damaged or cut short, hold more than MAX_PIXELS pixels, or hold grey
        values outside the range of their type.
    """
    file = io.BytesIO(data)
    image = open_header(file, where)
    try:
        with _size_warning_off(image.width * image.height):
            image.load()
        # Pillow turns TIFF pictures itself while loading, and in version 9.5 still tells their old orientation.
        orientation = 1 if image.format == "TIFF" else _orientation(image, file)
        image.info.pop("transparency", None)  # convert() would look for its nearest palette entry, or warn
        rgb = None if image.mode in _DEEP_GREY_MODES else np.array(image.convert("RGB"))
    except Exception as error:  # on damaged files Pillow raises far more types than it documents
        raise _unreadable(where, error) from error
    if rgb is None:
        rgb = np.repeat(_grey_levels(image, where)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(_turned(rgb, orientation))


def image_size(data: bytes, where: str) -> tuple[int, int]:
    """Width and height in pixels that `decode_image` would give, from the header (EXIF orientation applied).

    Raises:
      InputError: if there is no image header, or if it tells more than MAX_PIXELS pixels.
    """
    return size_of(io.BytesIO(data), where)


def read_size(path: AnyPath) -> tuple[int, int]:
    """`image_size` of a file, of which as little is read as its format allows. Nothing is decoded.

    Raises:
      InputError: naming the file, if it cannot be opened or for the reasons of `image_size`.
    """
    if isinstance(path, RemotePath):
        with places.named(str(path), "must be a readable image file"), places.opened(str(path)) as file:
            return size_of(file, str(path))
    try:
        with open(path, "rb") as file:
            return size_of(file, str(path))
    except OSError as error:
        raise _unreadable_file(path, error) from error


def read_sizes(paths: Sequence[AnyPath]) -> list[tuple[int, int]]:
    """`read_size` of each file, several at a time. Raises InputError for the first of them that is no picture."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_size, paths))


def is_upright(data: bytes, where: str) -> bool:
    """Whether viewers show the pixels as they are stored. Raises InputError if there is no image header."""
    file = io.BytesIO(data)
    return _orientation(open_header(file, where), file) == 1


def read_bytes(path: AnyPath) -> bytes:
    """The bytes of a file. Raises InputError naming the file if it is missing, a folder or not readable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable_file(path, error) from error


def read_image(path: AnyPath) -> np.ndarray:
    """Reads an image file: uint8 [H, W, 3], RGB.

    Raises:
      InputError: naming the file, if it is missing, a folder, not readable, or for the reasons of `decode_image`.
    """
    return decode_image(read_bytes(path), str(path))


def encode_image(image: np.ndarray, name: str, profile: bytes = b"") -> bytes:
    """The bytes of a picture's file.

    Args:
      image: uint8 [H, W, 3], RGB.
      name: of the file. Its suffix, one of WRITABLE_SUFFIXES, says the format. All are lossless but JPEG, which is
        written with quality 95 and full colour resolution.
      profile: ICC profile of its values, for formats that have a place for one (not BMP and PPM).

    Raises:
      ValueError: if `image` has another type or shape, or `name` another suffix.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in _WRITERS:
        raise ValueError(f"{name}: suffix must be one of {', '.join(WRITABLE_SUFFIXES)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"{name}: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    encoded = io.BytesIO()
    format_name, options = _WRITERS[suffix]
    Image.fromarray(np.ascontiguousarray(image)).save(encoded, format_name, icc_profile=profile or None, **options)
    return encoded.getvalue()


def as_png(image: np.ndarray) -> bytes:
    """`encode_image` as a PNG."""
    return encode_image(image, "picture.png")


def write_image(path: Path, image: np.ndarray, profile: bytes = b"") -> None:
    """Writes a picture so that `path` holds, at any moment, either what it held before or the whole new picture.

    Args:
      path: file to write; its folder must exist. Its suffix says the format, as `encode_image` tells.
      image: uint8 [H, W, 3], RGB.
      profile: as of `encode_image`.

    Raises:
      InputError: naming the file and the reason, if it cannot be written (no permission, disk full, no such folder).
      ValueError: as `encode_image`.
    """
    replace_file(path, encode_image(image, str(path), profile))


def write_png(path: Path, image: np.ndarray) -> None:
    """`write_image` for a path that ends in .png."""
    write_image(path, image)


def open_header(file: BinaryIO, where: str, rule: str = _RULE) -> ImageFile.ImageFile:
    """A picture with its header read and its number of pixels checked, not yet decoded.

    Args:
      file: of one of FORMATS; it stays open, and is read on when the picture is loaded.
      where: name for messages, usually the path.
      rule: what the file must be, for messages.

    Raises:
      InputError: if there is no image header, or if it tells more than MAX_PIXELS pixels.
    """
    start = file.read(_START_BYTES)
    opener = next((opener for pattern, opener in _OPENERS if pattern.match(start)), None)
    if opener is None:
        size = file.seek(0, os.SEEK_END)
        raise _unreadable(where, f"{size} bytes starting with {start[:8]!r}" if start else "an empty file", rule)
    file.seek(0)
    # A GIF's frame may exceed the canvas of its header; Pillow warns about that while it opens the file.
    expected_pixels = MAX_PIXELS if opener is GifImagePlugin.GifImageFile else 0
    try:
        with _size_warning_off(expected_pixels):
            image = opener(file)
    except Exception as error:  # see decode_image
        raise _unreadable(where, error, rule) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{where}: {_SIZE_RULE}, found {image.width}x{image.height}")
    return image


def size_of(file: BinaryIO, where: str) -> tuple[int, int]:
    """`image_size` of a file that is open at its start, of which as little is read as its format allows."""
    image = open_header(file, where)
    try:
        width, height = image.size
        if image.format == "TIFF":  # image.size is turned or not, depending on the version of Pillow
            width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
        return (height, width) if _orientation(image, file) >= 5 else (width, height)
    except Exception as error:  # see decode_image
        raise _unreadable(where, error) from error


def _unreadable(where: str, finding: object, rule: str = _RULE) -> InputError:
    if isinstance(finding, Image.DecompressionBombError):  # some formats are measured by Pillow before they are here
        return InputError(f"{where}: {_SIZE_RULE}, found {finding}")
    kind = f"{type(finding).__name__}: " if isinstance(finding, Exception) else ""
    return InputError(f"{where}: {rule}, found {kind}{finding}")


def _unreadable_file(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: must be a readable image file, found: {error.strerror or error}")


@contextlib.contextmanager
def _size_warning_off(pixels: int) -> Iterator[None]:
    """Mutes Pillow's DecompressionBombWarning for a picture of so many pixels: MAX_PIXELS is the limit here.

    Warning filters belong to the whole process, so they are touched only where that warning can occur, one thread at
    a time.
    """
    if pixels <= (Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
        yield
        return
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _orientation(image: ImageFile.ImageFile, file: BinaryIO) -> int:
    """EXIF orientation, 1..8; 1 (as stored) if there is none."""
    if image.format == "PNG" and not _png_may_be_turned(file):
        return 1  # getexif() would decode the whole picture to look behind its pixels
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF around a sound picture is common, and viewers ignore it too
        return 1
    return orientation if orientation in range(1, 9) else 1


def _png_may_be_turned(file: BinaryIO) -> bool:
    """Whether a PNG file has a chunk that may tell an orientation. Reads the heads of its chunks; keeps its place."""
    place = file.tell()
    try:
        file.seek(_PNG_SIGNATURE_BYTES)
        while len(head := file.read(_PNG_CHUNK_HEAD_BYTES)) == _PNG_CHUNK_HEAD_BYTES:
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            text = file.read(min(length, max(map(len, _PNG_ORIENTATION_KEYS)))) if name in _PNG_TEXTS else b""
            if name == _PNG_ORIENTATION_KEYS[0] or text.startswith(_PNG_ORIENTATION_KEYS[1:]):
                return True
            file.seek(length - len(text) + _PNG_CHECKSUM_BYTES, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, 3] as stored to upright; orientations 5 to 8 swap height and width."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels


def _grey_levels(image: ImageFile.ImageFile, where: str) -> np.ndarray:
    """Grey picture of 12 or 16 bits (also in 32-bit integers) or of floats, loaded, to uint8 [H, W]."""
    grey = np.asarray(image).astype(np.float32)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if image.mode == "F":
        top = 1 if grey.max() <= 1 else 255
        rule = "float grey values must lie in 0..1 or in 0..255"
    else:
        top = 4095 if tags.get(_TIFF_BITS) == (12,) else 65535
        rule = f"grey values must lie in 0..{top}"
    if not (grey.min() >= 0 and grey.max() <= top):  # so written, NaN fails too
        raise InputError(f"{where}: {rule}, found {grey.min():g}..{grey.max():g}")
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # zero is white; Pillow inverts such pictures of up to 8 bits only
        grey = top - grey
    return np.rint(grey * (255.0 / top)).astype(np.uint8)
