"""Which files of two folders belong together, and whether their sizes allow a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from cut_tf.common.errors import InputError
from cut_tf.common.places import AnyPath
from cut_tf.data.image_files import read_size
from cut_tf.data.kinds.haze import stems_without_numbers

_LISTED_NAMES = 5


def pair_files(predictions: list[AnyPath], others: list[AnyPath], shorten: bool) -> list[AnyPath]:
    """The file that each prediction belongs to, in the order of the predictions.

    Args:
      predictions: files of one folder, at least one.
      others: files of another one, at least one.
      shorten: whether numbers behind underscores may be cut off the stem of a prediction until it has a partner:
        `0012` for `0012_0.8_0.2`.

    Raises:
      InputError: if two files of a folder share a stem, or a prediction has no partner.
    """
    partner_of = _by_stem(others)
    stems = [(file, _partner_stem(stem, partner_of, shorten)) for stem, file in _by_stem(predictions).items()]
    missing = [file.name for file, stem in stems if stem is None]
    _raise_if_any(missing, f"{predictions[0].parent}: every image must have one of the same stem in "
                           f"{others[0].parent}, which has none for {len(missing)} of {len(stems)}")
    return [partner_of[stem] for _, stem in stems if stem is not None]


def check_sizes(predictions: Sequence[AnyPath], others: Sequence[AnyPath], role: str, border_px: int = 0,
                least_px: int = 1) -> None:
    """Reads the headers of all files, and no picture.

    Args:
      predictions: files, at least one.
      others: the file that belongs to each.
      role: what the others are, for messages: "target" or "input".
      border_px: what is cut off each side of the others.
      least_px: smallest side of a prediction.

    Raises:
      InputError: if a file has no image header, sizes differ, or a side is below `least_px`.
    """
    different, small = [], []
    for prediction, other in zip(predictions, others):
        width, height = read_size(prediction)
        expected = tuple(side - 2 * border_px for side in read_size(other))
        if (width, height) != expected:
            different.append(f"{prediction.name} {width}x{height} with {other.name} {expected[0]}x{expected[1]}")
        elif min(width, height) < least_px:
            small.append(f"{prediction.name} {width}x{height}")
    folder = predictions[0].parent
    cut = f" without {border_px} px on each side" if border_px else ""
    _raise_if_any(different, f"{folder}: every image must have the size of its {role}{cut}")
    _raise_if_any(small, f"{folder}: sides must be at least {least_px} px for SSIM")


def _raise_if_any(findings: list[str], rule: str) -> None:
    if findings:
        more = f" and {len(findings) - _LISTED_NAMES} more" if len(findings) > _LISTED_NAMES else ""
        raise InputError(f"{rule}, found {', '.join(findings[:_LISTED_NAMES])}{more}")


def _by_stem(files: list[AnyPath]) -> dict[str, AnyPath]:
    stems: dict[str, list[AnyPath]] = {}
    for file in files:
        stems.setdefault(file.stem, []).append(file)
    shared = [" and ".join(file.name for file in same) for same in stems.values() if len(same) > 1]
    _raise_if_any(shared, f"{files[0].parent}: file names must differ in more than their suffix")
    return {stem: same[0] for stem, same in stems.items()}


def _partner_stem(stem: str, partners: dict[str, AnyPath], shorten: bool) -> str | None:
    """The stem of the file that a prediction belongs to, None if there is none."""
    stems = stems_without_numbers(stem) if shorten else [stem]
    return next((shorter for shorter in stems if shorter in partners), None)
