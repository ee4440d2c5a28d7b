"""Rendered outdoor scenes with the exact distance of every pixel.

The scenes stand in for photographs of clear days where nothing may be downloaded: streets, villages, farmland,
mountains, coasts, parks and city views, composed at random. A height field is intersected column by column, solids
and foliage are tested against its depth, and colours are computed for the visible points only. There is no air in
them: an added haze is the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cut_tf.data.noise import smoothstep, terrain_height, texture
from cut_tf.data.rendering import ground, objects
from cut_tf.data.rendering.composition import SceneSpecification, compose_scene
from cut_tf.data.rendering.objects import GeometryBuffer, Rays

if TYPE_CHECKING:
    from cut_tf.data.rendering.furniture import RoomSpecification

SKY_DEPTH_M = 1000.0
# The height field ends here, so that even a steep ray to a summit is shorter than the sky's depth.
TERRAIN_END_M = 780.0
TERRAIN_START_M = 0.9
TERRAIN_STEPS = 176
MINIMUM_SIDE_PX = 16
SUPERSAMPLING = 2
SKY_NUMBER, GROUND_NUMBER, FIRST_OBJECT = -1, 0, 1
DISPLAY_GAMMA = 2.2


class Scene(NamedTuple):
    """`image`: uint8 [H, W, 3] sRGB; `depth_m`: float32 [H, W], metres along the ray, `SKY_DEPTH_M` for the sky."""

    image: np.ndarray
    depth_m: np.ndarray


class _TerrainGrid(NamedTuple):
    """Height field sampled at forward distances z_m [N] under each column; `facing` is 0 in shadow."""

    z_m: np.ndarray
    x_m: np.ndarray
    height_m: np.ndarray
    steepness: np.ndarray
    facing: np.ndarray


def render_scene(seed: int, index: int, height: int, width: int) -> Scene:
    """Renders scene number `index` of the collection `seed`.

    The same arguments give the same picture; other sizes show the same scene with more or less detail, cropped about
    the centre where the aspect ratio differs.

    Args:
        seed: collection, >= 0.
        index: scene within the collection, >= 0.
        height: rows of the picture, >= 16.
        width: columns of the picture, >= 16.

    Returns:
        `Scene(image, depth_m)`: uint8 [height, width, 3] and float32 [height, width]. A pixel that shows an edge holds
        a mixed colour, and the depth of the second nearest of its four samples.

    Raises:
        ValueError: if an argument is not an integer in its range.
    """
    check_arguments(seed, index, height, width)
    specification = compose_scene(np.random.default_rng([int(seed), int(index)]))
    rays = view_rays(specification, SUPERSAMPLING * int(height), SUPERSAMPLING * int(width))
    colour, distance_m = _render_samples(specification, rays)
    return Scene(develop(colour, specification.exposure), second_nearest(distance_m))


def check_arguments(seed: int, index: int, height: int, width: int) -> None:
    """Raises ValueError if an argument of `render_scene` is not an integer in its range."""
    for name, value, least in (("seed", seed, 0), ("index", index, 0), ("height", height, MINIMUM_SIDE_PX),
                               ("width", width, MINIMUM_SIDE_PX)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def view_rays(specification: SceneSpecification | RoomSpecification, rows: int, columns: int) -> Rays:
    """The rays of rows x columns samples, for the specification's `focal`, `lens_shift` and `eye_m`."""
    side = max(rows, columns)
    focal_px = specification.focal * side
    u = (np.arange(columns) + 0.5 - 0.5 * columns) / focal_px
    v = (0.5 * rows - np.arange(rows) - 0.5 + specification.lens_shift * side) / focal_px
    return Rays(u.astype(np.float32), v.astype(np.float32), specification.eye_m, 1.0 / focal_px)


def _terrain_grid(specification: SceneSpecification, rays: Rays) -> _TerrainGrid:
    z_m = np.geomspace(TERRAIN_START_M, TERRAIN_END_M, TERRAIN_STEPS).astype(np.float32)
    x_m = z_m[:, None] * rays.u[None, :]
    height_m = terrain_height(specification.terrain, x_m, np.broadcast_to(z_m[:, None], x_m.shape))
    along_u = np.gradient(height_m, rays.u[1] - rays.u[0], axis=1)
    rise_x = along_u / z_m[:, None]
    rise_z = np.gradient(height_m, z_m, axis=0) - rays.u[None, :] * rise_x
    steepness = np.hypot(rise_x, rise_z)
    sun = specification.light.direction
    facing = (sun[1] - rise_x * sun[0] - rise_z * sun[2]) / np.sqrt(1.0 + steepness ** 2)
    lit = np.ones_like(height_m)
    for shadow in specification.shadows:
        objects.cast_shadow(lit, x_m, z_m, *shadow, light=specification.light)
    return _TerrainGrid(z_m, x_m, height_m, steepness.astype(np.float32),
                        (np.maximum(facing, 0.0) * lit).astype(np.float32))


