"""Datasets in folders: PATH with trainA, trainB, testA, testB, or two folders A,B of any names. All may be URLs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cut_tf.common import images, places
from cut_tf.common.errors import InputError
from cut_tf.common.places import AnyPath
from cut_tf.data.checks import NAMED_AT_MOST
from cut_tf.data.domain import Origin, TranslationData
from cut_tf.data.image_files import list_images, read_bytes, read_image, read_size
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import DataSettings, Settings


class PathsDomain:
    """Pictures that are made of one image file each, here by reading it."""

    def __init__(self, paths: Sequence[AnyPath]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.paths[index].name

    def load(self, index: int) -> np.ndarray:
        return read_image(self.paths[index])

    def size(self, index: int) -> tuple[int, int]:
        return read_size(self.paths[index])

    def origin(self, index: int) -> Origin:
        place = str(self.paths[index])
        return Origin(place, places.size_bytes(place))

    def key(self, index: int) -> Hashable:
        return self.paths[index]


class FolderDomain(PathsDomain):
    """The image files of one folder, sorted by name."""

    def encoded(self, index: int) -> bytes:
        """The file. Raises InputError like `load`."""
        return read_bytes(self.paths[index])


def open_folder(settings: Settings) -> TranslationData:
    """`--dataset=PATH`: trainA is the source, trainB the target; testA and testB are optional.

    A training or test split counts as paired if A and B have files of the same stems.
    """
    root = places.path_of(settings.data.dataset)
    if not root.is_dir():
        raise InputError(f"--dataset must be a folder with trainA and trainB, found no folder {root}")
    source, target = _domain(root / "trainA", settings.data), _domain(root / "trainB", settings.data)
    tests = [_domain(root / name, settings.data, training=False) if (root / name).is_dir() else None
             for name in ("testA", "testB")]
    paired = None not in tests and _same_stems(*tests)
    description = f"{root}: {len(source)} source, {len(target)} target, " + (
        "no test split" if tests[0] is None else
        f"{len(tests[0])} test images, {'paired by their file names' if paired else 'not paired'}")
    pairs = (source, target) if _same_stems(source, target) else None
    return TranslationData(source, target, tests[0], tests[1], paired, description, pairs)


def open_two_folders(settings: Settings) -> TranslationData:
    """`--dataset=A,B`: two folders for training, no test split."""
    parts = [places.path_of(part) for part in settings.data.dataset.split(",")]
    if len(parts) != 2:
        raise InputError(f"--dataset must be one folder or two separated by a comma, found {settings.data.dataset!r}")
    source, target = (_domain(part, settings.data) for part in parts)
    description = f"{parts[0]}: {len(source)} source, {parts[1]}: {len(target)} target, no test split"
    return TranslationData(source, target, None, None, False, description)


def check_headers(folder: AnyPath, paths: Sequence[AnyPath], settings: DataSettings, training: bool = True) -> None:
    """Checks the headers of image files of one folder; decodes nothing.

    Args:
      folder: where the files lie, for the message.
      paths: the files.
      settings: the preprocessing, whose smallest size in pixels applies to training only.
      training: whether the files are cropped for training.

    Raises:
      InputError: naming up to NAMED_AT_MOST files that are no readable image or too small, and the reason for each.
    """
    preprocessing = Preprocessing.of(settings) if training else None
    with ThreadPoolExecutor() as pool:
        problems = [problem for problem in pool.map(lambda path: _problem(path, preprocessing), paths) if problem]
    if problems:
        more = f"\n  and {len(problems) - NAMED_AT_MOST} more" if len(problems) > NAMED_AT_MOST else ""
        raise InputError(f"{folder}: {len(problems)} of {len(paths)} images cannot be used:\n  "
                         + "\n  ".join(problems[:NAMED_AT_MOST]) + more)


def _domain(folder: AnyPath, settings: DataSettings, training: bool = True) -> FolderDomain:
    paths = list_images(folder)
    check_headers(folder, paths, settings, training)
    return FolderDomain(paths)


def _problem(path: AnyPath, preprocessing: Preprocessing | None) -> str:
    """What is wrong with a file as far as its header tells, or an empty string. Nothing is decoded."""
    try:
        width, height = read_size(path)
    except InputError as error:
        return str(error)
    return size_problem(str(path), width, height, preprocessing)


def size_problem(place: str, width: int, height: int, preprocessing: Preprocessing | None) -> str:
    """What is wrong with the size of a picture, or an empty string.

    Args:
      place: of the picture, for the message.
      width: in pixels.
      height: in pixels.
      preprocessing: of training, whose smallest size applies; None for test pictures.
    """
    if min(width, height) < images.MIN_SIDE_PX:
        return f"{place}: sides must be at least {images.MIN_SIDE_PX} px, found {width}x{height}"
    rule = preprocessing.too_small(width, height) if preprocessing else ""
    return f"{place}: {rule}, found {width}x{height}" if rule else ""


def _same_stems(source: FolderDomain, target: FolderDomain) -> bool:
    return [path.stem for path in source.paths] == [path.stem for path in target.paths]
