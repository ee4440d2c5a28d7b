"""Makes clear pictures hazy by a recipe. The result depends on picture, name and recipe alone.

Photographs have no depth. Without depth maps the haze follows made-up ones (`cut_tf.data.haze.made_up_depths`), which
are never right. They are good enough to learn from and to compare methods. They do not measure how well real haze is
removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.data.haze import degradations, made_up_depths, scattering
from cut_tf.data.haze.depth_maps import depth_map_of, read_depth, resize_nearest
from cut_tf.data.image_files import read_image
from cut_tf.settings.haze import PRESETS, HazeRecipe, recipe_of

__all__ = ["PRESETS", "HazeRecipe", "HazedPhotograph", "HazyPicture", "add_random_haze", "clear_photograph", "depth_of",
           "divide", "haze_photograph", "haze_picture", "recipe_of"]

# Random streams besides that of depth and haze, one for each degradation, so that none changes the draws of another.
_PATCHES, _GAMMA, _NOISE, _JPEG, _CLEAR, _DEPTH, _DECOUPLED, _OVERCAST = range(1, 9)
# Distance that counts as sky, that of the rendered scenes.
SKY_DEPTH_M = 1000.0
# Random smooth depths of haze that follows nothing: how many times nearer than the farthest the nearest is.
_DECOUPLED_SPREAD = 16.0


class HazyPicture(NamedTuple):
    """A picture with haze, and the random draws for it.

    Attributes:
      image: uint8 [H, W, 3] with haze.
      parameters: the haze; a coefficient of 0 if the picture was left without.
      patches: of the haze, None if it is even.
      clear: uint8 [H, W, 3], the picture without haze that belongs to it: as given, darkened, or with another sky.
      drawn: the degradations, as JSON can hold them; only those that the picture got.
    """

    image: np.ndarray
    parameters: scattering.HazeParameters
    patches: scattering.HazePatches | None
    clear: np.ndarray
    drawn: dict[str, object]


class HazedPhotograph(NamedTuple):
    """A photograph before and after, uint8 [H, W, 3], and all random draws, as JSON can hold them."""

    clear: np.ndarray
    hazy: np.ndarray
    record: dict[str, object]


def add_random_haze(image: np.ndarray, name: str, recipe: HazeRecipe, depth_m: np.ndarray | None = None) -> HazyPicture:
    """Haze that depends on the recipe, the name of the file, the picture and its depths alone.

    Args:
      image: uint8 [H, W, 3].
      name: file name of the photograph, with its suffix, without its folder.
      recipe: seed and ranges; its folder of depth maps is not looked at.
      depth_m: metres, real [H, W], >= 0, infinity allowed; made up if not given.

    Raises:
      ValueError: if image or depths have another type, shape or range.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return haze_picture(image, [recipe.seed, int.from_bytes(digest[:8], "little")], recipe, depth_m)


def haze_picture(image: np.ndarray, entropy: Sequence[int], recipe: HazeRecipe,
                 depth_m: np.ndarray | None = None) -> HazyPicture:
    """Haze that depends on the recipe but its seed, the entropy, the picture and its depths alone.

    In this order: the clear picture is darkened, and its sky may become that of an overcast day; it gets noise; then
    the haze; then JPEG.

    Args:
      image: uint8 [H, W, 3].
      entropy: integers, zero or more, that tell this picture's random numbers from those of others.
      recipe: ranges and probabilities.
      depth_m: as for `add_random_haze`.

    Raises:
      ValueError: as `add_random_haze`.
    """
    entropy = list(entropy)
    rng = np.random.default_rng(entropy)
    drawn: dict[str, object] = {}
    depth_m, sky = _depths_and_sky(image, entropy, rng, recipe, depth_m, drawn)
    parameters = scattering.sample_haze(
        rng, depth_m, recipe.beta_range, (recipe.airlight_min, recipe.airlight_max), airlight_cast=recipe.airlight_cast,
        transmission_range=(recipe.transmission_min, recipe.transmission_max),
        least_visibility_m=recipe.visibility_min_m, optical_depth_range=recipe.optical_depth_range)
    clear, gamma_rng = image, _chosen(entropy, _GAMMA, recipe.gamma_probability)
    if gamma_rng:
        drawn["gamma"] = float(gamma_rng.uniform(recipe.gamma_min, recipe.gamma_max))
        clear = degradations.darken(image, drawn["gamma"])
    if _chosen(entropy, _CLEAR, recipe.clear_probability):
        drawn["clear"] = True
        return HazyPicture(clear, parameters._replace(beta_per_m=0.0), None, clear, drawn)
    if sky is not None and sky.any() and _chosen(entropy, _OVERCAST, recipe.overcast_probability):
        drawn["overcast"] = True
        clear = np.where(sky[:, :, None], np.rint(255.0 * parameters.airlight).astype(np.uint8), clear)
    noisy, noise_rng = clear, _chosen(entropy, _NOISE, recipe.noise_probability)
    if noise_rng:
        drawn["noise"] = str(noise_rng.choice(recipe.noise_kinds.split(",")))
        drawn["noise_levels"] = float(noise_rng.uniform(recipe.noise_min, recipe.noise_max))
        noisy = degradations.add_noise(clear, noise_rng, drawn["noise_levels"], drawn["noise"])
    patches = None
    if recipe.nonhomogeneous > 0 and _chosen(entropy, _PATCHES, recipe.patchy_probability):
        patches = scattering.sample_patches(np.random.default_rng([*entropy, _PATCHES]), recipe.nonhomogeneous)
        depth_m = depth_m * scattering.patch_density(image.shape[0], image.shape[1], patches)
    hazy = scattering.add_haze(noisy, depth_m, parameters.beta_per_m, parameters.airlight)
    jpeg_rng = _chosen(entropy, _JPEG, recipe.jpeg_probability)
    if jpeg_rng:
        drawn["jpeg"] = int(jpeg_rng.integers(recipe.jpeg_min, recipe.jpeg_max, endpoint=True))
        hazy = degradations.compress(hazy, drawn["jpeg"])
    return HazyPicture(hazy, parameters, patches, clear, drawn)


