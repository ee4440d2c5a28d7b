"""Which bytes are sent for a file, and where the answer goes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.client.picture_files import Job, encoded_picture, plan_jobs, write_answer
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import read_image


def _picture(height: int = 24, width: int = 33, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_what_the_graph_decodes_is_sent_byte_for_byte(tmp_path, kind):
    data = _encoded(_picture(), kind)
    (tmp_path / "a.bin").write_bytes(data)
    assert encoded_picture(tmp_path / "a.bin") == data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_that_leaves_the_picture_upright_changes_nothing(tmp_path, kind):
    data = _encoded(_picture(), kind, exif=_exif(1))
    (tmp_path / "a.jpg").write_bytes(data)
    assert encoded_picture(tmp_path / "a.jpg") == data


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation, size", [(2, (33, 24)), (3, (33, 24)), (6, (24, 33)), (8, (24, 33))])
def test_turned_pictures_are_sent_upright(tmp_path, kind, orientation, size):
    (tmp_path / "a.jpg").write_bytes(_encoded(_picture(), kind, exif=_exif(orientation)))
    sent = Image.open(io.BytesIO(encoded_picture(tmp_path / "a.jpg")))
    assert sent.format == "PNG" and sent.size == size and not sent.getexif()
    np.testing.assert_array_equal(np.asarray(sent), read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("kind, options", [("WEBP", {"lossless": True}), ("TIFF", {}), ("PPM", {})])
def test_other_formats_become_png(tmp_path, kind, options):
    (tmp_path / "a").write_bytes(_encoded(_picture(), kind, **options))
    sent = Image.open(io.BytesIO(encoded_picture(tmp_path / "a")))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(_picture()))


def test_a_gif_too_large_for_the_graph_is_sent_as_its_first_frame(tmp_path):
    frames = [_picture(300, 300, seed).quantize(256) for seed in range(4)]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert len(data) > 262_144
    (tmp_path / "a.gif").write_bytes(data)
    sent = Image.open(io.BytesIO(encoded_picture(tmp_path / "a.gif")))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(frames[0].convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_bmp_is_sent_with_its_colours(tmp_path, mode):
    image = _picture().quantize(16) if mode == "P" else _picture().convert(mode)
    image.save(tmp_path / "a.bmp")
    sent = Image.open(io.BytesIO(encoded_picture(tmp_path / "a.bmp")))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(image.convert("RGB")))


def test_a_transparent_gif_is_sent_with_its_stored_colours(tmp_path):
    image = _picture().quantize(16)
    image.save(tmp_path / "a.gif", transparency=3)
    sent = Image.open(io.BytesIO(encoded_picture(tmp_path / "a.gif")))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "signature"])
def test_what_is_no_picture_is_not_sent(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match="a.png: must be a complete JPEG, PNG"):
        encoded_picture(tmp_path / "a.png")


def _folder(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        _picture().save(folder / name)
    return folder


def test_results_are_png_files_of_the_same_stem(tmp_path):
    folder = _folder(tmp_path, "b.png", "a.jpg")
    out = tmp_path / "out"
    assert plan_jobs(folder, out, False) == [Job(folder / "a.jpg", out / "a.png"), Job(folder / "b.png", out / "b.png")]
    assert plan_jobs(folder / "a.jpg", out, False) == [Job(folder / "a.jpg", out / "a.png")]
    assert not out.exists()


def test_results_that_are_there_are_kept_unless_asked_for(tmp_path):
    folder, out = _folder(tmp_path, "a.jpg", "b.png"), tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="--output=.* has 1 of the results already, such as .*a.png; .*--overwrite"):
        plan_jobs(folder, out, False)
    assert len(plan_jobs(folder, out, True)) == 2


def test_inputs_are_never_replaced(tmp_path):
    folder = _folder(tmp_path, "a.png")
    with pytest.raises(InputError, match="--output must be another folder than that of --input"):
        plan_jobs(folder, folder, True)


def test_two_pictures_with_one_result_are_refused(tmp_path):
    folder = _folder(tmp_path, "a.png", "a.jpg")
    with pytest.raises(InputError, match="must not hold two pictures of one stem, .*found a.jpg and a.png"):
        plan_jobs(folder, tmp_path / "out", False)


def test_answers_are_written_as_they_came(tmp_path):
    png = _encoded(_picture(), "PNG")
    write_answer(Job(tmp_path / "a.jpg", tmp_path / "a.png"), png, _encoded(_picture(), "JPEG"))
    assert (tmp_path / "a.png").read_bytes() == png and [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_answers_are_blended_with_what_was_sent(tmp_path):
    sent = Image.new("RGB", (20, 16), (100, 200, 0))
    job = Job(tmp_path / "a.bmp", tmp_path / "a.png")
    write_answer(job, _encoded(Image.new("RGB", (20, 16), (200, 100, 255)), "PNG"), _encoded(sent, "BMP"), 0.25)
    assert Image.open(tmp_path / "a.png").getcolors() == [(320, (125, 175, 64))]
    with pytest.raises(InputError, match=r"a.bmp: input and output must be uint8 of one shape .*\[16, 20, 3\] and "
                                         r"uint8 \[16, 10, 3\]"):
        write_answer(job, _encoded(Image.new("RGB", (10, 16)), "PNG"), _encoded(sent, "BMP"), 0.25)


@pytest.mark.parametrize("answer, message", [
    (b"", "must answer with a PNG, found 0 bytes"), (_encoded(_picture(), "JPEG"), "must answer with a PNG, found"),
    (_encoded(_picture(), "PNG")[:200], "answer for .*a.jpg: must be a complete"),
], ids=["empty", "jpeg", "cut"])
def test_answers_that_are_no_png_are_not_written(tmp_path, answer, message):
    with pytest.raises(InputError, match=message):
        write_answer(Job(tmp_path / "a.jpg", tmp_path / "a.png"), answer, _encoded(_picture(), "JPEG"))
    assert list(tmp_path.iterdir()) == []
