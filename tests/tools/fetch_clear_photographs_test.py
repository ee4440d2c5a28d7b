"""Clear photographs from packages: with programs that stand in for apt-get and dpkg-deb, since tests load nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import list_images, read_image
from tools import fetch_clear_photographs as tool
from tools.fetch_clear_photographs import Photograph

# "Downloads" an archive, whose "unpacking" copies a folder.
_APT = "#!/bin/sh\n[ \"$1 $2\" = 'download -q' ] && : > \"$3_1.0_all.deb\"\n"
_DPKG = "#!/bin/sh\n[ \"$1\" = -x ] && cp -r {packages}/\"$(basename \"$3\")\"/. \"$3\"\n"
PHOTOGRAPHS = (Photograph("hills", "usr/share/wallpapers/Green/contents/images/2x1.png", "A. Painter", "CC0-1.0"),
               Photograph("hills", "usr/share/wallpapers/Gone/contents/images/2x1.png", "B. Painter", "CC0-1.0"),
               Photograph("seas", "usr/share/backgrounds/blue.png", "C. Painter", "CC-BY-4.0"))


@pytest.fixture(autouse=True)
def _packages(tmp_path, monkeypatch):
    for photograph, size in ((PHOTOGRAPHS[0], (400, 200)), (PHOTOGRAPHS[2], (90, 60))):
        path = tmp_path / "packages" / photograph.package / photograph.path
        path.parent.mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(picture).save(path)
    (tmp_path / "bin").mkdir()
    for name, text in (("apt-get", _APT), ("dpkg-deb", _DPKG.format(packages=tmp_path / "packages"))):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def test_photographs_are_reduced_cut_and_named_with_their_licences(tmp_path, capsys):
    assert tool.make(tmp_path / "out", 100, PHOTOGRAPHS) == 2
    sizes = {path.name: read_image(path).shape[:2] for path in list_images(tmp_path / "out")}
    assert sizes == {**{f"Green_{number}.jpg": (50, 100) for number in range(5)}, "blue_0.jpg": (60, 90),
                     **{f"blue_{number}.jpg": (30, 45) for number in range(1, 5)}}
    licences = (tmp_path / "out" / "LICENCES.md").read_text()
    assert "| Green_*.jpg | hills | A. Painter | CC0-1.0 |" in licences
    assert "| blue_*.jpg | seas | C. Painter | CC-BY-4.0 |" in licences and "B. Painter" not in licences
    assert "note: hills has no usr/share/wallpapers/Gone" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "out", "packages"]


def test_quarters_are_those_of_the_picture():
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    whole, *quarters = tool.parts_of(picture, 70)
    np.testing.assert_array_equal(whole, picture)
    upper, lower = (np.concatenate(pair, axis=1) for pair in (quarters[:2], quarters[2:]))
    np.testing.assert_array_equal(np.concatenate([upper, lower]), picture)
    # Each quarter of a constant colour keeps it when it is reduced.
    picture[:25, :35], picture[25:, 35:] = (200, 10, 60), (0, 250, 9)
    _, first, _, _, last = tool.parts_of(picture, 20)
    assert first.shape == (14, 20, 3) and (first == (200, 10, 60)).all() and (last == (0, 250, 9)).all()


@pytest.mark.parametrize("photographs, side_px, message", [
    (PHOTOGRAPHS, 63, "--side_px must be at least 64, found 63"),
    (PHOTOGRAPHS[1:2], 100, "must have some of the listed photographs, found none"),
    ((Photograph("none", "x.png", "", ""),), 100, "dpkg-deb -x .* must end well, found cp: "),
])
def test_what_cannot_be_had_leaves_nothing(tmp_path, photographs, side_px, message):
    with pytest.raises(InputError, match=message):
        tool.make(tmp_path / "out", side_px, photographs)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_system_without_apt_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get must be there, as on Debian"):
        tool.make(tmp_path / "out", 100, PHOTOGRAPHS)


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    assert tool.make(tmp_path / "link", 100, PHOTOGRAPHS) == 2  # an empty one is no hindrance
    assert (tmp_path / "out" / "LICENCES.md").is_file()
    with pytest.raises(InputError, match="--output must be an empty folder or a new one, found"):
        tool.make(tmp_path / "out", 100, PHOTOGRAPHS)


def test_every_photograph_has_author_and_licence_and_a_name_of_its_own():
    names = [Path(each.path).parts[3] if "contents" in each.path else Path(each.path).stem for each in tool.PHOTOGRAPHS]
    assert len(set(names)) == len(names) == 25
    assert all(each.author and each.licence and each.package for each in tool.PHOTOGRAPHS)


def test_an_output_must_be_named(capsys):
    values = flags.FlagValues()
    tool.define(values)
    assert tool.main(values(["fetch_clear_photographs"]), values) == 2
    assert "--output must be a folder, found ''" in capsys.readouterr().err