def _meet_terrain(grid: _TerrainGrid, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Forward distance [H, W] (inf: sky) and the grid step [H, W] beyond the point where each ray meets the ground."""
    steps, columns = grid.height_m.shape
    rows = rays.v.size
    slope = (grid.height_m - rays.eye_m) / grid.z_m[:, None]
    first_row = np.searchsorted(-rays.v, -slope.ravel(), side="left").reshape(slope.shape)
    step = np.full((rows + 1, columns), steps, np.int32)
    order = np.arange(steps - 1, -1, -1)
    # Nearer steps are written last and so win their row; the running minimum carries them down the column.
    column = np.broadcast_to(np.arange(columns), slope.shape)
    step[first_row[order].ravel(), column.ravel()] = np.repeat(order, columns)
    step = np.minimum.accumulate(step[:rows], axis=0)
    after, before = np.clip(step, 1, steps - 1), np.clip(step, 1, steps - 1) - 1
    column = np.arange(columns)[None, :]
    z_before, z_after = grid.z_m[before], grid.z_m[after]
    height_before, height_after = grid.height_m[before, column], grid.height_m[after, column]
    grade = (height_after - height_before) / (z_after - z_before)
    closing = np.minimum(rays.v[:, None] - grade, -1e-6)
    z_m = (height_before - grade * z_before - rays.eye_m) / closing
    z_m = np.clip(z_m, z_before, z_after)
    return np.where(step == steps, np.inf, z_m).astype(np.float32), after


def _render_samples(specification: SceneSpecification, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB [H, W, 3] and distance along the ray [H, W] in metres, one sample per ray."""
    grid = _terrain_grid(specification, rays)
    z_m, step = _meet_terrain(grid, rays)
    number = np.where(np.isinf(z_m), SKY_NUMBER, GROUND_NUMBER).astype(np.int32)
    buffer = GeometryBuffer(z_m, number, np.zeros(z_m.shape, np.float32))
    ground_m = z_m.copy()
    normals = np.array([objects.draw_solid(solid, FIRST_OBJECT + place, rays, buffer)
                        for place, solid in enumerate(specification.solids)]).reshape(-1, objects.FACES, 3)
    first_blob = FIRST_OBJECT + len(specification.solids)
    for place, blob in enumerate(specification.blobs):
        objects.draw_blob(blob, first_blob + place, rays, buffer, specification.light)
    colour = _shade(specification, rays, grid, step, buffer, normals)
    if specification.terrain.water_level_m is not None:
        _add_water(specification, rays, buffer, ground_m, colour)
    length = np.sqrt(1.0 + rays.u[None, :] ** 2 + rays.v[:, None] ** 2)
    return colour, np.minimum(buffer.z_m * length, np.float32(SKY_DEPTH_M))


def _points(rays: Rays, row: np.ndarray, column: np.ndarray, z_m: np.ndarray) -> np.ndarray:
    return np.stack([rays.u[column] * z_m, rays.eye_m + rays.v[row] * z_m, z_m], axis=1).astype(np.float32)


def _shade(specification: SceneSpecification, rays: Rays, grid: _TerrainGrid, step: np.ndarray,
           buffer: GeometryBuffer, normals: np.ndarray) -> np.ndarray:
    light, number = specification.light, buffer.number
    colour = np.empty(number.shape + (3,), np.float32)
    row, column = np.nonzero(number == SKY_NUMBER)
    colour[row, column] = ground.sky_colour(specification.sky, light, rays.u[column], rays.v[row])
    row, column = np.nonzero(number == GROUND_NUMBER)
    z_m, after = buffer.z_m[row, column], step[row, column]
    share = np.clip((z_m - grid.z_m[after - 1]) / (grid.z_m[after] - grid.z_m[after - 1]), 0.0, 1.0)
    facing = grid.facing[after - 1, column] * (1 - share) + grid.facing[after, column] * share
    albedo = ground.ground_albedo(specification.ground, specification.terrain, _points(rays, row, column, z_m),
                                  grid.steepness[after, column], z_m * rays.pitch * SUPERSAMPLING)
    colour[row, column] = albedo * (facing[:, None] * light.sun_rgb + 0.95 * light.sky_rgb)
    first_blob = FIRST_OBJECT + len(specification.solids)
    row, column = np.nonzero((number >= FIRST_OBJECT) & (number < first_blob))
    if row.size:
        z_m = buffer.z_m[row, column]
        colour[row, column] = objects.shade_solids(
            specification.solids, normals, FIRST_OBJECT, _points(rays, row, column, z_m), number[row, column],
            buffer.detail[row, column], z_m * rays.pitch * SUPERSAMPLING, light)
    row, column = np.nonzero(number >= first_blob)
    if row.size:
        colour[row, column] = objects.shade_blobs(specification.blobs, first_blob, number[row, column],
                                                  buffer.detail[row, column], light)
    return colour


def _add_water(specification: SceneSpecification, rays: Rays, buffer: GeometryBuffer, ground_m: np.ndarray,
               colour: np.ndarray) -> None:
    """Replaces ground at the water level by water that mirrors the picture above it."""
    level_m = specification.terrain.water_level_m
    row, column = np.nonzero((buffer.number == GROUND_NUMBER) & (rays.v[:, None] < 0.0))
    place_m = _points(rays, row, column, ground_m[row, column])
    wet = place_m[:, 1] < level_m + 0.012
    row, column, place_m = row[wet], column[wet], place_m[wet]
    if not row.size:
        return
    bed = specification.terrain._replace(water_level_m=None)
    depth_m = level_m - terrain_height(bed, place_m[:, 0], place_m[:, 2])
    ripples = 0.02 * texture(place_m[:, 0] / 4.0, place_m[:, 2] / 1.5) * smoothstep(400.0, 20.0, place_m[:, 2])
    mirror_v = np.maximum(-rays.v[row] * (1.0 + ripples) + 0.4 * ripples, 0.0)
    mirror_row = np.searchsorted(-rays.v, -mirror_v).clip(0, rays.v.size - 1)
    mirrored = colour[mirror_row, column]
    # Above the picture's edge, and where something nearer than the shore hides the mirrored view, the sky is reflected.
    hidden = (mirror_v > rays.v[0]) | (buffer.z_m[mirror_row, column] < 0.9 * place_m[:, 2])
    sky = ground.sky_colour(specification.sky, specification.light, rays.u[column[hidden]], mirror_v[hidden])
    mirrored[hidden] = sky
    colour[row, column] = ground.water_colour(specification.ground, specification.light, mirrored, place_m,
                                              rays.v[row], depth_m, specification.terrain.shore is not None)


def develop(colour: np.ndarray, exposure: float) -> np.ndarray:
    """Averages the samples of each pixel in linear light and applies exposure, shoulder and display gamma."""
    rows, columns = colour.shape[0] // SUPERSAMPLING, colour.shape[1] // SUPERSAMPLING
    linear = np.minimum(colour * np.float32(exposure), 1.4)
    linear = linear.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING, 3).mean(axis=(1, 3))
    bright = np.maximum(linear - 0.7, 0.0)
    linear = np.minimum(linear, 0.7) + 0.3 * (1.0 - np.exp(-bright / 0.3))
    display = np.clip(linear, 0.0, 1.0) ** np.float32(1.0 / DISPLAY_GAMMA)
    # A camera's tone curve: deeper shadows than plain gamma.
    display = display + 0.45 * (display * display * (3.0 - 2.0 * display) - display)
    return np.rint(255.0 * display).astype(np.uint8)


def second_nearest(distance_m: np.ndarray) -> np.ndarray:
    """The second smallest of each pixel's four samples [H, W]: an actual surface, not a mean between two."""
    first, second = distance_m[0::2, 0::2], distance_m[0::2, 1::2]
    third, fourth = distance_m[1::2, 0::2], distance_m[1::2, 1::2]
    upper_low, upper_high = np.minimum(first, second), np.maximum(first, second)
    lower_low, lower_high = np.minimum(third, fourth), np.maximum(third, fourth)
    return np.minimum(np.maximum(upper_low, lower_low), np.minimum(upper_high, lower_high)).astype(np.float32)
