"""The atmospheric scattering model: haze of known density, even or in patches, on a clear picture of known depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cut_tf.data.noise import LOWEST_CYCLES_PER_TILE, smooth_texture

# Median transmission over everything nearer than the sky: moderate to dense haze.
MEDIAN_TRANSMISSION_RANGE = (0.25, 0.70)
# Meteorological visibility is the distance at which contrast falls to 2 %: -ln(0.02) / beta. If most pixels are only a
# few metres away, the median alone would give a fog that hides everything else.
LEAST_VISIBILITY_M = 90.0
VISIBILITY_OPTICAL_DEPTH = 3.912
AIRLIGHT_RANGE = (0.70, 0.95)
AIRLIGHT_CAST = 0.02
# Depths above this share of the greatest depth in the picture count as sky when a haze is drawn.
SKY_SHARE = 0.999
# Pseudo-depth of a photograph, bottom row to top row, in metres.
PSEUDO_DEPTH_NEAR_M, PSEUDO_DEPTH_FAR_M = 10.0, 160.0
PSEUDO_DEPTH_NOISE = 0.35
# Haze in patches, as fog that drifts: how many of the longest patches fit along the longer side of the picture, and
# the standard deviation of the logarithm of the density at strength 1 (95 % of the picture within a factor of 5).
PATCH_WAVES_RANGE = (1.0, 3.0)
PATCH_LOG_STD = 0.8
# Amplitude spectrum f^-e of the patches, that of banks of fog: without fine texture.
PATCH_EXPONENT = 2.75


class HazeParameters(NamedTuple):
    """`beta_per_m`: scattering coefficient in 1/m, >= 0; `airlight`: float32 [3], sRGB in [0, 1]."""

    beta_per_m: float
    airlight: np.ndarray


class HazePatches(NamedTuple):
    """Where haze is thicker and thinner than its mean.

    Attributes:
        strength: 0 (even) to 1; the logarithm of the density has the standard deviation `PATCH_LOG_STD` times this.
        waves: longest patches along the longer side of the picture, > 0.
        offset_x: place of the picture in an endless noise, in units of the longest patch.
        offset_y: the same, downwards.
    """

    strength: float
    waves: float
    offset_x: float
    offset_y: float


def _checked_depth(depth_m: np.ndarray) -> np.ndarray:
    depth = np.asarray(depth_m)
    if depth.dtype.kind not in "fiu" or depth.ndim != 2 or depth.size == 0:
        raise ValueError(f"depth_m must be a real array [H, W] with at least one pixel, "
                         f"got {depth.dtype} {list(depth.shape)}")
    # NaN fails the comparison too; infinity is allowed and means no light from the scene.
    if not (depth >= 0).all():
        raise ValueError(f"depth_m must be >= 0 everywhere, got minimum {depth.min()}")
    return depth.astype(np.float32)


def _checked_beta(beta_per_m: float) -> float:
    if isinstance(beta_per_m, bool) or not isinstance(beta_per_m, (int, float, np.integer, np.floating)) \
            or not 0 <= beta_per_m < math.inf:
        raise ValueError(f"beta_per_m must be a finite number >= 0, got {beta_per_m!r}")
    return float(beta_per_m)


def _check_size(height: int, width: int) -> None:
    for name, value in (("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def transmission(depth_m: np.ndarray, beta_per_m: float) -> np.ndarray:
    """Share of the scene's light that crosses the haze, exp(-beta d).

    Args:
        depth_m: distance along the ray in metres, real [H, W], >= 0; infinity is allowed.
        beta_per_m: scattering coefficient in 1/m, >= 0.

    Returns:
        float32 [H, W] in [0, 1]; 1 everywhere if `beta_per_m` is 0, even at infinity.

    Raises:
        ValueError: if an argument has another shape, type or range.
    """
    depth, beta = _checked_depth(depth_m), _checked_beta(beta_per_m)
    if beta == 0.0:
        return np.ones_like(depth)
    return np.exp(np.float32(-beta) * depth)


def add_haze(image: np.ndarray, depth_m: np.ndarray, beta_per_m: float, airlight: np.ndarray) -> np.ndarray:
    """Hazy picture I = J t + A (1 - t) of a clear picture J, with t = exp(-beta d).

    The model is applied to the sRGB values in [0, 1], as the RESIDE data set does, and not to linear light.

    Args:
        image: clear picture J, uint8 [H, W, 3] sRGB.
        depth_m: distance along the ray d in metres, real [H, W], >= 0; infinity is allowed.
        beta_per_m: scattering coefficient in 1/m, >= 0.
        airlight: colour A of the haze itself, real [3] sRGB in [0, 1].

    Returns:
        uint8 [H, W, 3] sRGB, rounded to nearest.

    Raises:
        ValueError: if an argument has another shape, type or range.
    """
    picture, light = np.asarray(image), np.asarray(airlight)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
    share = transmission(depth_m, beta_per_m)
    if share.shape != picture.shape[:2]:
        raise ValueError(f"depth_m must have the height and width of image, {list(picture.shape[:2])}, "
                         f"got {list(share.shape)}")
    if light.dtype.kind not in "fiu" or light.shape != (3,):
        raise ValueError(f"airlight must be a real array [3], got {light.dtype} {list(light.shape)}")
    if not ((light >= 0) & (light <= 1)).all():
        raise ValueError(f"airlight must lie in [0, 1], got {light.tolist()}")
    airlight_levels = 255.0 * light.astype(np.float32)
    hazy = airlight_levels + (picture.astype(np.float32) - airlight_levels) * share[:, :, None]
    return np.clip(np.rint(hazy), 0, 255).astype(np.uint8)


def sample_haze(rng: np.random.Generator, depth_m: np.ndarray, beta_range: tuple[float, float] | None = None,
                airlight_range: tuple[float, float] = AIRLIGHT_RANGE, *, airlight_cast: float = AIRLIGHT_CAST,
                transmission_range: tuple[float, float] = MEDIAN_TRANSMISSION_RANGE,
                least_visibility_m: float = LEAST_VISIBILITY_M,
                optical_depth_range: tuple[float, float] | None = None) -> HazeParameters:
    """Draws a haze for one picture: by default a moderate to dense one that suits its depths.

    Without a `beta_range` or `optical_depth_range` the coefficient is set so that the median transmission over the
    pixels nearer than the sky (the greatest depth in the picture) is uniform in `transmission_range`, but never so
    large that one sees less far than `least_visibility_m`. The airlight is a grey with a colour cast, up to
    `airlight_cast` per channel. A range for density or airlight does not change what is drawn for the other.

    Args:
        rng: source of randomness.
        depth_m: distance along the ray in metres, real [H, W], >= 0; the sky may be infinite.
        beta_range: least and greatest coefficient in 1/m, of which one is drawn uniformly, whatever the depths.
        airlight_range: least and greatest value of each channel, sRGB in [0, 1].
        airlight_cast: greatest difference of a channel from the grey.
        transmission_range: least, > 0, and greatest median transmission.
        least_visibility_m: visibility in metres, > 0.
        optical_depth_range: least and greatest beta times the distance of the farthest pixel nearer than the sky, of
          which one is drawn uniformly, so that t = exp(-tau d / d_far). Without meaning if there is a `beta_range`.

    Raises:
        ValueError: if `depth_m` has another shape, type or range, or, without a `beta_range`, is 0 or infinite in
          more than half of the picture below the sky, with an `optical_depth_range` in all of it.
    """
    depth = _checked_depth(depth_m)
    if beta_range is not None:
        beta_per_m = float(rng.uniform(*beta_range))
    else:
        nearer = depth[depth < SKY_SHARE * depth.max()]
        nearer = nearer if nearer.size else depth
        if optical_depth_range is not None:
            far_m = float(nearer.max())
            if not 0.0 < far_m < math.inf:
                raise ValueError(f"depth_m must have a finite maximum > 0 below the sky, got {far_m}")
            beta_per_m = float(rng.uniform(*optical_depth_range)) / far_m
        else:
            median_m = float(np.median(nearer))
            if not 0.0 < median_m < math.inf:
                raise ValueError(f"depth_m must have a finite median > 0 below the sky, got {median_m}")
            beta_per_m = -math.log(rng.uniform(*transmission_range)) / median_m
            beta_per_m = min(beta_per_m, VISIBILITY_OPTICAL_DEPTH / least_visibility_m)
    least, greatest = airlight_range
    cast = min(airlight_cast, (greatest - least) / 2.0)
    # Sorted, because rounding may exchange them where the range is no wider than the cast.
    grey = rng.uniform(*sorted((least + cast, greatest - cast)))
    airlight = np.clip(grey + rng.uniform(-cast, cast, 3), least, greatest)
    return HazeParameters(beta_per_m, airlight.astype(np.float32))


def sample_patches(rng: np.random.Generator, strength: float) -> HazePatches:
    """Draws size and place of the patches of a haze; `strength` in [0, 1]."""
    waves = float(rng.uniform(*PATCH_WAVES_RANGE))
    offset_x, offset_y = (float(value) for value in rng.uniform(0.0, LOWEST_CYCLES_PER_TILE, 2))
    return HazePatches(float(strength), waves, offset_x, offset_y)


def patch_density(height: int, width: int, patches: HazePatches) -> np.ndarray:
    """Local density of a haze in patches, relative to its mean over the picture: exp(c n) / mean(exp(c n)).

    n is smooth fractal noise, standardised over the picture, and c is `PATCH_LOG_STD` times the strength. A haze of
    beta times this density on depths d is a haze of beta on depths density times d.

    Args:
        height: rows, >= 1.
        width: columns, >= 1.
        patches: strength, size and place.

    Returns:
        float32 [height, width], > 0, mean 1; 1 everywhere if the strength is 0.

    Raises:
        ValueError: if a size is not an integer >= 1.
    """
    _check_size(height, width)
    step = patches.waves / max(height, width)
    columns = patches.offset_x + step * np.arange(width)[None, :]
    rows = patches.offset_y + step * np.arange(height)[:, None]
    noise = smooth_texture(columns, rows, PATCH_EXPONENT).astype(np.float64)
    noise -= noise.mean()
    # A picture of one pixel has a deviation of 0, by which one cannot divide.
    noise /= max(noise.std(), np.finfo(np.float32).tiny)
    density = np.exp(PATCH_LOG_STD * patches.strength * noise)
    return (density / density.mean()).astype(np.float32)


def estimate_depth_like(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth stand-in for the depth of a photograph whose depth is unknown. It is not real depth.

    It does not depend on the picture. It grows from the bottom row to the top row, as the ground does in most outdoor
    photographs, times smooth noise. Haze added with it varies plausibly over a picture but ignores every object in
    it. Use it to create training pictures, not to measure how well a depth or a haze is recovered.

    Args:
        height: rows, >= 1.
        width: columns, >= 1.
        rng: source of randomness.

    Returns:
        float32 [height, width] in metres, about 5 to 310. The ramp alone never falls towards the top; the noise varies
        it by at most a factor of about 1.9 either way.

    Raises:
        ValueError: if a size is not an integer >= 1.
    """
    _check_size(height, width)
    rise = np.linspace(1.0, 0.0, height)[:, None] if height > 1 else np.zeros((1, 1))
    # The logarithm grows fast at the bottom and slowly above, as where the ground ends at a backdrop of trees or
    # houses. A ramp that is steepest at the top would hide the upper third of every picture behind a wall of haze.
    ramp = PSEUDO_DEPTH_NEAR_M * (PSEUDO_DEPTH_FAR_M / PSEUDO_DEPTH_NEAR_M) ** (rise ** rng.uniform(0.5, 0.9))
    rows, columns = np.linspace(0.0, 1.0, height)[:, None], np.linspace(0.0, 1.0, width)[None, :]
    noise = np.zeros((height, width))
    for cycles in (1.0, 2.0, 3.0):
        waves_x, waves_y = 2.0 * np.pi * cycles * rng.uniform(0.5, 1.0, 2)
        phase_x, phase_y = rng.uniform(0.0, 2.0 * np.pi, 2)
        noise += np.cos(waves_x * columns + phase_x) * np.cos(waves_y * rows + phase_y) / cycles
    return (ramp * np.exp(PSEUDO_DEPTH_NOISE * noise)).astype(np.float32)
