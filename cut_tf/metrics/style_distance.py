"""How close a translation's colours and texture are to a target picture, and how much of its own structure it keeps.

Distances are sliced Wasserstein distances (Rabin et al., SSVM 2011): the mean over random directions of the
1-Wasserstein distance between two sets of vectors projected on the direction. They are in levels of 0 to 255, and 0 for
pictures with the same statistics. The pictures may differ in size and content. NumPy alone, except for SSIM.
"""

from __future__ import annotations

import numpy as np

from cut_tf.metrics.ssim import ssim

PATCH_PX = 7
SCALES = (1, 2, 4)
_SAMPLES = 20_000
_DIRECTIONS = 128
# Weights of red, green and blue in the luma of JPEG.
_LUMA = (0.299, 0.587, 0.114)
_DIRECTIONS_SEED = 2


def sliced_wasserstein(one: np.ndarray, other: np.ndarray, directions: int = _DIRECTIONS) -> float:
    """Mean over unit directions of the 1-Wasserstein distance of the projections.

    Args:
      one: float [N, C].
      other: float [N, C], as many vectors.
      directions: number of directions. For one C they are always the same.
    """
    lines = np.random.default_rng(_DIRECTIONS_SEED).normal(size=(one.shape[1], directions))
    lines /= np.linalg.norm(lines, axis=0)
    return float(np.mean(np.abs(np.sort(one @ lines, axis=0) - np.sort(other @ lines, axis=0))))


def colour_distance(picture: np.ndarray, target: np.ndarray) -> float:
    """Sliced Wasserstein distance of the colours of two pictures, uint8 [H, W, 3] of any sizes, in levels."""
    colours = (image.reshape(-1, 3).astype(np.float64) for image in (picture, target))
    return sliced_wasserstein(*(values[_places(len(values), seed)] for seed, values in enumerate(colours)))


def texture_distance(picture: np.ndarray, target: np.ndarray, scale: int = 1) -> float:
    """Sliced Wasserstein distance of 7x7 patches, each without its mean colour, in levels.

    Args:
      picture: uint8 [H, W, 3].
      target: uint8 [H', W', 3].
      scale: how many times both are reduced before, by averages of squares of that side.

    Raises:
      ValueError: if a picture is smaller than a patch at that scale.
    """
    return sliced_wasserstein(*(_patches(image, scale, seed) for seed, image in enumerate((picture, target))))


def structure_similarity(picture: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """How much of the layout is kept: {"ssim_luminance", "ssim_edges"}, SSIM of luminance and of gradient magnitude.

    Args:
      picture: uint8 [H, W, 3].
      source: uint8 of the same shape.
    """
    return {f"ssim_{name}": float(ssim(_as_picture(of(picture)), _as_picture(of(source)))[0])
            for name, of in (("luminance", _luminance), ("edges", _edges))}


def _places(count: int, seed: int) -> np.ndarray:
    """Indices of a fixed sample of all pictures' pixels or patches, with equally many for every picture."""
    return np.random.default_rng(seed).integers(count, size=_SAMPLES)


def _patches(image: np.ndarray, scale: int, seed: int) -> np.ndarray:
    """[N, 7 * 7 * 3] from places all over a picture."""
    height, width = (side // scale for side in image.shape[:2])
    if min(height, width) < PATCH_PX:
        raise ValueError(f"sides must be at least {PATCH_PX * scale} px at scale {scale}, found "
                         f"{image.shape[1]}x{image.shape[0]}")
    reduced = image[:height * scale, :width * scale].reshape(height, scale, width, scale, 3).mean((1, 3))
    windows = np.lib.stride_tricks.sliding_window_view(reduced, (PATCH_PX, PATCH_PX), axis=(0, 1))
    rows, columns = np.divmod(_places(windows.shape[0] * windows.shape[1], seed), windows.shape[1])
    patches = windows[rows, columns]
    return (patches - patches.mean((2, 3), keepdims=True)).reshape(len(patches), -1)


def _luminance(image: np.ndarray) -> np.ndarray:
    return image @ np.array(_LUMA)


def _edges(image: np.ndarray) -> np.ndarray:
    down, right = np.gradient(_luminance(image))
    return np.hypot(down, right)


def _as_picture(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[None, :, :, None], 3, axis=3)
