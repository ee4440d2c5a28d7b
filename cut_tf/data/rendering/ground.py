"""Colours of the ground, the water and the sky of the rendered scenes, all linear RGB."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cut_tf.data.noise import ROUGH_EXPONENT, Terrain, forest_cover, hash_cells, smooth_texture, smoothstep, texture
from cut_tf.data.rendering.objects import Colour, Light

ASPHALT_RGB = np.array([0.060, 0.061, 0.065], np.float32)
DIRT_RGB = np.array([0.24, 0.16, 0.09], np.float32)
PAVEMENT_RGB = np.array([0.25, 0.235, 0.215], np.float32)
PAINT_RGB = np.array([0.70, 0.70, 0.66], np.float32)
SNOW_RGB = np.array([0.78, 0.82, 0.88], np.float32)
# Heights above the water at which wet sand turns dry and sand gives way to plants.
DRY_SAND_M, PLANTS_M = 0.4, 1.9


class Road(NamedTuple):
    """A road whose centre is x = x0 + heading * z + bend * sin(z / bend_length + phase), in metres."""

    x0_m: float
    half_width_m: float
    heading: float = 0.0
    bend_m: float = 0.0
    bend_length_m: float = 40.0
    phase: float = 0.0
    pavement_m: float = 0.0
    paved: bool = True
    marked: bool = True
    crossing_m: float = -1.0

    def centre_m(self, z_m: np.ndarray | float) -> np.ndarray | float:
        """x of the road's centre at forward distance `z_m`."""
        return self.x0_m + self.heading * z_m + self.bend_m * np.sin(z_m / self.bend_length_m + self.phase)


class Ground(NamedTuple):
    """What covers the height field: two plant colours mixed in patches, rock on slopes, forest, parcels, snow."""

    plants_rgb: Colour
    dry_rgb: Colour
    rock_rgb: Colour = (0.20, 0.18, 0.16)
    forest_rgb: Colour = (0.035, 0.065, 0.02)
    sand_rgb: Colour = (0.52, 0.42, 0.28)
    water_rgb: Colour = (0.012, 0.05, 0.06)
    rock_slope: float = 0.75
    snow_line_m: float = 1e6
    parcel_m: float = 0.0
    parcel_rgb: tuple[Colour, ...] = ()
    parcel_yaw: float = 0.0
    strata: float = 0.0
    road: Road | None = None


class Sky(NamedTuple):
    """Colours overhead and at the horizon, clouds (`cover` 0 none to 1 full) and the tint of lit cloud tops."""

    zenith_rgb: Colour
    horizon_rgb: Colour
    cloud_rgb: Colour
    cover: float
    cloud_scale: float
    offset: float


def _blend(base: np.ndarray, other, weight: np.ndarray) -> np.ndarray:
    return base + (np.asarray(other, np.float32) - base) * weight[:, None].astype(np.float32)


