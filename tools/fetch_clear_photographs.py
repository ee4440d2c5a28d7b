"""Fetches clear photographs to train on from the wallpaper packages of Debian.

    python -m tools.fetch_clear_photographs --output=DIR

    DIR/NAME_0.jpg, ...   each photograph as a whole, and its four quarters at the same size
    DIR/LICENCES.md       package, author and licence of each photograph

Needs Debian or a system made of it: apt-get fetches the packages and checks their signatures; nothing is installed and
no rights are needed. The packages were looked through by eye: what is drawn, foggy or blurred all over is left out.
Their licences allow use and change; what is published of the pictures must keep author and licence, so that they are
no part of this repository. Models that were trained on them should name them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import whole_folder
from cut_tf.data.image_files import read_image, write_image

_LEAST_SIDE_PX = 64
_LICENCES = "LICENCES.md"


class Photograph(NamedTuple):
    """A file of a package: where it is in it, who made it, and under which licence it is in the package."""

    package: str
    path: str
    author: str
    licence: str


_PLASMA = "usr/share/wallpapers/{}/contents/images/2560x1600.jpg"
_LOMIRI = "usr/share/backgrounds/{}.jpg"
_MATE = "usr/share/backgrounds/mate/nature/{}.jpg"
# Licences of Plasma's are those of each wallpaper's metadata.json; the package as a whole says GPL-2+.
PHOTOGRAPHS = (
    *(Photograph("plasma-workspace-wallpapers", _PLASMA.format(name), author, "LGPL-3") for name, author in (
        ("BytheWater", "Maciej Wiklo"), ("ColorfulCups", "Dmitri Popov"), ("EveningGlow", "Ian Hex"),
        ("FallenLeaf", "Martin Klapetek"), ("Kite", "Risto Saukonpää"), ("OneStandsOut", "Risto Saukonpää"),
        ("Path", "Risto Saukonpää"))),
    *(Photograph("lomiri-wallpapers-16.04", _LOMIRI.format(name), author, licence) for name, author, licence in (
        ("Bridge_by_Sander_Klootwijk", "Sander Klootwijk", "CC-BY-SA-4.0"),
        ("Dragonfly_by_Bolly", "Bolly", "CC-BY-SA-4.0"),
        ("Picture_0B_by_freespace", "Trevor \"Freespace\"", "CC-BY-4.0"),
        ("Picture_1A_by_freespace", "Trevor \"Freespace\"", "CC-BY-4.0"),
        ("Wine_by_Jakkub_Mede", "Jakub Mede", "CC-BY-4.0"),
        ("aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
        ("friends_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
        ("greentock_by_Peter_Nerlich", "Peter Nerlich", "CC-BY-SA-4.0"),
        ("life_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
        ("picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"),
        ("seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0"),
        ("sunset_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0"))),
    Photograph("lomiri-wallpapers-20.04", _LOMIRI.format("Kleiber_by_Lukas_Baubkus"), "Lukas Baubkus", "CC-BY-SA-3.0"),
    *(Photograph("mate-backgrounds", _MATE.format(name), author, "GPL-2+") for name, author in (
        ("Blinds", "Lennart Poettering"), ("Dune", "Marco Cogoni"), ("GreenMeadow", "Timothy Schellhase"),
        ("RainDrops", "blackcombwhistler07"), ("TwoWings", "Charles Barbin"))),
)


def fetch(package: str, folder: Path) -> Path:
    """Downloads and unpacks a Debian package. Returns the folder of its files. Raises InputError if that fails."""
    target = folder / package
    target.mkdir()
    _run(["apt-get", "download", "-q", package], target)
    (archive,) = target.glob("*.deb")
    _run(["dpkg-deb", "-x", str(archive), str(target)], target)
    return target


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"{command[0]} must be there, as on Debian and what is made of it, found {error}") from error
    if done.returncode:
        raise InputError(f"{' '.join(command)} must end well, found {(done.stderr or done.stdout).strip()}")


def parts_of(picture: np.ndarray, side_px: int) -> list[np.ndarray]:
    """The whole picture reduced to a longer side of `side_px`, and its four quarters reduced to that too.

    Args:
      picture: uint8 [H, W, 3].
      side_px: of the results; a picture or quarter that is smaller stays as it is.

    Returns:
      Five pictures, uint8 [h, w, 3].
    """
    height, width = picture.shape[:2]
    quarters = [picture[row, column] for row in (slice(0, height // 2), slice(height // 2, None))
                for column in (slice(0, width // 2), slice(width // 2, None))]
    return [_reduced(part, side_px) for part in (picture, *quarters)]


def _reduced(picture: np.ndarray, side_px: int) -> np.ndarray:
    scale = side_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(scale * size)) for size in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def make(output: Path, side_px: int, photographs: Sequence[Photograph] = PHOTOGRAPHS) -> int:
    """Writes the photographs and their licences. A photograph that another release has not is left out, with a note.

    Returns:
      How many photographs, each in five parts, were written.

    Raises:
      InputError: if the output is not empty or cannot be written, a package cannot be had, or nothing was found.
    """
    if side_px < _LEAST_SIDE_PX:
        raise InputError(f"--side_px must be at least {_LEAST_SIDE_PX}, found {side_px}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output must be an empty folder or a new one, found {output}")
    try:
        with whole_folder(output, _LICENCES) as done, tempfile.TemporaryDirectory() as work:
            return _prepare(Path(work), done, side_px, photographs)
    except OSError as error:
        raise InputError(f"--output must be a folder that can be written, found {error}") from error


def _prepare(work: Path, done: Path, side_px: int, photographs: Sequence[Photograph]) -> int:
    lines = ["# Licences", "", "Reduced and cut by cut_tf's tools.fetch_clear_photographs.", "",
             "| files | Debian package | author | licence |", "|---|---|---|---|"]
    for package in dict.fromkeys(photograph.package for photograph in photographs):
        tree = fetch(package, work)
        for photograph in (each for each in photographs if each.package == package):
            path = tree / photograph.path
            if not path.is_file():
                print(f"note: {package} has no {photograph.path} here; it is left out")
                continue
            # All of Plasma's have the same file name; their folder tells them apart.
            stem = path.relative_to(tree).parts[3] if "contents" in path.parts else path.stem
            for number, part in enumerate(parts_of(read_image(path), side_px)):
                write_image(done / f"{stem}_{number}.jpg", part)
            lines.append(f"| {stem}_*.jpg | {package} | {photograph.author} | {photograph.licence} |")
        shutil.rmtree(tree)
    count = len(lines) - 6
    if not count:
        raise InputError("the packages must have some of the listed photographs, found none")
    (done / _LICENCES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return count


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because other tools have some of the same names."""
    flags.DEFINE_string("output", "", "folder of the photographs; made if missing, else it must be empty",
                        flag_values=flag_values)
    flags.DEFINE_integer("side_px", 640, "longer side of the photographs in pixels; the quarters have the same, if the "
                         "original is large enough", flag_values=flag_values)


def main(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0, or 2 if packages or output are not as they must be (the reason is printed on stderr)."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {argv[1:]}")
        if not flag_values.output:
            raise InputError("--output must be a folder, found ''")
        count = make(Path(flag_values.output), flag_values.side_px)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{flag_values.output}: {count} photographs, each whole and in four quarters; LICENCES.md names their "
          "licences")
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
