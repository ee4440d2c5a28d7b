"""`--dataset=haze:TRAIN_DIR[,TEST_DIR]`: dehazing data sets as they are published, told apart by folders and names.

LAYOUTS is the table. Training is unpaired: the hazy pictures of TRAIN_DIR are the source, all of its clear ones the
target. The test split consists of the pairs of TEST_DIR, one for each hazy picture. Upper and lower case count as
equal in names of folders and files.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.checks import NAMED_AT_MOST, sizes_of
from cut_tf.data.domain import TranslationData
from cut_tf.data.image_files import IMAGE_SUFFIXES, list_images, read_sizes
from cut_tf.data.kinds.folders import FolderDomain, PathsDomain, check_headers, size_problem
from cut_tf.settings import Settings

_NUMBER = re.compile(r"(?<=.)_\d+(\.\d+)?$")
_HAZY, _CLEAR = "_hazy", "_GT"
# The ground truths of SOTS indoor are 640x480 px with a white border of 10 px, the hazy pictures 620x460 px.
_SOTS_INDOOR_BORDER_PX = 10


def stems_without_numbers(stem: str) -> list[str]:
    """RESIDE: the stem, then shorter ones without its last numbers: 0001_0.8_0.2, 0001_0.8, 0001."""
    stems = [stem]
    while _NUMBER.search(stems[-1]):
        stems.append(_NUMBER.sub("", stems[-1]))
    return stems


def stems_of_gt(stem: str) -> list[str]:
    """NTIRE: 01_outdoor_GT for 01_outdoor_hazy; nothing for a stem that does not end in _hazy."""
    return [stem[:-len(_HAZY)] + _CLEAR] if _ends_in(stem, _HAZY) else []


class Layout(NamedTuple):
    """One row of the table of layouts.

    Attributes:
      name: of the data sets that come like this.
      hazy: spellings of the folder of hazy pictures; the empty one is the named folder itself.
      clear: spellings of the folder of clear pictures; any of them goes with any of `hazy`.
      clear_stems: stem of a hazy file to stems of its clear file, of which the first that exists counts.
      splits: what the layout is looked for: TRAIN_DIR, TEST_DIR or both.
    """

    name: str
    hazy: tuple[str, ...]
    clear: tuple[str, ...]
    clear_stems: Callable[[str], list[str]]
    splits: tuple[str, ...] = ("TRAIN_DIR", "TEST_DIR")


_NTIRE = "O-HAZE, I-HAZE, NH-HAZE or Dense-Haze"
LAYOUTS = (
    Layout("RESIDE ITS", ("train/ITS_haze",), ("train/ITS_clear",), stems_without_numbers, ("TRAIN_DIR",)),
    Layout("RESIDE ITS", ("val/haze", "val/ITS_haze"), ("val/clear", "val/ITS_clear"), stems_without_numbers,
           ("TEST_DIR",)),
    Layout("RESIDE ITS", ("ITS_haze",), ("ITS_clear",), stems_without_numbers),
    Layout("RESIDE OTS", ("haze/OTS", "hazy/OTS", "OTS", "haze", "hazy"), ("clear/clear_images",),
           stems_without_numbers),
    Layout("RESIDE ITS, OTS or SOTS", ("hazy", "haze"), ("clear", "gt"), stems_without_numbers),
    Layout(_NTIRE, ("hazy", "haze"), ("GT", "clear"), stems_of_gt),
    Layout(f"{_NTIRE}, one folder", ("",), ("",), stems_of_gt),
)


class HazePairs(NamedTuple):
    """What a folder holds: hazy[i] shows the scene of partners[i]; `clear` has every clear picture once."""

    layout: str
    hazy: list[Path]
    partners: list[Path]
    clear: list[Path]


class BorderCutDomain(PathsDomain):
    """Image files of which so many pixels are cut from each side: uint8 [H, W, 3] to [H - 2 b, W - 2 b, 3]."""

    def __init__(self, paths: Sequence[Path], border_px: int) -> None:
        super().__init__(paths)
        self._border_px = border_px

    def load(self, index: int) -> np.ndarray:
        image, border = super().load(index), self._border_px
        return np.ascontiguousarray(image[border:image.shape[0] - border, border:image.shape[1] - border])

    def size(self, index: int) -> tuple[int, int]:
        width, height = super().size(index)
        return width - 2 * self._border_px, height - 2 * self._border_px


def open_haze(settings: Settings) -> TranslationData:
    """`--dataset=haze:TRAIN_DIR[,TEST_DIR]`: unpaired for training, paired for testing; no test split without TEST_DIR.

    `crop_border_px` pixels are cut from each side of the clear test pictures.

    Raises:
      InputError: if a folder has none of the LAYOUTS, a hazy picture has not exactly one clear picture, a file is no
        readable image or too small, or the pictures of a test pair differ in size (unless --notest_pairs).
    """
    folders = settings.data.dataset.split(":", 1)[1].split(",")
    if len(folders) > 2 or not all(folders):
        raise InputError("--dataset must be haze:TRAIN_DIR or haze:TRAIN_DIR,TEST_DIR with the folders of a dehazing "
                         f"data set, found {settings.data.dataset!r}")
    train, *tests = [find_pairs(Path(folder), split) for folder, split in zip(folders, ("TRAIN_DIR", "TEST_DIR"))]
    for paths in (train.hazy, train.clear):
        check_headers(paths[0].parent, paths, settings.data)
    source, target = FolderDomain(train.hazy), FolderDomain(train.clear)
    pairs = (source, FolderDomain(train.partners))
    description = f"haze:{folders[0]} ({train.layout}): {len(train.hazy)} hazy, {len(train.clear)} clear, "
    if not tests:
        return TranslationData(source, target, None, None, False, description + "no test split", pairs)
    test = tests[0]
    for paths in (test.hazy, sorted(set(test.partners))):
        check_headers(paths[0].parent, paths, settings.data, training=False)
    border_px = settings.haze.crop_border_px
    cut = BorderCutDomain(test.partners, border_px)
    if settings.data.test_pairs:
        _check_sizes(test, border_px)
    else:
        _check_cut(cut, border_px)
    description += f"{len(test.hazy)} test pairs of {folders[1]} ({test.layout})"
    return TranslationData(source, target, FolderDomain(test.hazy), cut, True, description, pairs)


def find_pairs(folder: Path, split: str) -> HazePairs:
    """Recognises the layout of a folder and finds the clear picture of each hazy one, by names alone.

    Args:
      folder: as the user named it.
      split: TRAIN_DIR or TEST_DIR.

    Raises:
      InputError: if the folder has none of the LAYOUTS, or several, or a hazy picture has no clear one, or several;
        the message says what was looked for and what was found.
    """
    places = _places(folder, split)
    if not places:
        raise InputError(_unknown_layout(folder, split))
    if len(places) > 1:
        found = "; ".join(f"{hazy.relative_to(folder)} with {clear.relative_to(folder)}" for hazy, clear in places)
        raise InputError(f"{folder}: must have one folder of hazy and one of clear pictures, found several: {found}")
    (hazy_folder, clear_folder), layouts = next(iter(places.items()))
    if hazy_folder == clear_folder:
        hazy, clear = _divided(folder)
    else:
        hazy, clear = list_images(hazy_folder), list_images(clear_folder)
    return _paired(hazy, clear, layouts)


def _ends_in(stem: str, ending: str) -> bool:
    return stem.casefold().endswith(ending.casefold())


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the image files in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: --dataset=haze:... must name folders with hazy and clear pictures, "
                         f"found: {error.strerror or error}") from error
    return ([name for name, is_folder in names if is_folder],
            [name for name, is_folder in names if not is_folder and name.lower().endswith(IMAGE_SUFFIXES)])


def _subfolder(folder: Path, name: str) -> Path | None:
    """The folder of that relative name in any case, None if there is none."""
    for part in Path(name).parts:
        same = [found for found in _entries(folder)[0] if found.casefold() == part.casefold()]
        if len(same) > 1:
            raise InputError(f"{folder}: must have one folder {part} in upper or lower case, found {', '.join(same)}")
        if not same:
            return None
        folder = folder / same[0]
    return folder


def _places(folder: Path, split: str) -> dict[tuple[Path, Path], list[Layout]]:
    """(hazy folder, clear folder) to the layouts that have such folders, by the folders' names."""
    places: dict[tuple[Path, Path], list[Layout]] = {}
    one_folder = any(_ends_in(Path(name).stem, _HAZY) for name in _entries(folder)[1])
    for layout in LAYOUTS:
        for names in itertools.product(layout.hazy, layout.clear) if split in layout.splits else ():
            hazy, clear = (_subfolder(folder, name) for name in names)
            if hazy and clear and (one_folder or hazy != clear):
                places.setdefault((hazy, clear), []).append(layout)
    # Where there are haze/OTS and clear/clear_images, the pictures lie in these and not in haze and clear.
    return {place: layouts for place, layouts in places.items()
            if not any(other != place and _lies_in(other, place) for other in places)}


