"""Rendered rooms with the exact distance of every pixel: what is indoors, where the outdoor scenes have streets.

A room is a box seen from within, and all that is in it consists of boxes, so that each ray's distance is that to a
plane. Light comes from lamps, windows and everywhere (a constant); shadows fall where furniture touches the floor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cut_tf.data.noise import SMOOTH_EXPONENT, hash_cells, smoothstep, texture
from cut_tf.data.rendering import furniture
from cut_tf.data.rendering.furniture import Box, RoomSpecification, compose_room
from cut_tf.data.rendering.objects import FACE_TOP, FACE_UNDERSIDE, FACES, GeometryBuffer, Rays, Solid, draw_solid
from cut_tf.data.rendering.renderer import SUPERSAMPLING, Scene, check_arguments, develop, second_nearest, view_rays

# Faces of the room, as those of a solid: right, left, back and front wall, then floor and ceiling.
_FLOOR, _CEILING = 4, 5
_ROOM, _FIRST_BOX = 0, 1
# Keeps rooms apart from the outdoor scenes of the same seed and number.
_STREAM = 77


class _Points(NamedTuple):
    """Of M samples: places in the camera's frame [M, 3], normals [M, 3], coordinates on the face [M] and pattern."""

    place_m: np.ndarray
    normal: np.ndarray
    along_m: np.ndarray
    up_m: np.ndarray
    size_m: np.ndarray
    pattern: np.ndarray
    rgb: np.ndarray
    rgb2: np.ndarray
    scale_m: np.ndarray
    number: np.ndarray
    level: np.ndarray
    footprint_m: np.ndarray


def render_room(seed: int, index: int, height: int, width: int) -> Scene:
    """Renders room number `index` of the collection `seed`. Arguments, result and errors are those of `render_scene`.

    Distances are about 0.5 to 9 m, as in NYU Depth v2; there is no sky.
    """
    check_arguments(seed, index, height, width)
    room = compose_room(np.random.default_rng([int(seed), int(index), _STREAM]))
    rays = view_rays(room, SUPERSAMPLING * int(height), SUPERSAMPLING * int(width))
    colour, distance_m = render_samples(room, rays)
    exposure = room.brightness / max(float(np.median(colour)), 1e-3)
    return Scene(develop(colour, exposure), second_nearest(distance_m))


