"""Fractal noise and the height field of the rendered scenes.

World coordinates are metres in a left-handed frame whose origin is the ground point under the camera: x to the right,
y up, z forward.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

TILE_PX = 512
LOWEST_CYCLES_PER_TILE = 4
TEXELS_PER_WAVE = TILE_PX // LOWEST_CYCLES_PER_TILE
# Amplitude spectra f^-e: hills are smooth, surface texture keeps more energy at short wavelengths.
SMOOTH_EXPONENT = 2.35
ROUGH_EXPONENT = 1.25
MOUNTAIN_EXPONENT = 2.75


class Terrain(NamedTuple):
    """Parameters of the height field; lengths in metres.

    `rolling_*` are gentle hills that begin `flat_m` away from the camera, `mountain_*` steeper ones that begin at
    `mountain_start_m`; `ridged` blends rounded hills (0) into sharp crests (1) and `terrace_m` > 0 cuts them into
    mesas of that step. `canopy_*` lifts a forest roof where the cover noise is below `canopy_cover`.
    `shore` is (normal_x, normal_z, distance_m): the ground falls below the sea beyond that line.
    """

    offset: tuple[float, float] = (0.0, 0.0)
    rolling_m: float = 0.0
    rolling_scale_m: float = 90.0
    flat_m: float = 25.0
    mountain_m: float = 0.0
    mountain_scale_m: float = 350.0
    mountain_start_m: float = 200.0
    ridged: float = 0.0
    terrace_m: float = 0.0
    canopy_m: float = 0.0
    canopy_cover: float = 0.0
    canopy_start_m: float = 90.0
    water_level_m: float | None = None
    shore: tuple[float, float, float] | None = None


@cache
def noise_tile(exponent: float) -> np.ndarray:
    """Periodic fractal noise, float32 [TILE_PX, TILE_PX], mean 0, standard deviation 1, read-only."""
    rng = np.random.default_rng(int(exponent * 1000))
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_PX, TILE_PX)))
    row_cycles = np.fft.fftfreq(TILE_PX, 1.0 / TILE_PX)[:, None]
    column_cycles = np.fft.rfftfreq(TILE_PX, 1.0 / TILE_PX)[None, :]
    cycles = np.hypot(row_cycles, column_cycles)
    gain = np.where(cycles >= LOWEST_CYCLES_PER_TILE, np.maximum(cycles, 1.0) ** -exponent, 0.0)
    tile = np.fft.irfft2(spectrum * gain, s=(TILE_PX, TILE_PX))
    tile = (tile / tile.std()).astype(np.float32)
    tile.flags.writeable = False
    return tile


@cache
def hash_table() -> np.ndarray:
    """Uniform values in [0, 1), float32 [4096], read-only: one per window, plank or parcel."""
    table = np.random.default_rng(4096).random(4096).astype(np.float32)
    table.flags.writeable = False
    return table


def hash_cells(*cells: np.ndarray) -> np.ndarray:
    """One reproducible value in [0, 1) for every tuple of integer-valued cell coordinates."""
    mixed = np.zeros(np.broadcast(*cells).shape, np.int64)
    for cell, prime in zip(cells, (73856093, 19349663, 83492791)):
        mixed ^= np.asarray(cell).astype(np.int64) * prime
    return hash_table()[(mixed ^ (mixed >> 13)) & 4095]


def texture(x: np.ndarray, y: np.ndarray, exponent: float = ROUGH_EXPONENT) -> np.ndarray:
    """Noise at (x, y), in units of its longest wavelength, read at the nearest texel."""
    column = (x * TEXELS_PER_WAVE).astype(np.int32) & (TILE_PX - 1)
    row = (y * TEXELS_PER_WAVE).astype(np.int32) & (TILE_PX - 1)
    return noise_tile(exponent)[row, column]


def smooth_texture(x: np.ndarray, y: np.ndarray, exponent: float = SMOOTH_EXPONENT) -> np.ndarray:
    """Noise at (x, y), in units of its longest wavelength, interpolated bilinearly between texels."""
    tile = noise_tile(exponent).ravel()
    x = np.asarray(x, np.float32) * TEXELS_PER_WAVE
    y = np.asarray(y, np.float32) * TEXELS_PER_WAVE
    left, top = np.floor(x), np.floor(y)
    along, down = x - left, y - top
    column, row = left.astype(np.int32) & (TILE_PX - 1), top.astype(np.int32) & (TILE_PX - 1)
    next_column = (column + 1) & (TILE_PX - 1)
    base, next_base = row * TILE_PX, ((row + 1) & (TILE_PX - 1)) * TILE_PX
    upper = tile[base + column] * (1 - along) + tile[base + next_column] * along
    lower = tile[next_base + column] * (1 - along) + tile[next_base + next_column] * along
    return upper * (1 - down) + lower * down


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Cubic ramp from 0 at `low` to 1 at `high`; `low` may be above `high`."""
    ramp = np.clip((value - low) / (high - low), 0.0, 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def forest_cover(terrain: Terrain, x_m: np.ndarray, z_m: np.ndarray) -> np.ndarray:
    """Where the forest roof stands, in [0, 1], same shape as `x_m`."""
    patches = smooth_texture((x_m + terrain.offset[1]) / 260.0, (z_m - terrain.offset[0]) / 260.0)
    limit = 3.0 * (terrain.canopy_cover - 0.5)
    start = smoothstep(terrain.canopy_start_m, terrain.canopy_start_m * 1.15, np.hypot(x_m, z_m) + 12.0 * patches)
    return start * smoothstep(limit + 0.1, limit - 0.1, patches)


def _mountains(terrain: Terrain, x_m: np.ndarray, z_m: np.ndarray, distance_m: np.ndarray) -> np.ndarray:
    across = (x_m + terrain.offset[0]) / terrain.mountain_scale_m
    along = (z_m + terrain.offset[1]) / terrain.mountain_scale_m
    wave = smooth_texture(across, along, MOUNTAIN_EXPONENT)
    shape = 0.45 + 0.4 * wave
    if terrain.ridged > 0.0:
        crests = 1.0 - 0.8 * np.abs(wave) + 0.15 * smooth_texture(along * 2.3, across * 2.3, SMOOTH_EXPONENT)
        shape = shape + terrain.ridged * (crests - shape)
    height = terrain.mountain_m * np.maximum(shape, 0.0)
    if terrain.terrace_m > 0.0:
        level = height / terrain.terrace_m
        height = terrain.terrace_m * (np.floor(level) + smoothstep(0.7, 0.95, level - np.floor(level)))
        height = height + 0.02 * terrain.mountain_m * wave
    return height * smoothstep(terrain.mountain_start_m, 2.6 * terrain.mountain_start_m, distance_m)


def terrain_height(terrain: Terrain, x_m: np.ndarray, z_m: np.ndarray) -> np.ndarray:
    """Height of the ground (or of the water or forest roof above it) in metres, same shape as `x_m`."""
    x_m, z_m = np.asarray(x_m, np.float32), np.asarray(z_m, np.float32)
    distance_m = np.hypot(x_m, z_m)
    height = np.zeros_like(distance_m)
    if terrain.rolling_m > 0.0:
        hills = smooth_texture((x_m + terrain.offset[0]) / terrain.rolling_scale_m,
                               (z_m + terrain.offset[1]) / terrain.rolling_scale_m)
        height += terrain.rolling_m * hills * smoothstep(terrain.flat_m, 4.0 * terrain.flat_m, distance_m)
    if terrain.shore is not None:
        normal_x, normal_z, shore_m = terrain.shore
        wobble = 9.0 * smooth_texture((x_m + terrain.offset[0]) / 120.0, (z_m + terrain.offset[1]) / 120.0)
        seaward = x_m * normal_x + z_m * normal_z - shore_m + wobble * np.minimum(distance_m / 60.0, 1.5)
        height += np.clip(-0.09 * seaward, -60.0, 3.2) - 60.0 * smoothstep(60.0, 300.0, seaward)
    if terrain.mountain_m > 0.0:
        height += _mountains(terrain, x_m, z_m, distance_m)
    if terrain.canopy_m > 0.0:
        roof = 0.8 + 0.22 * texture(x_m / 19.0 + 0.37, z_m / 19.0 + 0.71)
        height += terrain.canopy_m * roof * forest_cover(terrain, x_m, z_m)
    if terrain.water_level_m is not None:
        height = np.maximum(height, np.float32(terrain.water_level_m))
    return height.astype(np.float32)