def _lies_in(inner: tuple[Path, Path], outer: tuple[Path, Path]) -> bool:
    return all(parent in (path, *path.parents) for path, parent in zip(inner, outer))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return (", ".join(names[:NAMED_AT_MOST]) or "none") + more


def _unknown_layout(folder: Path, split: str) -> str:
    """The message for a folder that has none of the layouts: what was looked for, what is there, what may help."""
    subfolders, pictures = _entries(folder)
    lines = [f"{folder}: {split} of --dataset=haze:TRAIN_DIR,TEST_DIR must have one of these layouts, found folders: "
             f"{_some(subfolders)}; pictures: {_some(pictures)}"]
    for layout in LAYOUTS:
        if split in layout.splits:
            where = (f"folder {' or '.join(layout.hazy)} and folder {' or '.join(layout.clear)}" if any(layout.hazy)
                     else f"pictures NAME{_HAZY} and NAME{_CLEAR}")
            lines.append(f"  {layout.name}: {where}")
    fitting = [name for name in subfolders
               if os.access(folder / name, os.R_OK | os.X_OK) and _places(folder / name, split)]
    if fitting:
        lines.append(f"{' and '.join(fitting)} in it {'has' if len(fitting) == 1 else 'have'} such a layout: "
                     f"name {' or '.join(str(folder / name) for name in fitting)}")
    return "\n".join(lines)