def _chosen(entropy: Sequence[int], stream: int, probability: float) -> np.random.Generator | None:
    """A stream's random numbers, if the picture is among the share that gets the degradation."""
    # The tail keeps the choice apart from the stream itself, which older recipes had drawn from without choosing.
    if np.random.default_rng([*entropy, stream, 1]).random() >= probability:
        return None
    return np.random.default_rng([*entropy, stream])


def _depths_and_sky(image: np.ndarray, entropy: Sequence[int], rng: np.random.Generator, recipe: HazeRecipe,
                    depth_m: np.ndarray | None, drawn: dict[str, object]) -> tuple[np.ndarray, np.ndarray | None]:
    """Depths in metres [H, W] that the haze follows, and the sky, bool [H, W], if the recipe asks where it is."""
    asks_for_sky = recipe.sky_at_infinity or recipe.overcast_probability > 0
    sky = None
    if depth_m is None:
        kinds = recipe.depth_kinds.split(",")
        kind = kinds[np.random.default_rng([*entropy, _DEPTH]).integers(len(kinds))]
        # One kind alone is what recipes have had before there were several; its draws are those of then.
        depth_m = made_up_depths.make_up_depth(image, kind, rng)
        drawn["depth"] = kind
        sky = made_up_depths.estimate_sky(image) if asks_for_sky else None
    elif asks_for_sky:
        sky = np.asarray(depth_m) >= SKY_DEPTH_M
    decoupled_rng = _chosen(entropy, _DECOUPLED, recipe.decoupled_probability)
    if decoupled_rng:
        drawn["depth"] = "decoupled"
        below = depth_m[np.isfinite(depth_m) & (depth_m < SKY_DEPTH_M)]
        far_m = float(below.max()) if below.size and below.max() > 0 else scattering.PSEUDO_DEPTH_FAR_M
        depth_m = made_up_depths.smooth_depth(*image.shape[:2], decoupled_rng, far_m / _DECOUPLED_SPREAD, far_m)
    if recipe.sky_at_infinity and sky.any() and not sky.all():
        depth_m = np.where(sky, np.float32(np.inf), depth_m)
    return depth_m, sky


def haze_photograph(path: Path, recipe: HazeRecipe) -> HazedPhotograph:
    """Reads a photograph, and its depth map if the recipe names a folder of them, and hazes it.

    `clear` of the result is the matching clear picture: dusk, for example, is in both pictures.

    The record has the name of the photograph (`source`), its size in px, the seed, `beta_per_m` in 1/m, `airlight` as
    three sRGB values in [0, 1], `nonhomogeneous` (the fields of HazePatches, or None), `depth`: None where it was
    made up, else name, size and least depth of the map, and `drawn`, the degradations that it got.

    Raises:
      InputError: naming the file, if photograph or depth map cannot be read, or no haze suits its depths.
    """
    clear = read_image(path)
    height, width = clear.shape[:2]
    depth_m, depth_record = depth_of(path, recipe, height, width)
    try:
        found = add_random_haze(clear, path.name, recipe, depth_m)
    except ValueError as error:
        raise InputError(f"{path}: cannot be hazed with its depths: {error}") from error
    record = {
        "source": path.name, "width": width, "height": height, "seed": recipe.seed,
        "beta_per_m": found.parameters.beta_per_m, "airlight": [float(value) for value in found.parameters.airlight],
        "nonhomogeneous": found.patches._asdict() if found.patches else None, "depth": depth_record,
        "drawn": found.drawn,
    }
    return HazedPhotograph(found.clear, found.image, record)


def depth_of(path: Path, recipe: HazeRecipe, height: int, width: int) -> tuple[np.ndarray | None, dict | None]:
    """The depths of a photograph, if its recipe names a folder of them: metres [height, width], and their record.

    Raises:
      InputError: naming the file, if the depth map is missing or cannot be read.
    """
    if not recipe.depth:
        return None, None
    found = depth_map_of(Path(recipe.depth), path.stem)
    depth_m = read_depth(found, recipe.depth_scale, recipe.depth_form)
    record = {"map": found.name, "width": depth_m.shape[1], "height": depth_m.shape[0], "least_m": float(depth_m.min())}
    return resize_nearest(depth_m, height, width), record


def clear_photograph(path: Path, recipe: HazeRecipe) -> np.ndarray:
    """The clear version that belongs to the hazy one of `haze_photograph`, uint8 [H, W, 3]. Raises InputError as it."""
    if not recipe.changes_clear:
        return read_image(path)
    if recipe.overcast_probability == 0:
        recipe = dataclasses.replace(recipe, depth="", depth_kinds="rise")  # dusk does not depend on depths
    return haze_photograph(path, recipe).clear


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
