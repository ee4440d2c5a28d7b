"""Made-up depths for photographs without depths. None of them is real depth, and each kind is wrong in its own way.

A network that learns from one kind of depth learns that kind, for example that haze becomes denser towards the top.
With several kinds it can rely on none of them, and has to look at the haze itself. All depths are metres, about 10 to
160, as those of `cut_tf.data.haze.scattering.estimate_depth_like`.
"""

from __future__ import annotations

import numpy as np

from cut_tf.common.windows import box_sum, window_minimum
from cut_tf.data.haze.scattering import PSEUDO_DEPTH_FAR_M, PSEUDO_DEPTH_NEAR_M, estimate_depth_like
from cut_tf.data.noise import LOWEST_CYCLES_PER_TILE, SMOOTH_EXPONENT, smooth_texture

_SPREAD = PSEUDO_DEPTH_FAR_M / PSEUDO_DEPTH_NEAR_M
# Segments: clusters of colour and place, found on every so many pixels of a picture of half the size.
_SEGMENTS, _SAMPLE_STEP, _ROUNDS = 14, 3, 5
# How much farther or nearer a segment may be than its place in the picture says: standard deviation of the logarithm.
_SEGMENT_LOG_STD = 0.6
# Edges of depths go to edges of the picture: window as a share of the longer side, and what counts as flat.
_EDGE_WINDOW, _EDGE_EPS = 0.015, 1e-3
# Sky: differences between neighbours in levels, least brightness, share of the top row that it has at least, shares of
# the picture that it may have, and the width of what hangs from it without being sky, as a share of the picture's.
_SKY_STEP, _SKY_LEAST, _SKY_TOP, _SKY_SHARES, _SKY_DRIP = 9.0, 105, 0.6, (0.03, 0.75), 0.12