def _divided(folder: Path) -> tuple[list[Path], list[Path]]:
    """Hazy and clear pictures that lie in one folder."""
    paths = list_images(folder)
    hazy = [path for path in paths if _ends_in(path.stem, _HAZY)]
    clear = [path for path in paths if _ends_in(path.stem, _CLEAR)]
    others = [path.name for path in paths if not (_ends_in(path.stem, _HAZY) or _ends_in(path.stem, _CLEAR))]
    if others:
        raise InputError(f"{folder}: every picture must be called NAME{_HAZY} or NAME{_CLEAR} where both are in one "
                         f"folder, found {len(others)} of {len(paths)} others: {_some(others)}")
    return hazy, clear


def _paired(hazy: list[Path], clear: list[Path], layouts: Sequence[Layout]) -> HazePairs:
    """Pairs by the first of the layouts that gives every hazy picture a clear one; all have the same folders."""
    by_stem: dict[str, list[Path]] = {}
    for path in clear:
        by_stem.setdefault(path.stem.casefold(), []).append(path)
    lacking: list[list[Path]] = []
    for layout in layouts:
        partners = [next((by_stem[stem.casefold()] for stem in layout.clear_stems(path.stem)
                          if stem.casefold() in by_stem), []) for path in hazy]
        lacking.append([path for path, found in zip(hazy, partners) if not found])
        if not lacking[-1]:
            shared = [f"{path.name} ({' or '.join(one.name for one in found)})"
                      for path, found in zip(hazy, partners) if len(found) > 1]
            if shared:
                raise InputError(f"{hazy[0].parent}: every hazy picture must lead to exactly one clear picture, found "
                                 f"several for {len(shared)} of {len(hazy)}: {_some(shared)}")
            return HazePairs(layout.name, hazy, [found[0] for found in partners], clear)
    raise InputError(_no_partner(hazy, clear, min(lacking, key=len), layouts))


def _no_partner(hazy: list[Path], clear: list[Path], missing: list[Path], layouts: Sequence[Layout]) -> str:
    """The message for hazy pictures without a clear one."""
    found = f"in {clear[0].parent}, found none for {len(missing)} of {len(hazy)}" if clear else \
        f"called NAME{_CLEAR}, found no such picture"
    lines = [f"{hazy[0].parent}: every hazy picture must have its clear picture {found}:"]
    for path in missing[:NAMED_AT_MOST]:
        stems = dict.fromkeys(stem for layout in layouts for stem in layout.clear_stems(path.stem))
        lines.append(f"  {path.name}, looked for the stem {' or '.join(stems)}")
    if len(missing) > NAMED_AT_MOST:
        lines.append(f"  and {len(missing) - NAMED_AT_MOST} more")
    return "\n".join([*lines, f"clear pictures: {_some([path.name for path in clear])}"])


def _check_cut(domain: BorderCutDomain, border_px: int) -> None:
    """Raises InputError if a picture is too small without its border, by headers."""
    for path, size in zip(domain.paths, sizes_of(domain)):
        problem = size_problem(str(path), *size, None)
        if problem:
            raise InputError(f"{problem} without {border_px} px on each side (--crop_border_px)")


def _check_sizes(test: HazePairs, border_px: int) -> None:
    """Raises InputError if a hazy test picture has not the size of its clear one without the border, by headers."""
    paths = [*test.hazy, *dict.fromkeys(test.partners)]
    sizes = dict(zip(paths, read_sizes(paths)))
    differences, lines = set(), []
    for hazy, clear in zip(test.hazy, test.partners):
        (width, height), (clear_width, clear_height) = sizes[hazy], sizes[clear]
        difference = clear_width - width, clear_height - height
        differences.add(difference)
        if difference != (2 * border_px, 2 * border_px):
            lines.append(f"  {hazy} {width}x{height}, {clear} {clear_width}x{clear_height}")
    if not lines:
        return
    rule = f"must have the size of their clear pictures less {border_px} px on each side (--crop_border_px)"
    more = [f"  and {len(lines) - NAMED_AT_MOST} more"] if len(lines) > NAMED_AT_MOST else []
    hints = [f"try --crop_border_px={border}" for border in (0, _SOTS_INDOOR_BORDER_PX)
             if differences == {(2 * border, 2 * border)}]
    raise InputError("\n".join([f"{test.hazy[0].parent}: hazy test pictures {rule}, found {len(lines)} pairs that "
                                "differ:", *lines[:NAMED_AT_MOST], *more, *hints]))