def sky_colour(sky: Sky, light: Light, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Linear RGB [M, 3] of the sky seen along rays (u, v, 1), given as [M] each."""
    length = np.sqrt(1.0 + u * u + v * v)
    rise = np.maximum(v, 0.0) / length
    clear = np.asarray(sky.horizon_rgb, np.float32)
    colour = clear + (np.asarray(sky.zenith_rgb, np.float32) - clear) * ((1.0 - np.exp(-4.0 * rise))[:, None])
    towards_sun = np.maximum((u * light.direction[0] + v * light.direction[1] + light.direction[2]) / length, 0.0)
    glow = 0.28 * towards_sun ** 10 + 0.55 * towards_sun ** 90 + 6.0 * smoothstep(0.9994, 0.9998, towards_sun)
    colour = colour + glow[:, None].astype(np.float32) * light.sun_rgb
    if sky.cover > 0.0:
        # Clouds lie on a level sheet, so they shrink and crowd towards the horizon.
        nearness = sky.cloud_scale / (np.maximum(v, 0.0) + 0.09)
        across, along = u * nearness + sky.offset, nearness + 0.7 * sky.offset
        density = smooth_texture(across, along, 1.75)
        lit = smooth_texture(across - 0.03 * light.direction[0], along + 0.03, 1.75)
        limit = 1.6 - 3.0 * sky.cover
        weight = smoothstep(limit, limit + 1.1, density) * smoothstep(-0.02, 0.10, v)
        shade = np.clip(0.80 + 0.5 * (density - lit) - 0.16 * np.maximum(density - limit, 0.0), 0.42, 1.05)
        colour += (shade[:, None] * np.asarray(sky.cloud_rgb, np.float32) - colour) * (0.94 * weight[:, None])
    return colour.astype(np.float32)


def _paint_road(albedo: np.ndarray, road: Road, x: np.ndarray, z: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    off = x - road.centre_m(z)
    ragged = 0.0 if road.paved else 0.35 * texture(x / 3.1, z / 3.1)
    gap = np.abs(off) + ragged
    grain = texture(x / 2.3 + 0.17, z / 2.3)
    if road.pavement_m > 0.0:
        slabs = (np.abs((z / 1.2) % 1.0 - 0.5) > 0.46) & (footprint_m < 0.15)
        stone = PAVEMENT_RGB * ((1.0 + 0.10 * grain) * np.where(slabs, 0.75, 1.0))[:, None]
        weight = smoothstep(road.half_width_m + road.pavement_m + 0.1, road.half_width_m + road.pavement_m, gap)
        albedo = albedo + (stone - albedo) * weight[:, None]
        albedo = _blend(albedo, PAVEMENT_RGB * 1.35, (np.abs(gap - road.half_width_m - 0.12) < 0.14).astype(np.float32))
    if road.paved:
        tracks = 0.09 * np.cos(np.abs(off) * (4.0 * np.pi / road.half_width_m))
        surface = ASPHALT_RGB * (1.0 + 0.16 * grain - tracks)[:, None]
    else:
        ruts = 0.25 * np.exp(-((np.abs(off) - 0.55 * road.half_width_m) / 0.28) ** 2)
        surface = DIRT_RGB * (1.0 + 0.16 * grain - ruts)[:, None]
    albedo = albedo + (surface - albedo) * smoothstep(road.half_width_m + 0.06, road.half_width_m - 0.06, gap)[:, None]
    if road.marked:
        wear = 0.8 + 0.15 * grain
        dashes = (np.abs(off) < 0.09) & ((z / 6.0) % 1.0 < 0.5)
        edges = np.abs(np.abs(off) - road.half_width_m + 0.35) < 0.07
        stripes = (np.abs(z - road.crossing_m) < 1.6) & (gap < road.half_width_m - 0.3) & ((off / 1.0) % 1.0 < 0.5)
        albedo = _blend(albedo, PAINT_RGB, wear * (dashes | edges | stripes) * smoothstep(0.9, 0.25, footprint_m))
    return albedo


def _parcels(ground: Ground, x: np.ndarray, z: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """Fields: one crop per parcel, sown in rows, with a rank strip along the boundaries."""
    cosine, sine = np.cos(ground.parcel_yaw), np.sin(ground.parcel_yaw)
    across, along = (x * cosine + z * sine) / ground.parcel_m, (z * cosine - x * sine) / (1.6 * ground.parcel_m)
    across = across + 0.05 * smooth_texture(along * 0.21, across * 0.21)
    column, row = np.floor(across), np.floor(along)
    pick = hash_cells(column + 400, row + 700)
    crop = np.asarray(ground.parcel_rgb, np.float32)[(pick * len(ground.parcel_rgb)).astype(np.int64)]
    rows_m = 0.7 + 1.3 * hash_cells(row, column)
    furrow = np.cos(across * ground.parcel_m * (2.0 * np.pi / rows_m)) * smoothstep(0.5, 0.1, footprint_m / rows_m)
    crop = crop * (1.0 + 0.28 * furrow + 0.10 * texture(x / 7.0, z / 7.0))[:, None]
    border = np.minimum(0.5 - np.abs(across - column - 0.5), 1.6 * (0.5 - np.abs(along - row - 0.5))) * ground.parcel_m
    return _blend(crop, 0.6 * np.asarray(ground.forest_rgb, np.float32) + 0.02, 0.8 * smoothstep(1.6, 0.9, border))


def ground_albedo(ground: Ground, terrain: Terrain, place_m: np.ndarray, steepness: np.ndarray,
                  footprint_m: np.ndarray) -> np.ndarray:
    """Reflectance [M, 3] at world points `place_m` [M, 3] of slope `steepness` [M] (rise over run).

    `footprint_m` [M] is the size of a pixel on the ground, below which texture would only flicker.
    """
    x, y, z = place_m[:, 0], place_m[:, 1], place_m[:, 2]
    shift_x, shift_z = terrain.offset
    patches = smooth_texture((x + shift_x) / 55.0, (z + shift_z) / 55.0, 1.6)
    fine, tufts = texture(x / 2.9, z / 2.9), texture(x / 11.0 + 0.5, z / 11.0)
    albedo = _blend(np.asarray(ground.plants_rgb, np.float32)[None, :], ground.dry_rgb,
                    smoothstep(-1.0, 1.3, patches + 0.5 * tufts))
    if ground.parcel_m > 0.0:
        flat_enough = smoothstep(0.45, 0.3, steepness)
        albedo = albedo + (_parcels(ground, x, z, footprint_m) - albedo) * flat_enough[:, None]
    blades = texture(x / 0.55, z / 0.9) * smoothstep(0.10, 0.012, footprint_m)
    albedo = albedo * (1.0 + 0.26 * blades + 0.22 * fine * smoothstep(0.4, 0.05, footprint_m) + 0.13 * tufts)[:, None]
    if terrain.mountain_m > 0.0:
        rock = np.asarray(ground.rock_rgb, np.float32) * (1.0 + 0.22 * texture(x / 40.0, (y + z) / 40.0))[:, None]
        if ground.strata > 0.0:
            layers = texture(y / 60.0 + 0.01 * fine, 0.02 * y)
            rock = rock * (1.0 + ground.strata * 0.28 * layers)[:, None]
        bare = smoothstep(ground.rock_slope - 0.2, ground.rock_slope + 0.2, steepness + 0.10 * tufts)
        albedo = albedo + (rock - albedo) * bare[:, None]
        level = y + 0.10 * terrain.mountain_m * (0.6 * patches + 0.7 * tufts)
        snow = smoothstep(ground.snow_line_m, ground.snow_line_m + 14.0, level) * smoothstep(1.9, 1.0, steepness)
        albedo = _blend(albedo, SNOW_RGB, snow)
    if terrain.canopy_m > 0.0:
        crowns = 1.0 + 0.45 * texture(x / 19.0 + 0.37, z / 19.0 + 0.71)
        leaves = np.asarray(ground.forest_rgb, np.float32) * np.clip(crowns, 0.3, 2.0)[:, None]
        albedo = albedo + (leaves - albedo) * forest_cover(terrain, x, z)[:, None]
    if terrain.shore is not None:
        above = y - terrain.water_level_m + 0.12 * tufts
        sand = np.asarray(ground.sand_rgb, np.float32) * (0.55 + 0.45 * smoothstep(0.1, DRY_SAND_M, above)
                                                          + 0.05 * fine + 0.06 * blades)[:, None]
        albedo = albedo + (sand - albedo) * smoothstep(PLANTS_M + 0.4, PLANTS_M - 0.4, above)[:, None]
    if ground.road is not None:
        albedo = _paint_road(albedo, ground.road, x, z, footprint_m)
    return np.maximum(albedo, 0.004)


def water_colour(ground: Ground, light: Light, mirrored: np.ndarray, place_m: np.ndarray, v: np.ndarray,
                 shore_depth_m: np.ndarray, surf: bool) -> np.ndarray:
    """Linear RGB [M, 3] of water that reflects `mirrored` [M, 3]; `v` [M] is the (negative) slope of the ray.

    `shore_depth_m` [M] is the depth of the bed; with `surf`, foam lies where it runs out.
    """
    x, z = place_m[:, 0], place_m[:, 2]
    waves = texture(x / 9.0, z / 3.0) + 0.6 * smooth_texture(x / 60.0, z / 25.0, ROUGH_EXPONENT)
    grazing = 1.0 - np.clip(-v + 0.02 * waves, 0.0, 1.0)
    fresnel = np.clip(0.03 + 0.75 * grazing ** 7 - 0.10 * np.maximum(waves, 0.0), 0.02, 0.8)
    irradiance = light.sky_rgb + light.sun_rgb * max(light.direction[1], 0.0)
    shallow = np.exp(-np.maximum(shore_depth_m, 0.0) / 1.1)
    body = _blend(np.asarray(ground.water_rgb, np.float32)[None, :], 0.35 * np.asarray(ground.sand_rgb) + 0.02, shallow)
    body = body * irradiance
    colour = body + (mirrored - body) * fresnel[:, None]
    if not surf:
        return colour
    return _blend(colour, 0.75 * irradiance, smoothstep(0.12, 0.03, shore_depth_m + 0.05 * waves))
