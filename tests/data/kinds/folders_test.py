"""Datasets in folders: which are accepted, and what is said about the others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.domain import TranslationData
from cut_tf.settings import Settings


def _noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _fill(folder: Path, *names: str, width: int = 40, height: int = 30) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        _noise(width, height, seed).save(folder / name)
    return folder


def _open(dataset: object, **values: object) -> TranslationData:
    return open_dataset(Settings.of(dataset=str(dataset), **values))


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    """A folder with two source and three target pictures."""
    _fill(tmp_path / "trainA", "b.png", "a.jpg")
    _fill(tmp_path / "trainB", "x.png", "y.png", "z.bmp")
    return tmp_path


def test_training_folders(root):
    data = _open(root)
    assert (len(data.source), len(data.target)) == (2, 3)
    assert [data.source.name(index) for index in range(2)] == ["a.jpg", "b.png"]
    np.testing.assert_array_equal(data.source.load(1), np.asarray(_noise(seed=0)))
    assert data.target.load(2).shape == (30, 40, 3) and data.target.load(2).dtype == np.uint8
    assert data.test_source is None and data.test_target is None and not data.test_paired
    assert data.description == f"{root}: 2 source, 3 target, no test split"


@pytest.mark.parametrize("names_a, names_b, paired", [
    (("1.png", "2.png"), ("2.png", "1.jpg"), True),
    (("1.png", "2.png"), ("1.png", "3.png"), False),
    (("1.png", "2.png"), ("1.png",), False),
    (("1.png",), ("1.png", "2.png"), False),
])
def test_pairs_are_recognised_by_their_stems(root, names_a, names_b, paired):
    _fill(root / "testA", *names_a)
    _fill(root / "testB", *names_b)
    data = _open(root)
    assert data.test_paired is paired
    assert (len(data.test_source), len(data.test_target)) == (len(names_a), len(names_b))
    ending = "paired by their file names" if paired else "not paired"
    assert data.description.endswith(f"{len(names_a)} test images, {ending}")
    if paired:
        stems = [[domain.name(index).split(".")[0] for index in range(2)]
                 for domain in (data.test_source, data.test_target)]
        assert stems[0] == stems[1]


@pytest.mark.parametrize("name", ["testA", "testB"])
def test_half_a_test_split_is_not_paired(root, name):
    _fill(root / name, "1.png")
    data = _open(root)
    assert not data.test_paired
    assert (data.test_source is None) is (name == "testB") and (data.test_target is None) is (name == "testA")


def test_test_pictures_may_be_smaller_than_the_crop(root):
    _fill(root / "testA", "1.png", width=18, height=18)
    data = _open(root, preprocess="crop", crop_size_px=30)
    assert data.test_source.load(0).shape == (18, 18, 3)


def test_two_folders(tmp_path):
    one, other = _fill(tmp_path / "horses", "1.png"), _fill(tmp_path / "zebras", "1.png", "2.png")
    data = _open(f"{one},{other}")
    assert (len(data.source), len(data.target)) == (1, 2)
    assert data.test_source is None and data.test_target is None and not data.test_paired
    assert data.description == f"{one}: 1 source, {other}: 2 target, no test split"


def test_three_folders(tmp_path):
    with pytest.raises(InputError, match=r"--dataset must be one folder or two separated by a comma, found 'a,b,c'"):
        _open("a,b,c")


def test_second_folder_missing(tmp_path):
    one = _fill(tmp_path / "one", "1.png")
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / 'none'))}: .*found no such folder"):
        _open(f"{one},{tmp_path / 'none'}")


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match=r"--dataset must be a folder with trainA and trainB, found no folder .*/none"):
        _open(tmp_path / "none")


def test_file_instead_of_the_dataset(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="--dataset must be a folder with trainA and trainB, found no folder"):
        _open(tmp_path / "file")


@pytest.mark.parametrize("name", ["trainA", "trainB"])
def test_missing_training_folder(root, name):
    (root / name).rename(root / "elsewhere")
    with pytest.raises(InputError, match=f"{name}: must be a folder with images .*found no such folder"):
        _open(root)


def test_file_instead_of_a_training_folder(root):
    (root / "trainB").rename(root / "elsewhere")
    (root / "trainB").write_text("x")
    with pytest.raises(InputError, match="trainB: must be a folder with images .*found a file"):
        _open(root)


def test_empty_training_folder(root):
    for path in (root / "trainA").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="trainA: must be a folder with images .*found 0 other files"):
        _open(root)


def test_empty_test_folder(root):
    (root / "testA").mkdir()
    with pytest.raises(InputError, match="testA: must be a folder with images"):
        _open(root)


def test_hidden_and_other_files_are_ignored(root):
    (root / "trainA" / ".a.png").write_text("not an image")
    (root / "trainA" / "._b.jpg").write_text("not an image")
    (root / "trainA" / "notes.txt").write_text("not an image")
    (root / "trainA" / "folder.png").mkdir()
    assert len(_open(root).source) == 2


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (15, 40), (40, 15)])
def test_tiny_pictures(root, size):
    _noise(*size).save(root / "trainA" / "tiny.png")
    with pytest.raises(InputError) as caught:
        _open(root)
    assert str(caught.value) == (
        f"{root / 'trainA'}: 1 of 3 images cannot be used:\n"
        f"  {root / 'trainA' / 'tiny.png'}: sides must be at least 16 px, found {size[0]}x{size[1]}")


def test_smallest_picture(root):
    _noise(16, 16).save(root / "trainA" / "small.png")
    assert len(_open(root, load_size_px=16, crop_size_px=16, discriminator_layers=2).source) == 3


def test_pictures_smaller_than_the_crop(root):
    values = {"preprocess": "crop", "crop_size_px": 32}
    with pytest.raises(InputError) as caught:
        _open(root, **values)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{root / 'trainA'}: 2 of 2 images cannot be used:"
    assert lines[1] == (f"  {root / 'trainA' / 'a.jpg'}: sides must be at least the crop of 32 px with "
                        "--preprocess=crop, found 40x30")
    assert len(_open(root, **{**values, "crop_size_px": 30}).source) == 2


def test_all_bad_files_are_told_at_once_and_five_are_named(root):
    folder = root / "trainA"
    png, jpeg = (folder / "b.png").read_bytes(), (folder / "a.jpg").read_bytes()
    (folder / "c1.png").write_bytes(png[:20])  # cut inside the header
    (folder / "c2.jpg").write_bytes(jpeg[:30])
    (folder / "c3.jpg").write_text("This is not a picture.")
    (folder / "c4.jpg").write_bytes(b"")
    _noise(8, 8).save(folder / "c5.png")
    (folder / "c6.webp").write_bytes(b"RIFF")
    (folder / "c7.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputError) as caught:
        _open(root)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{folder}: 7 of 9 images cannot be used:"
    assert [re.search(r"/(c\d)\.", line)[1] for line in lines[1:-1]] == ["c1", "c2", "c3", "c4", "c5"]
    assert all("must be a complete" in lines[place] for place in (1, 2, 3, 4))
    assert lines[-1] == "  and 2 more"


def test_five_bad_files_are_not_followed_by_more(root):
    for number in range(5):
        (root / "trainA" / f"c{number}.png").write_text("text")
    with pytest.raises(InputError, match="5 of 7 images") as caught:
        _open(root)
    assert len(str(caught.value).splitlines()) == 6 and "more" not in str(caught.value)


@pytest.mark.parametrize("mode, name", [("L", "x.png"), ("L", "x.jpg"), ("CMYK", "x.jpg"), ("P", "x.png"),
                                        ("P", "x.gif"), ("RGBA", "x.png"), ("1", "x.png"), ("I;16", "x.png")])
def test_other_colour_modes_are_accepted(tmp_path, mode, name):
    folder = _fill(tmp_path / "A")
    if mode == "I;16":
        Image.fromarray(np.full((30, 40), 20000, np.uint16)).save(folder / name)
    else:
        _noise().convert(mode).save(folder / name)
    data = _open(f"{folder},{_fill(tmp_path / 'B', 'y.png')}")
    picture = data.source.load(0)
    assert picture.shape == (30, 40, 3) and picture.dtype == np.uint8
    if mode in ("L", "1", "I;16"):
        np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


def test_a_picture_damaged_behind_its_header_is_named_when_read(root):
    path = root / "trainA" / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    data = _open(root)
    with pytest.raises(InputError, match=re.escape(str(path))):
        data.source.load(1)
    assert data.source.load(0).shape == (30, 40, 3)


def test_a_format_that_cannot_be_read_is_refused_when_opened(root):
    """What the check of the headers lets through must be what the reader reads."""
    _noise().save(root / "trainA" / "c.png", "TGA")
    with pytest.raises(InputError, match=r"c\.png"):
        _open(root)
