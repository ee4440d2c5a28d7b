"""Results say in which colours they are: the ICC profile of the input comes along, in every format that has one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from cut_tf.batch.records import Picture, Sample
from cut_tf.batch.worker import Part, Target, Worker
from cut_tf.client.picture_files import Job, encoded_picture, write_answer
from cut_tf.data.color_profiles import color_profile
from cut_tf.data.image_files import WRITABLE_SUFFIXES, encode_image
from tests import warm_process
from tests.batch import jobs

# Of RGB values. Pillow makes only that of sRGB; another description makes it one of its own.
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"mine")
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)


def _file(picture: Image.Image, format_name: str, profile: bytes) -> bytes:
    data = io.BytesIO()
    picture.save(data, format_name, icc_profile=profile)
    return data.getvalue()


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_written_profiles_are_those_that_other_programs_read(suffix):
    data = encode_image(PICTURE, f"a{suffix}", PROFILE)
    found = Image.open(io.BytesIO(data)).info.get("icc_profile") or b""
    assert found == color_profile(data, "a") == (b"" if suffix in (".bmp", ".ppm") else PROFILE)
    assert "icc_profile" not in Image.open(io.BytesIO(encode_image(PICTURE, f"a{suffix}"))).info
    assert color_profile(encode_image(PICTURE, f"a{suffix}"), "a") == b""


@pytest.mark.parametrize("mode, space", [("L", b"GRAY"), ("CMYK", b"CMYK")])
def test_profiles_of_other_values_than_rgb_are_left_out(mode, space):
    profile = PROFILE[:16] + space + PROFILE[20:]
    picture = Image.fromarray(PICTURE).convert(mode)
    assert color_profile(_file(picture, "JPEG", profile), "a") == b""
    assert color_profile(_file(picture.convert("RGB"), "JPEG", PROFILE), "a") == PROFILE


def test_what_is_no_profile_is_left_out():
    for data in (b"short", PROFILE[:36] + b"none" + PROFILE[40:]):
        assert color_profile(_file(Image.fromarray(PICTURE), "PNG", data), "a") == b""


def test_translate_keeps_it(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, profile in (("phone.jpg", PROFILE), ("plain.png", b"")):
        (tmp_path / "photos" / name).write_bytes(encode_image(PICTURE, name, profile))
    done = warm_process.run(["-m", "cut_tf.translate", "--method=dark_channel_prior", "--input=photos", "--compare",
                             "--output=clear"], tmp_path)
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(tmp_path / "clear").as_posix(): Image.open(path).info.get("icc_profile")
             for path in (tmp_path / "clear").rglob("*.*")}
    assert len(found) == 4 and [found.pop(name) for name in list(found) if "phone" in name] == [PROFILE] * 2
    assert list(found.values()) == [None] * 2


def test_pipelines_keep_it(tmp_path):
    pictures = (Picture("a.png", encode_image(PICTURE, "a.png", PROFILE)),
                Picture("b.png", encode_image(PICTURE, "b.png")))
    part = Part("p-00000", (Sample(pictures),), False)
    report = Worker(jobs.inverted, Target(str(tmp_path), "files"), 2**20).do(part)
    assert report.failures == []
    assert Image.open(tmp_path / "a.png").info["icc_profile"] == PROFILE
    assert "icc_profile" not in Image.open(tmp_path / "b.png").info


def test_the_client_gives_it_to_the_answer(tmp_path):
    answer, job = encode_image(PICTURE[::-1], "answer.png"), Job(tmp_path / "a.webp", tmp_path / "a.png")
    job.source.write_bytes(encode_image(PICTURE, "a.webp", PROFILE))
    sent = encoded_picture(job.source)  # as a PNG
    for strength, expected in ((1.0, PICTURE[::-1]), (0.0, PICTURE)):
        write_answer(job, answer, sent, strength)
        written = Image.open(job.result)
        assert written.info["icc_profile"] == PROFILE
        np.testing.assert_array_equal(np.asarray(written), expected)