def render_samples(room: RoomSpecification, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB [H, W, 3] and distance along the ray [H, W] in metres, one sample per ray."""
    z_m, face = _meet_walls(room, rays)
    buffer = GeometryBuffer(z_m, np.full(z_m.shape, _ROOM, np.int32), face.astype(np.float32))
    solids = [_solid(room, box) for box in room.boxes]
    normals = np.array([draw_solid(solid, _FIRST_BOX + place, rays, buffer) for place, solid in enumerate(solids)])
    colour = np.empty((*z_m.shape, 3), np.float32)
    for inside in (buffer.number == _ROOM, buffer.number >= _FIRST_BOX):
        row, column = np.nonzero(inside)
        if row.size:
            place_m = np.stack([rays.u[column], rays.v[row], np.ones(row.size, np.float32)], axis=1) \
                * buffer.z_m[row, column, None] + np.array([0.0, rays.eye_m, 0.0], np.float32)
            which, faces = buffer.number[row, column] - _FIRST_BOX, buffer.detail[row, column].astype(np.int64)
            footprint_m = buffer.z_m[row, column] * rays.pitch * SUPERSAMPLING
            points = (_room_points(room, place_m, faces, footprint_m) if which[0] < 0 else
                      _box_points(room, solids, normals, place_m, which, faces, footprint_m))
            colour[row, column] = _shade(room, points, on_room=bool(which[0] < 0))
    length = np.sqrt(1.0 + rays.u[None, :] ** 2 + rays.v[:, None] ** 2)
    return colour, (buffer.z_m * length).astype(np.float32)


def _meet_walls(room: RoomSpecification, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    """Forward distance [H, W] at which each ray leaves the room, and the face [H, W] where it does."""
    across, along = _local(room, rays.u, np.ones_like(rays.u))  # of directions, so without the room's place
    here_x, here_z = _local(room, np.float32(-room.x_m), np.float32(-room.z_m))
    with np.errstate(divide="ignore"):
        walls = np.stack([np.where(slope > 0, (half - here) / slope, np.inf) for slope, here, half in (
            (across, here_x, room.half_width_m), (-across, -here_x, room.half_width_m),
            (along, here_z, room.half_length_m), (-along, -here_z, room.half_length_m))])
        level = np.where(rays.v < 0, rays.eye_m / -rays.v, (room.height_m - rays.eye_m) / rays.v)
    wall_z, wall_face = walls.min(axis=0)[None, :], walls.argmin(axis=0)[None, :]
    level_z, level_face = level[:, None], np.where(rays.v < 0, _FLOOR, _CEILING)[:, None]
    return np.minimum(wall_z, level_z).astype(np.float32), np.where(level_z < wall_z, level_face, wall_face)


def _local(room: RoomSpecification, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A direction in the camera's frame as one of the room's frame."""
    cosine, sine = np.cos(room.yaw), np.sin(room.yaw)
    return x * cosine + z * sine, z * cosine - x * sine


def _solid(room: RoomSpecification, box: Box) -> Solid:
    cosine, sine = np.cos(room.yaw), np.sin(room.yaw)
    return Solid(room.x_m + box.x_m * cosine - box.z_m * sine, room.z_m + box.x_m * sine + box.z_m * cosine,
                 box.half_width_m, box.half_length_m, box.base_m, box.height_m, room.yaw + box.yaw, sink_m=0.0)


def _room_points(room: RoomSpecification, place_m: np.ndarray, face: np.ndarray, footprint_m: np.ndarray) -> _Points:
    x_m, z_m = _local(room, place_m[:, 0] - room.x_m, place_m[:, 2] - room.z_m)
    cosine, sine = np.cos(room.yaw), np.sin(room.yaw)
    # They look into the room: against the solids' normals.
    inward = np.array([(-cosine, 0, -sine), (cosine, 0, sine), (sine, 0, -cosine), (-sine, 0, cosine), (0, 1, 0),
                       (0, -1, 0)], np.float32)
    surfaces = [room.walls] * 4 + [room.floor, room.ceiling]
    on_level = face >= _FLOOR
    on_side = face < 2
    traits = np.array([(surface.pattern, surface.scale_m, *surface.rgb, *surface.rgb2) for surface in surfaces],
                      np.float32)[face]
    sizes = np.array([2 * room.half_length_m] * 2 + [2 * room.half_width_m] * 4, np.float32)[face]
    return _Points(place_m, inward[face], np.where(on_side, z_m, x_m), np.where(on_level, z_m, place_m[:, 1]), sizes,
                   traits[:, 0], traits[:, 2:5], traits[:, 5:8], traits[:, 1], face + 1000, on_level, footprint_m)


def _box_points(room: RoomSpecification, solids: list[Solid], normals: np.ndarray, place_m: np.ndarray,
                which: np.ndarray, face: np.ndarray, footprint_m: np.ndarray) -> _Points:
    table = np.array([(solid.x_m, solid.z_m, np.cos(solid.yaw), np.sin(solid.yaw), solid.half_width_m,
                       solid.half_length_m, solid.base_m, box.pattern, box.scale_m, *box.rgb, *box.rgb2)
                      for solid, box in zip(solids, room.boxes)], np.float32)
    row = table[which]
    off_x, off_z = place_m[:, 0] - row[:, 0], place_m[:, 2] - row[:, 1]
    x_m, z_m = off_x * row[:, 2] + off_z * row[:, 3], off_z * row[:, 2] - off_x * row[:, 3]
    on_side, on_level = face < 2, (face == FACE_TOP) | (face == FACE_UNDERSIDE)
    size_m = 2.0 * np.where(on_side, row[:, 5], row[:, 4])
    return _Points(place_m, normals[which, face], np.where(on_side, z_m, x_m),
                   np.where(on_level, z_m, place_m[:, 1] - row[:, 6]), size_m, row[:, 7], row[:, 9:12], row[:, 12:15],
                   row[:, 8], which * FACES + face, on_level, footprint_m)


def _shade(room: RoomSpecification, points: _Points, on_room: bool) -> np.ndarray:
    """Linear RGB [M, 3]."""
    albedo, glow = _albedo(points)
    light = np.empty_like(albedo)
    light[:] = room.ambient
    light *= (0.75 + 0.25 * points.normal[:, 1])[:, None]
    cosine, sine = np.cos(room.yaw), np.sin(room.yaw)
    for (x_m, y_m, z_m), rgb in room.lamps:
        lamp = np.array([room.x_m + x_m * cosine - z_m * sine, y_m, room.z_m + x_m * sine + z_m * cosine], np.float32)
        towards = lamp - points.place_m
        squared = np.einsum("mi,mi->m", towards, towards)
        facing = np.maximum(np.einsum("mi,mi->m", towards, points.normal), 0.0) / np.sqrt(squared)
        # Lamps are not points: the nearest surfaces are no brighter than half a metre away.
        light += (facing / (0.25 + squared))[:, None] * np.array(rgb, np.float32)
    if on_room:
        light *= (_corners(room, points) * _contacts(room, points))[:, None]
    return np.where(glow[:, None] > 0, albedo * glow[:, None], albedo * light).astype(np.float32)


def _corners(room: RoomSpecification, points: _Points) -> np.ndarray:
    """Factor [M] that darkens the room where faces meet, since light comes from fewer sides there."""
    x_m, z_m = _local(room, points.place_m[:, 0] - room.x_m, points.place_m[:, 2] - room.z_m)
    y_m = points.place_m[:, 1]
    gaps = np.sort(np.stack([room.half_width_m - np.abs(x_m), room.half_length_m - np.abs(z_m), y_m,
                             room.height_m - y_m]), axis=0)[1]
    return 0.72 + 0.28 * smoothstep(0.0, 0.6, gaps)


def _contacts(room: RoomSpecification, points: _Points) -> np.ndarray:
    """Factor [M] of the soft shadows on the floor below and beside furniture."""
    factor = np.ones(points.place_m.shape[0], np.float32)
    floor = np.nonzero(points.level & (points.place_m[:, 1] < 0.01))[0]
    x_m, z_m = _local(room, points.place_m[floor, 0] - room.x_m, points.place_m[floor, 2] - room.z_m)
    shade = np.ones(floor.size, np.float32)
    for box in room.boxes:
        if box.base_m > 0.8 or max(box.half_width_m, box.half_length_m) < 0.1 or box.height_m < 0.02:
            continue
        cosine, sine = np.cos(box.yaw), np.sin(box.yaw)
        off_x, off_z = x_m - box.x_m, z_m - box.z_m
        across = np.maximum(np.abs(off_x * cosine + off_z * sine) - box.half_width_m, 0.0)
        along = np.maximum(np.abs(off_z * cosine - off_x * sine) - box.half_length_m, 0.0)
        reach_m = 0.15 + 0.4 * box.base_m
        shade *= 1.0 - (0.6 - 0.4 * box.base_m) * smoothstep(reach_m, 0.0, np.hypot(across, along))
    factor[floor] = shade
    return factor


def _albedo(points: _Points) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance [M, 3], and own brightness [M] of what glows, 0 elsewhere."""
    along, up = points.along_m, points.up_m
    grain = texture(along / 2.0 + 0.37 * points.number, up / 2.0)
    albedo = points.rgb * (0.97 + 0.04 * grain)[:, None]
    for pattern, paint in _PAINTS.items():
        pick = np.nonzero(points.pattern == pattern)[0]
        if pick.size:
            chosen = _Points(*(value[pick] for value in points))
            albedo[pick] = paint(chosen, albedo[pick])
    window = points.pattern == furniture.WINDOW
    # Sky above, greenery below, and the cross of the frame.
    height = np.clip(up / 1.2, 0.0, 1.0)
    frame = (np.abs(along) > 0.46 * points.size_m) | (np.abs(along) < 0.025) | (up < 0.05)
    outside = np.where((height + 0.15 * grain > 0.35)[:, None], (0.85, 0.95, 1.05), (0.30, 0.42, 0.18))
    albedo = np.where((window & ~frame)[:, None], outside, np.where((window & frame)[:, None], points.rgb2, albedo))
    glow = np.where(window & ~frame, 0.9 + 0.1 * grain, 0.0)
    return albedo.astype(np.float32), glow.astype(np.float32)


def _fade(points: _Points, size_m: np.ndarray) -> np.ndarray:
    """1 where a detail of that size can be seen, 0 where it is smaller than a pixel [M, 1]."""
    return smoothstep(0.7, 2.5, size_m / points.footprint_m)[:, None]


def _wood(points: _Points, albedo: np.ndarray) -> np.ndarray:
    """Grain along the longer direction; floors are laid in boards."""
    board = np.floor(points.along_m / 0.14)
    rings = texture(points.along_m / 0.35 + 0.21 * points.number, points.up_m / 4.0 + 0.3 * board)
    tone = 0.9 + 0.22 * (hash_cells(board, np.floor(points.up_m / 1.3 + 0.37 * board), points.number) - 0.5)
    is_floor = points.level & (points.number >= 1000)
    gap = is_floor & (np.abs(points.along_m / 0.14 - board - 0.5) > 0.47)
    seen = _fade(points, np.full_like(points.footprint_m, 0.02))
    shade = np.where(is_floor, tone, 1.0) * np.where(gap, 0.65, 1.0) + 0.1 * rings
    return albedo * (seen * shade[:, None] + (1.0 - seen) * 0.95)


def _fabric(points: _Points, albedo: np.ndarray) -> np.ndarray:
    rough = texture(points.along_m / 0.25 + 0.13 * points.number, points.up_m / 0.25)
    folds = texture(points.along_m / 1.5, points.up_m / 1.5 + 0.7 * points.number, SMOOTH_EXPONENT)
    return albedo * (0.95 + 0.07 * rough + 0.08 * folds)[:, None]


def _tiles(points: _Points, albedo: np.ndarray) -> np.ndarray:
    across, upward = points.along_m / points.scale_m, points.up_m / points.scale_m
    column, row = np.floor(across), np.floor(upward)
    grout = np.maximum(np.abs(across - column - 0.5), np.abs(upward - row - 0.5)) > 0.475
    tone = 0.92 + 0.16 * hash_cells(column, row, points.number)
    seen = _fade(points, 0.06 * points.scale_m)
    tiled = albedo * np.where(grout, 0.6, tone)[:, None]
    return seen * tiled + (1.0 - seen) * albedo * 0.95


def _stripes(points: _Points, albedo: np.ndarray) -> np.ndarray:
    second = (points.along_m / points.scale_m) % 1.0 < 0.5
    seen = _fade(points, points.scale_m)
    mixed = 0.5 * (albedo + points.rgb2)
    return seen * np.where(second[:, None], points.rgb2, albedo) + (1.0 - seen) * mixed


def _books(points: _Points, albedo: np.ndarray) -> np.ndarray:
    """Upright backs of many colours and two widths."""
    cell = np.floor(points.along_m / points.scale_m + 0.4 * np.floor(points.along_m / (7 * points.scale_m)))
    red, green, blue = (hash_cells(cell, np.full_like(cell, channel), points.number) for channel in range(3))
    colours = np.stack([red, green, blue], axis=1) ** 2 * 0.55 + 0.03
    low = points.up_m > 0.16 + 0.12 * hash_cells(cell, np.full_like(cell, 9), points.number)
    return np.where(low[:, None], 0.02, 0.75 * colours + 0.25 * albedo)


def _picture(points: _Points, albedo: np.ndarray) -> np.ndarray:
    """Soft shapes of two colours with a few hard edges."""
    shape = texture(points.along_m / (3 * points.scale_m) + 0.29 * points.number, points.up_m / (3 * points.scale_m),
                    SMOOTH_EXPONENT)
    share = np.clip(0.5 + 0.5 * shape, 0.0, 1.0)[:, None]
    edge = (texture(points.along_m / (4 * points.scale_m) + 0.7, points.up_m / (4 * points.scale_m) + points.number,
                    SMOOTH_EXPONENT) > 0.6)[:, None]
    mixed = share * albedo + (1.0 - share) * points.rgb2
    return np.where(edge, 0.35 * mixed + 0.4 * np.roll(points.rgb2, 1, axis=1), mixed)


def _doors(points: _Points, albedo: np.ndarray) -> np.ndarray:
    """Fronts with gaps and handles."""
    cells = np.maximum(np.round(points.size_m / points.scale_m), 1.0)
    place = (points.along_m / points.size_m + 0.5) * cells
    inside = place - np.floor(place)
    gap = (np.minimum(inside, 1.0 - inside) * points.size_m / cells < 0.008) & ~points.level
    handle = (np.abs(inside - 0.85) * points.size_m / cells < 0.012) & (np.abs(points.up_m % 1.0 - 0.6) < 0.06) \
        & ~points.level
    panel = np.where((np.minimum(inside, 1.0 - inside) > 0.12) & (points.up_m % 1.0 > 0.1), 0.93, 1.0)
    return np.where(handle[:, None], points.rgb2, albedo * np.where(gap, 0.35, panel)[:, None])


_PAINTS = {furniture.WOOD: _wood, furniture.FABRIC: _fabric, furniture.TILES: _tiles, furniture.STRIPES: _stripes,
           furniture.BOOKS: _books, furniture.PICTURE: _picture, furniture.DOORS: _doors}
