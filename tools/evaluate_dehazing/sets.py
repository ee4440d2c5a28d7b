"""The test pairs, and the pictures without truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.domain import Domain
from cut_tf.data.image_files import list_images, read_image
from cut_tf.settings import Settings
from cut_tf.settings.haze import PRESETS
from tools.evaluate_dehazing.unseen_haze import add_unseen_haze

_SIZE_PX = 256
# What is rendered, and the preset of its haze.
RENDERED = {"scenes": "mild", "rooms": "reside"}
_UNSEEN = "photographs, unseen haze and depths"

Item = TypeVar("Item")


class Pair(NamedTuple):
    """A picture with haze and without, uint8 [H, W, 3], and its name."""

    name: str
    hazy: np.ndarray
    clear: np.ndarray


class Pairs:
    """Test pairs of one kind, computed when asked for.

    Args:
      source: hazy pictures.
      target: clear ones of the same index.
      count: at most so many, spread over all; 0 takes all.
    """

    def __init__(self, source: Domain, target: Domain, count: int) -> None:
        self._source, self._target = source, target
        number = min(count or len(source), len(source))
        self._indices = np.linspace(0, len(source) - 1, number, dtype=int)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Pair]:
        for index in self._indices:
            yield Pair(self._source.name(index), self._source.load(index), self._target.load(index))


class UnseenHaze:
    """Clear photographs under a haze that no training here uses; as `Pairs`."""

    def __init__(self, photographs: Sequence[Path]) -> None:
        self._photographs = photographs

    def __len__(self) -> int:
        return len(self._photographs)

    def __iter__(self) -> Iterator[Pair]:
        for path in self._photographs:
            clear = read_image(path)
            yield Pair(path.name, add_unseen_haze(clear, path.name), clear)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of them, spread over all; all if 0."""
    number = min(count or len(items), len(items))
    return [items[index] for index in np.linspace(0, len(items) - 1, number, dtype=int)]


def test_sets(photographs: str, more: Sequence[str], count: int, border_px: int = 0) -> dict[str, Pairs | UnseenHaze]:
    """The sets by the name that the table gives them.

    Args:
      photographs: folder of clear photographs that no model was trained on.
      more: NAME=DATASET of other pairs, with a dataset as of --dataset: sots=haze:RESIDE/ITS,RESIDE/SOTS/indoor.
      count: pairs of each, at most; 0 takes all.
      border_px: cut off each side of the clear pictures of `more`; those of SOTS indoor have one of 10.

    Raises:
      InputError: if a dataset cannot be used or has no test pairs.
    """
    datasets = {f"photographs, {preset}": Settings.of(dataset=f"hazed:{photographs},{photographs}", preprocess="none",
                                                      haze_preset=preset) for preset in PRESETS}
    for kind, preset in RENDERED.items():
        datasets[f"rendered {kind}"] = Settings.of(dataset=kind, preprocess="none", scenes_size_px=_SIZE_PX,
                                                   haze_preset=preset)
    for text in more:
        name, equals, dataset = text.partition("=")
        if not (name and equals and dataset) or name in (*datasets, _UNSEEN):
            raise InputError(f"--pairs must be NAME=DATASET with a name of its own, found {text!r}")
        datasets[name] = Settings.of(dataset=dataset, preprocess="none", crop_border_px=border_px)
    found: dict[str, Pairs | UnseenHaze] = {}
    for name, settings in datasets.items():
        data = open_dataset(settings)
        if data.test_source is None or data.test_target is None or not data.test_paired:
            raise InputError(f"--pairs={name}={settings.data.dataset} must have test pictures in pairs, found "
                             f"{data.description}")
        found[name] = Pairs(data.test_source, data.test_target, count)
    found[_UNSEEN] = UnseenHaze(spread(list_images(Path(photographs)), count))
    return found
