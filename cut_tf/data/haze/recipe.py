"""How clear photographs become hazy ones: a recipe, and a function of picture, name and recipe alone.

Photographs have no depth. Without depth maps the haze follows a made-up one: it thickens towards the top of the picture
and knows nothing of the objects in it (`cut_tf.data.haze.scattering.estimate_depth_like`). Good enough to learn from
and to compare methods with each other; not a measure of how well real haze is removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.haze import scattering
from cut_tf.data.haze.depth_maps import DEFAULT_SCALE_M, depth_map_of, read_depth, resize_nearest
from cut_tf.data.image_files import read_image

# Keeps the stream of random numbers for the patches apart from that of the haze.
_PATCHES = 1


def _require(holds: bool, name: str, rule: str, found: object) -> None:
    if not holds:
        raise InputError(f"--{name} must be {rule}, found {found!r}")


@dataclasses.dataclass(frozen=True)
class HazeRecipe:
    """All that decides, besides the photograph and its name, what its haze looks like.

    Attributes:
      seed: zero or more.
      beta_min: least scattering coefficient in 1/m.
      beta_max: the greatest; 0 chooses a moderate to dense haze from the depths of each picture.
      airlight_min: least value of the haze's colour, sRGB in [0, 1].
      airlight_max: the greatest.
      nonhomogeneous: 0 (even haze) to 1 (dense patches and gaps); the mean of beta over the picture stays.
      depth: folder of depth maps (`cut_tf.data.haze.depth_maps`); empty makes the depths up.
      depth_scale: metres per level of depth maps in PNG files.

    Raises:
      InputError: naming the flag, if a value is out of its range.
    """

    seed: int = 0
    beta_min: float = 0.0
    beta_max: float = 0.0
    airlight_min: float = scattering.AIRLIGHT_RANGE[0]
    airlight_max: float = scattering.AIRLIGHT_RANGE[1]
    nonhomogeneous: float = 0.0
    depth: str = ""
    depth_scale: float = DEFAULT_SCALE_M

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, str):
                _require(isinstance(value, str), field.name, "text", value)
            else:
                kinds = (float, int) if isinstance(field.default, float) else (int,)
                holds = type(value) in kinds and math.isfinite(value) and value >= 0
                _require(holds, field.name, "zero or more" if len(kinds) > 1 else "an integer, zero or more", value)
        if self.beta_min > 0 or self.beta_max > 0:
            _require(self.beta_min <= self.beta_max, "beta_max", f"--beta_min ({self.beta_min}) or more",
                     self.beta_max)
        _require(self.airlight_max <= 1, "airlight_max", "at most 1", self.airlight_max)
        _require(self.airlight_min <= self.airlight_max, "airlight_min",
                 f"at most --airlight_max ({self.airlight_max})", self.airlight_min)
        _require(self.nonhomogeneous <= 1, "nonhomogeneous", "at most 1", self.nonhomogeneous)
        _require(self.depth_scale > 0, "depth_scale", "more than zero", self.depth_scale)

    @property
    def beta_range(self) -> tuple[float, float] | None:
        """Least and greatest coefficient in 1/m; None if each picture's depths decide."""
        return (self.beta_min, self.beta_max) if self.beta_max > 0 else None


class HazyPicture(NamedTuple):
    """uint8 [H, W, 3] with haze, the haze, and its patches if there are any."""

    image: np.ndarray
    parameters: scattering.HazeParameters
    patches: scattering.HazePatches | None = None


class HazedPhotograph(NamedTuple):
    """A photograph before and after, uint8 [H, W, 3], and all that was drawn, as JSON can hold it."""

    clear: np.ndarray
    hazy: np.ndarray
    record: dict[str, object]


def add_random_haze(image: np.ndarray, name: str, recipe: HazeRecipe, depth_m: np.ndarray | None = None) -> HazyPicture:
    """Haze that depends on the recipe, the name of the file, the size of the picture and its depths alone.

    Args:
      image: uint8 [H, W, 3].
      name: file name of the photograph, with its suffix, without its folder.
      recipe: seed and ranges; its folder of depth maps is not looked at.
      depth_m: metres, real [H, W], >= 0, infinity allowed; made up if not given.

    Raises:
      ValueError: if image or depths have another type, shape or range.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    entropy = [recipe.seed, int.from_bytes(digest[:8], "little")]
    rng = np.random.default_rng(entropy)
    height, width = image.shape[:2]
    if depth_m is None:
        depth_m = scattering.estimate_depth_like(height, width, rng)
    parameters = scattering.sample_haze(rng, depth_m, recipe.beta_range, (recipe.airlight_min, recipe.airlight_max))
    patches = None
    if recipe.nonhomogeneous > 0:
        patches = scattering.sample_patches(np.random.default_rng([*entropy, _PATCHES]), recipe.nonhomogeneous)
        depth_m = depth_m * scattering.patch_density(height, width, patches)
    hazy = scattering.add_haze(image, depth_m, parameters.beta_per_m, parameters.airlight)
    return HazyPicture(hazy, parameters, patches)


def haze_photograph(path: Path, recipe: HazeRecipe) -> HazedPhotograph:
    """Reads a photograph, and its depth map if the recipe names a folder of them, and hazes it.

    The record has the name of the photograph (`source`), its size in px, the seed, `beta_per_m` in 1/m, `airlight` as
    three sRGB values in [0, 1], `nonhomogeneous` (the fields of HazePatches, or None) and `depth`: None where it was
    made up, else name, size and least depth of the map.

    Raises:
      InputError: naming the file, if photograph or depth map cannot be read, or no haze suits its depths.
    """
    clear = read_image(path)
    height, width = clear.shape[:2]
    depth_m = depth_record = None
    if recipe.depth:
        depth_path = depth_map_of(Path(recipe.depth), path.stem)
        depth_m = read_depth(depth_path, recipe.depth_scale)
        depth_record = {"map": depth_path.name, "width": depth_m.shape[1], "height": depth_m.shape[0],
                        "least_m": float(depth_m.min())}
        depth_m = resize_nearest(depth_m, height, width)
    try:
        found = add_random_haze(clear, path.name, recipe, depth_m)
    except ValueError as error:
        raise InputError(f"{path}: cannot be hazed with its depths: {error}") from error
    record = {
        "source": path.name, "width": width, "height": height, "seed": recipe.seed,
        "beta_per_m": found.parameters.beta_per_m, "airlight": [float(value) for value in found.parameters.airlight],
        "nonhomogeneous": found.patches._asdict() if found.patches else None, "depth": depth_record,
    }
    return HazedPhotograph(clear, found.image, record)


def divide(photographs: Sequence[Path], split: str, seed: int, limit: int = 0) -> tuple[list[Path], list[Path]]:
    """The photographs to be hazed and those to stay clear, in the order of a shuffle.

    Every second one of the shuffled photographs is hazed for training, so the halves of a limited set are parts of
    the halves of the whole set.

    Args:
      photographs: sorted by name.
      split: "train" for halves, "test" to haze all of them and keep all of them clear.
      seed: of the shuffle, zero or more.
      limit: use only so many of the shuffled photographs; 0 uses all.
    """
    order = np.random.default_rng(seed).permutation(len(photographs))
    chosen = [photographs[index] for index in order[:limit or None]]
    return (chosen, chosen) if split == "test" else (chosen[0::2], chosen[1::2])