def make_up_depth(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Depths of one of `cut_tf.settings.haze.DEPTH_KINDS`.

    Args:
      image: uint8 [H, W, 3]; `ridges`, `luminance` and `segments` look at it, the others at its size alone.
      kind: of depths.
      rng: source of randomness.

    Returns:
      float32 [H, W] in metres, > 0, finite.

    Raises:
      KeyError: if the kind is unknown.
    """
    height, width = image.shape[:2]
    made = {"rise": lambda: estimate_depth_like(height, width, rng), "planes": lambda: _planes(height, width, rng),
            "ridges": lambda: _ridges(image, rng), "luminance": lambda: _luminance(image, rng),
            "segments": lambda: _segments(image, rng), "smooth": lambda: smooth_depth(height, width, rng)}[kind]()
    return made.astype(np.float32)


def smooth_depth(height: int, width: int, rng: np.random.Generator, near_m: float = PSEUDO_DEPTH_NEAR_M,
                 far_m: float = PSEUDO_DEPTH_FAR_M) -> np.ndarray:
    """Smooth random depths from `near_m` to `far_m` that know nothing of a picture. float32 [height, width]."""
    waves = rng.uniform(0.4, 1.6) / max(height, width)
    offset_x, offset_y = rng.uniform(0.0, LOWEST_CYCLES_PER_TILE, 2)
    values = smooth_texture(offset_x + waves * np.arange(width)[None, :], offset_y + waves * np.arange(height)[:, None],
                            SMOOTH_EXPONENT).astype(np.float64)
    return _between(values, near_m, far_m).astype(np.float32)


def _between(values: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Depths near_m (far_m / near_m)^v of values that are first moved to v in [0, 1]."""
    spread = max(float(np.ptp(values)), np.finfo(np.float32).tiny)
    return near_m * (far_m / near_m) ** ((values - values.min()) / spread)


def _planes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The inside of a box: 1 / depth of a plane is linear in the picture, and the nearest one is seen."""
    across = (np.linspace(-1.0, 1.0, width) if width > 1 else np.zeros(1))[None, :] - rng.uniform(-0.5, 0.5)
    up = (np.linspace(1.0, -1.0, height) if height > 1 else np.zeros(1))[:, None] - rng.uniform(-0.3, 0.4)
    back_m = rng.uniform(0.4, 1.0) * PSEUDO_DEPTH_FAR_M
    nearness = np.full((height, width), 1.0 / back_m)
    # Floor always; ceiling and walls as in corridors, streets between houses, or open ground.
    for slope, present in ((-up, 1.0), (up, 0.5), (across, 0.6), (-across, 0.6)):
        distance_m, shown = PSEUDO_DEPTH_NEAR_M * rng.uniform(0.8, 2.5), rng.random() < present
        if shown:
            nearness = np.maximum(nearness, slope / distance_m)
    return np.clip(1.0 / nearness, 0.5 * PSEUDO_DEPTH_NEAR_M, None)


def _ridges(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Layers with ragged outlines, the lower the nearer, as hills or rows of houses; level ground is between them."""
    height, width = image.shape[:2]
    count = int(rng.integers(3, 8))
    heights = np.sort(rng.uniform(0.05, 0.95, count))[::-1]
    depths_m = PSEUDO_DEPTH_NEAR_M * _SPREAD ** np.sort(rng.uniform(0.0, 1.0, count))
    rows = np.linspace(0.0, 1.0, height)[:, None] if height > 1 else np.ones((1, 1))
    depth_m = np.full((height, width), PSEUDO_DEPTH_FAR_M)
    for top, layer_m in zip(heights[::-1], depths_m[::-1]):
        waves, phase = rng.uniform(0.5, 4.0), rng.uniform(0.0, LOWEST_CYCLES_PER_TILE, 2)
        outline = top + rng.uniform(0.02, 0.08) * smooth_texture(phase[0] + waves * np.linspace(0.0, 1.0, width),
                                                                 np.full(width, phase[1]))
        depth_m = np.where(rows > outline[None, :], layer_m, depth_m)
    return _with_edges_of(image, depth_m * np.exp(rng.uniform(0.1, 0.4) * (0.5 - rows)))


def _luminance(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter is farther, as in real haze; smoothed a little, and mixed with the rise towards the top."""
    height, width = image.shape[:2]
    radius = max(1, int(rng.uniform(0.005, 0.03) * max(height, width)))
    grey = _box_mean(image.astype(np.float64).mean(axis=2), radius)
    share = rng.uniform(0.3, 0.8)
    rise = np.log(estimate_depth_like(height, width, rng).astype(np.float64))
    return _between(share * _unit(grey) + (1.0 - share) * _unit(rise), PSEUDO_DEPTH_NEAR_M, PSEUDO_DEPTH_FAR_M)


def _segments(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Regions of one colour at one depth each: the mean of the rise over the region, times a random factor."""
    height, width = image.shape[:2]
    rise = np.log(estimate_depth_like(height, width, rng).astype(np.float64))
    small, rise = image[::2, ::2], rise[::2, ::2]
    rows, columns = np.mgrid[0:rise.shape[0], 0:rise.shape[1]].astype(np.float32) * np.float32(200.0 / max(rise.shape))
    smooth = _box_mean(small.astype(np.float32), max(1, max(rise.shape) // 150)).astype(np.float32)
    features = np.concatenate([smooth, rows[..., None], columns[..., None]], axis=2)
    samples = features[::_SAMPLE_STEP, ::_SAMPLE_STEP].reshape(-1, features.shape[2])
    centres = samples[rng.choice(len(samples), min(_SEGMENTS, len(samples)), replace=False)]
    for _ in range(_ROUNDS):
        nearest = _nearest(samples, centres)
        centres = np.array([samples[nearest == number].mean(axis=0) if (nearest == number).any() else centre
                            for number, centre in enumerate(centres)])
    region = _nearest(features.reshape(-1, features.shape[2]), centres)
    pixels = np.maximum(np.bincount(region, minlength=len(centres)), 1)
    means = np.bincount(region, rise.ravel(), len(centres)) / pixels
    factors = rng.normal(0.0, _SEGMENT_LOG_STD, len(centres))
    within = rng.uniform(0.2, 0.7)
    log_depth = (means + factors)[region].reshape(rise.shape) + within * (rise - means[region].reshape(rise.shape))
    log_depth = np.clip(log_depth, np.log(0.5 * PSEUDO_DEPTH_NEAR_M), np.log(2.0 * PSEUDO_DEPTH_FAR_M))
    return _with_edges_of(image, np.exp(_doubled(log_depth, height, width)))


def _doubled(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each value for 2x2 pixels: [ceil(height / 2), ceil(width / 2)] to [height, width]."""
    return values.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _with_edges_of(image: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Depths whose steps follow the picture where it has edges, and are soft elsewhere, as haze has no outlines.

    The guided filter (He, Sun, Tang, ECCV 2010, eq. 5, 6 and 8) of the logarithm of depth, with the grey picture.
    """
    radius = max(1, round(_EDGE_WINDOW * max(depth_m.shape)))
    guide, values = image.mean(axis=2) / 255.0, np.log(depth_m)
    guide_mean, values_mean = _box_mean(guide, radius), _box_mean(values, radius)
    variance = _box_mean(guide * guide, radius) - guide_mean * guide_mean
    slope = (_box_mean(guide * values, radius) - guide_mean * values_mean) / (variance + _EDGE_EPS)
    offset = values_mean - slope * guide_mean
    return np.exp(np.clip(_box_mean(slope, radius) * guide + _box_mean(offset, radius), values.min(), values.max()))


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre of each point: [N, F] and [K, F] to [N]."""
    # |p - c|^2 without |p|^2, which is the same for all centres.
    return np.argmin((centres * centres).sum(axis=1)[None, :] - 2.0 * (points @ centres.T), axis=1)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / max(float(np.ptp(values)), np.finfo(np.float32).tiny)


def _box_mean(values: np.ndarray, radius: int) -> np.ndarray:
    ones = np.ones(values.shape[:2])
    pixels = box_sum(ones, radius)
    return box_sum(values, radius) / (pixels if values.ndim == 2 else pixels[..., None])


def estimate_sky(image: np.ndarray) -> np.ndarray:
    """Estimates a photograph's sky: in each column, the bright and smooth pixels from the top edge down.

    Made for training pictures. White walls that reach the top edge count as sky. Clouds with hard edges end it.

    Args:
      image: uint8 [H, W, 3].

    Returns:
      bool [H, W]; nowhere true if that would be almost nothing or most of the picture.
    """
    small = image[::2, ::2].astype(np.float64)
    smooth = _box_mean(small, max(1, max(small.shape) // 240))
    step = np.zeros(small.shape[:2])
    step[1:] = np.abs(np.diff(smooth, axis=0)).max(axis=2)
    blue_or_grey = smooth[..., 2] >= smooth[..., :2].max(axis=2) - 25.0
    calm = (step < _SKY_STEP) & (smooth.max(axis=2) >= _SKY_LEAST) & blue_or_grey
    # Rows of sky in each column; the opening takes away narrow columns that run on beyond their neighbours.
    reach = max(1, round(0.5 * _SKY_DRIP * small.shape[1]))
    lengths = np.logical_and.accumulate(calm, axis=0).sum(axis=0)[None, :]
    opened = -window_minimum(-window_minimum(lengths, reach), reach)
    sky = _doubled(np.arange(small.shape[0])[:, None] < opened, *image.shape[:2])
    is_sky = sky[0].mean() >= _SKY_TOP and _SKY_SHARES[0] <= sky.mean() <= _SKY_SHARES[1]
    return sky if is_sky else np.zeros_like(sky)
