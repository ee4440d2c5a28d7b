"""Solids (houses, vehicles, poles) and foliage of the rendered scenes: intersection with the viewing rays and shading.

A pixel's ray is (u, v, 1) times the forward distance z in metres, from the camera at height `Rays.eye_m`. The picture
has no tilt: the horizon is moved by shifting the lens, so u belongs to a column, v to a row, and an upright wall's
distance is a function of the column alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cut_tf.data.noise import hash_cells, smoothstep, texture

Colour = tuple[float, float, float]

NEAREST_M = 0.4
# Faces of a solid: four walls, top, underside, four roof slopes.
FACE_TOP, FACE_UNDERSIDE, FIRST_SLOPE = 4, 5, 6
FACES = 10
PLAIN, FACADE, CAR_BODY, CAR_CABIN, PLANKS, CURTAIN_WALL = range(6)
GLASS_RGB = np.array([0.025, 0.035, 0.045], np.float32)
CURTAIN_RGB = np.array([0.45, 0.40, 0.32], np.float32)
TYRE_RGB = np.array([0.012, 0.012, 0.013], np.float32)


class Rays(NamedTuple):
    """u [W] and v [H] of the ray grid (v falls from row to row), eye height in metres, one ray's angular size."""

    u: np.ndarray
    v: np.ndarray
    eye_m: float
    pitch: float


class Light(NamedTuple):
    """Unit vector towards the sun, linear RGB of direct sun and of sky light."""

    direction: np.ndarray
    sun_rgb: np.ndarray
    sky_rgb: np.ndarray


class Solid(NamedTuple):
    """An upright box with an optional roof, turned by `yaw` about the vertical; lengths in metres.

    `base_m` is the height of its foot, `sink_m` how far it reaches below that. A `roof_m` > 0 adds slopes that rise
    from the top of the walls: two (`hipped` False, ridge along the local z axis) or four; `roof_cut` truncates them.
    `cell_m`, `storey_m` and `opening` (fractions of a cell) lay out the windows of facades.
    """

    x_m: float
    z_m: float
    half_width_m: float
    half_length_m: float
    base_m: float
    wall_m: float
    yaw: float = 0.0
    roof_m: float = 0.0
    hipped: bool = False
    roof_cut: float = 1.0
    sink_m: float = 3.0
    style: int = PLAIN
    wall_rgb: Colour = (0.5, 0.5, 0.5)
    roof_rgb: Colour = (0.2, 0.1, 0.08)
    cell_m: float = 3.0
    storey_m: float = 3.0
    opening: tuple[float, float] = (0.4, 0.5)
    shop: bool = False


class Blob(NamedTuple):
    """A lump of foliage or rock at (x, y, z): `radius_m` wide, `half_height_m` high, round or cone-shaped."""

    x_m: float
    y_m: float
    z_m: float
    radius_m: float
    half_height_m: float
    rgb: Colour
    cone: bool = False
    lumpiness: float = 0.25
    offset: float = 0.0


class GeometryBuffer(NamedTuple):
    """What each ray meets first: forward distance z in metres, object number, face (solids) or shade (blobs)."""

    z_m: np.ndarray
    number: np.ndarray
    detail: np.ndarray


def _normals_and_offsets(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
    """Outward normals [FACES, 3] and offsets [FACES] of the planes n . p <= d; unused slopes are all zero."""
    local = np.zeros((FACES, 3))
    reach = np.zeros(FACES)
    local[:4] = [(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1)]
    reach[:4] = [solid.half_width_m] * 2 + [solid.half_length_m] * 2
    eaves_m = solid.base_m + solid.wall_m
    local[FACE_TOP], reach[FACE_TOP] = (0, 1, 0), eaves_m + solid.roof_m * solid.roof_cut
    local[FACE_UNDERSIDE], reach[FACE_UNDERSIDE] = (0, -1, 0), solid.sink_m - solid.base_m
    if solid.roof_m > 0.0:
        slant = np.hypot(solid.roof_m, solid.half_width_m)
        out, up = solid.roof_m / slant, solid.half_width_m / slant
        slopes = 4 if solid.hipped else 2
        local[FIRST_SLOPE:] = [(out, up, 0), (-out, up, 0), (0, up, out), (0, up, -out)]
        reach[FIRST_SLOPE:] = out * reach[:4] + up * eaves_m
        local[FIRST_SLOPE + slopes:], reach[FIRST_SLOPE + slopes:] = 0.0, 0.0
    cosine, sine = np.cos(solid.yaw), np.sin(solid.yaw)
    normals = local.copy()
    normals[:, 0] = local[:, 0] * cosine - local[:, 2] * sine
    normals[:, 2] = local[:, 0] * sine + local[:, 2] * cosine
    reach += normals[:, 0] * solid.x_m + normals[:, 2] * solid.z_m
    return normals.astype(np.float32), reach.astype(np.float32)


def _window(rays: Rays, u_range: tuple[float, float], v_range: tuple[float, float]) -> tuple[slice, slice] | None:
    """Rows and columns whose rays lie within the ranges, or None if there are none."""
    left, right = np.searchsorted(rays.u, u_range)
    top, bottom = np.searchsorted(-rays.v, (-v_range[1], -v_range[0]))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _solid_window(solid: Solid, rays: Rays) -> tuple[slice, slice] | None:
    cosine, sine = np.cos(solid.yaw), np.sin(solid.yaw)
    width = solid.half_width_m * np.array([1, 1, -1, -1])
    length = solid.half_length_m * np.array([1, -1, 1, -1])
    x, z = solid.x_m + width * cosine - length * sine, solid.z_m + width * sine + length * cosine
    if z.max() < NEAREST_M:
        return None
    if z.min() < NEAREST_M:
        return _window(rays, (-9.0, 9.0), (-9.0, 9.0))
    low = solid.base_m - solid.sink_m - rays.eye_m
    high = solid.base_m + solid.wall_m + solid.roof_m - rays.eye_m
    v_range = (min(low / z.min(), low / z.max()), max(high / z.min(), high / z.max()))
    return _window(rays, ((x / z).min(), (x / z).max()), v_range)


def _slab(slope: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """z interval in which rays with n . ray = `slope` satisfy z * slope <= reach."""
    bound = reach / np.where(slope == 0.0, np.float32(1e-9), slope)
    entering = slope < 0.0
    endless = np.float32(np.inf)
    leaving = bound if reach >= 0.0 else -endless
    return np.where(entering, bound, -endless), np.where(entering, endless, leaving)


def draw_solid(solid: Solid, number: int, rays: Rays, buffer: GeometryBuffer) -> np.ndarray:
    """Writes the solid where it is nearest; returns its outward face normals, float32 [FACES, 3]."""
    normals, offsets = _normals_and_offsets(solid)
    window = _solid_window(solid, rays)
    if window is None:
        return normals
    u, v = rays.u[window[1]], rays.v[window[0]]
    reach = offsets - normals[:, 1] * np.float32(rays.eye_m)
    walls = [_slab(normals[face, 0] * u + normals[face, 2], reach[face]) for face in range(4)]
    wall_in = np.stack([entry for entry, _ in walls])
    wall_out = np.min([leave for _, leave in walls], axis=0)
    caps = [_slab(normals[face, 1] * v, reach[face]) for face in (FACE_TOP, FACE_UNDERSIDE)]
    cap_in = np.stack([entry for entry, _ in caps])
    cap_out = np.minimum(caps[0][1], caps[1][1])
    wall_face, cap_face = wall_in.argmax(axis=0), FACE_TOP + cap_in.argmax(axis=0)
    wall_in, cap_in = wall_in.max(axis=0)[None, :], cap_in.max(axis=0)[:, None]
    z_in, z_out = np.maximum(wall_in, cap_in), np.minimum(wall_out[None, :], cap_out[:, None])
    face = np.where(cap_in > wall_in, cap_face[:, None], wall_face[None, :])
    for slope in range(FIRST_SLOPE, FACES):
        if not normals[slope].any():
            continue
        along_ray = (normals[slope, 0] * u + normals[slope, 2])[None, :] + (normals[slope, 1] * v)[:, None]
        slope_in, slope_out = _slab(along_ray, reach[slope])
        face = np.where(slope_in > z_in, slope, face)
        z_in, z_out = np.maximum(z_in, slope_in), np.minimum(z_out, slope_out)
    hit = (z_in < z_out) & (z_in > NEAREST_M) & (z_in < buffer.z_m[window])
    np.copyto(buffer.z_m[window], z_in, where=hit, casting="same_kind")
    np.copyto(buffer.number[window], number, where=hit)
    np.copyto(buffer.detail[window], face, where=hit, casting="unsafe")
    return normals


def draw_blob(blob: Blob, number: int, rays: Rays, buffer: GeometryBuffer, light: Light) -> None:
    """Writes the blob where it is nearest, with its shade in [0, 1] as `detail`."""
    if blob.z_m - blob.radius_m < 1.0 or blob.radius_m < 0.6 * rays.pitch * blob.z_m:
        return
    grow = 1.0 + blob.lumpiness
    u_range = tuple((blob.x_m + side * grow * blob.radius_m) / blob.z_m for side in (-1, 1))
    rise = blob.y_m - rays.eye_m
    v_range = tuple((rise + side * grow * blob.half_height_m) / blob.z_m for side in (-1, 1))
    window = _window(rays, u_range, v_range)
    if window is None:
        return
    across = ((rays.u[window[1]] * blob.z_m - blob.x_m) / blob.radius_m)[None, :].astype(np.float32)
    up = ((rays.v[window[0]] * blob.z_m - rise) / blob.half_height_m)[:, None].astype(np.float32)
    aspect = blob.half_height_m / blob.radius_m
    lumps = texture(0.55 * across + blob.offset + 0 * up, 0.55 * aspect * up + 3.7 * blob.offset + 0 * across)
    if blob.cone:
        # Boughs: a sawtooth that widens the cone step by step from the tip down.
        boughs = (4.0 * up * max(1.0, aspect / 2.5)) % 1.0
        profile = 0.5 * (1.0 - up) * (1.12 - 0.42 * boughs) + 0.02
        inside = 1.0 - np.abs(across) / np.maximum(profile, 1e-3) + blob.lumpiness * lumps
        inside = np.where(np.abs(up) < 1.0, inside, -1.0)
    else:
        inside = 1.0 - across * across - up * up + blob.lumpiness * lumps
    bulge = np.sqrt(np.clip(inside, 0.0, 1.0))
    z_m = blob.z_m - 0.7 * blob.radius_m * bulge
    hit = (inside > 0.0) & (z_m < buffer.z_m[window])
    direction = light.direction.astype(np.float32)
    facing = across * direction[0] + up * direction[1] - bulge * direction[2]
    shade = np.clip(0.42 + 0.33 * facing + 0.17 * lumps + 0.12 * up, 0.03, 1.0)
    np.copyto(buffer.z_m[window], z_m, where=hit, casting="same_kind")
    np.copyto(buffer.number[window], number, where=hit)
    np.copyto(buffer.detail[window], shade, where=hit, casting="same_kind")


def cast_shadow(lit: np.ndarray, x_m: np.ndarray, z_rows_m: np.ndarray, foot: tuple[float, float, float, float],
                yaw: float, height_m: float, soft: bool, light: Light) -> None:
    """Darkens `lit` [N, W] in place where a body's shadow falls on level ground.

    Row i of the grid lies at forward distance `z_rows_m[i]`, its points at `x_m[i]`. `foot` is (x, z, half width,
    half length) of the body in metres; `soft` bodies (foliage) let some light through and have blurred edges.
    """
    flat = np.hypot(light.direction[0], light.direction[2])
    reach_m = min(height_m * flat / max(light.direction[1], 0.1), 60.0)
    away_x, away_z = -light.direction[0] / flat * reach_m, -light.direction[2] / flat * reach_m
    x, z, half_width, half_length = foot
    radius = np.hypot(half_width, half_length)
    first, last = np.searchsorted(z_rows_m, (z - radius + min(away_z, 0.0), z + radius + max(away_z, 0.0)))
    if first >= last:
        return
    rows = slice(first, last)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    off_x, off_z = x_m[rows] - x, (z_rows_m[rows] - z)[:, None]
    if soft:
        along = np.clip((off_x * away_x + off_z * away_z) / max(reach_m ** 2, 1e-6), 0.0, 1.0)
        gap = np.hypot(off_x - along * away_x, off_z - along * away_z)
        lit[rows] *= 1.0 - 0.75 * smoothstep(1.15 * half_width, 0.6 * half_width, gap)
        return
    near, far = 0.0, 1.0
    for offset, away, half in ((off_x * cosine + off_z * sine, away_x * cosine + away_z * sine, half_width),
                               (off_z * cosine - off_x * sine, away_z * cosine - away_x * sine, half_length)):
        away = away if abs(away) > 1e-3 else 1e-3
        ends = (offset - half) / away, (offset + half) / away
        near, far = np.maximum(near, np.minimum(*ends)), np.minimum(far, np.maximum(*ends))
    lit[rows] *= np.where(near <= far, 0.0, 1.0)


def _openings(along_m: np.ndarray, up_m: np.ndarray, width_m: np.ndarray, traits: np.ndarray, shop: np.ndarray,
              fade: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window coverage, frame coverage and one random value per window, each [M]."""
    cells = np.maximum(np.round(width_m / traits[:, 0]), 1.0)
    place = (along_m / width_m + 0.5) * cells
    storey = up_m / traits[:, 1]
    column, level = np.floor(place), np.floor(storey)
    ground_shop = shop * (level == 0)
    half_width = 0.5 * traits[:, 2] + 0.22 * ground_shop * (0.86 - traits[:, 2])
    half_height = 0.5 * traits[:, 3] + 0.3 * ground_shop * (0.8 - traits[:, 3])
    across, upward = np.abs(place - column - 0.5) / half_width, np.abs(storey - level - 0.5) / half_height
    edge = np.maximum(across, upward)
    glass = (edge < 0.86) & ~((across < 0.08) & (ground_shop == 0))
    value = hash_cells(column, level, number)
    mean = 4.0 * half_width * half_height * 0.7
    return glass * fade + mean * (1 - fade), ((edge < 1.0) & ~glass) * fade, value


def _facade_albedo(point: dict, wall: np.ndarray) -> np.ndarray:
    """Adds windows, floor bands and weathering to wall colours [M, 3] of facades and curtain walls."""
    traits, up_m, number = point["traits"], point["up_m"], point["number"]
    pixels_per_cell = np.minimum(traits[:, 0], traits[:, 1]) / point["footprint_m"]
    fade = smoothstep(1.5, 4.0, pixels_per_cell)
    glass, frame, value = _openings(point["along_m"], up_m, point["width_m"], traits, point["shop"], fade, number)
    reflection = (value ** 3)[:, None] * point["sky_rgb"] * 0.6
    drawn = (value > 0.45) & (value < 0.6)
    pane = np.where(drawn[:, None], CURTAIN_RGB * (0.4 + value[:, None]), GLASS_RGB + reflection)
    band = smoothstep(0.12, 0.04, np.abs((up_m / traits[:, 1] + 0.5) % 1.0 - 0.5)) * fade
    wall = wall * (1.0 + (0.22 * band * (hash_cells(number, number) - 0.35))[:, None])
    wall = wall + (np.minimum(wall * 1.35 + 0.12, 0.8) - wall) * frame[:, None]
    return wall + (pane - wall) * glass[:, None]


def _car_albedo(point: dict, paint: np.ndarray) -> np.ndarray:
    """Wheels, sills and lamps on car bodies, glass between the pillars of cabins."""
    along, up = point["along_m"], point["up_m"]
    half = 0.5 * point["width_m"]
    long_side = half > 1.2
    wheel = long_side & (np.hypot(np.abs(along) - 0.62 * half, up + 0.02) < 0.36)
    sill = up < 0.06
    colour = np.where((wheel | sill)[:, None], TYRE_RGB, paint)
    lamp = ~long_side & (np.abs(along) > 0.55 * half) & (np.abs(up - 0.38) < 0.1)
    colour = np.where(lamp[:, None], np.array([0.55, 0.06, 0.04], np.float32), colour)
    pillar = (np.abs(along) > 0.93 * half) | (long_side & (np.abs(along) < 0.05))
    cabin = np.where(pillar[:, None] | (point["face"] == FACE_TOP)[:, None], paint, GLASS_RGB + 0.06 * point["sky_rgb"])
    return np.where((point["style"] == CAR_CABIN)[:, None], cabin, colour)


def shade_solids(solids: list[Solid], normals: np.ndarray, first_number: int, place_m: np.ndarray,
                 number: np.ndarray, face: np.ndarray, footprint_m: np.ndarray, light: Light) -> np.ndarray:
    """Linear RGB [M, 3] of the solids' pixels at world points `place_m` [M, 3]; `footprint_m` [M] is a pixel's size."""
    which, face = number - first_number, face.astype(np.int64)
    table = np.array([(s.x_m, s.z_m, np.cos(s.yaw), np.sin(s.yaw), s.half_width_m, s.half_length_m, s.base_m, s.style,
                       s.cell_m, s.storey_m, *s.opening, s.shop, *s.wall_rgb, *s.roof_rgb) for s in solids], np.float32)
    row = table[which]
    off_x, off_z = place_m[:, 0] - row[:, 0], place_m[:, 2] - row[:, 1]
    local_x, local_z = off_x * row[:, 2] + off_z * row[:, 3], off_z * row[:, 2] - off_x * row[:, 3]
    on_side = (face == 0) | (face == 1)
    roof = (face == FACE_TOP) | (face >= FIRST_SLOPE)
    point = {"along_m": np.where(on_side, local_z, local_x), "up_m": place_m[:, 1] - row[:, 6], "style": row[:, 7],
             "width_m": 2.0 * np.where(on_side, row[:, 5], row[:, 4]), "traits": row[:, 8:12], "shop": row[:, 12],
             "number": which * 7 + face, "face": face, "footprint_m": footprint_m}
    grain = texture(point["along_m"] / 5.0 + 0.31 * which, point["up_m"] / 5.0 + local_z / 9.0)
    albedo = np.where(roof[:, None], row[:, 16:19], row[:, 13:16])
    course = np.where(roof, local_x, point["up_m"]) / 0.45
    courses = np.abs(course % 1.0 - 0.5) * smoothstep(0.6, 0.2, footprint_m)
    albedo = albedo * (0.97 + 0.07 * grain - 0.25 * roof * courses)[:, None]
    for styles, paint in (((FACADE, CURTAIN_WALL), _facade_albedo), ((CAR_BODY, CAR_CABIN), _car_albedo)):
        pick = np.isin(point["style"], styles) & (~roof | (point["style"] == CAR_CABIN))
        if pick.any():
            chosen = {name: value[pick] for name, value in point.items()}
            albedo[pick] = paint({**chosen, "sky_rgb": light.sky_rgb}, albedo[pick])
    planks = (point["style"] == PLANKS) & ~roof
    gaps = np.abs((point["along_m"] / 0.3) % 1.0 - 0.5) > 0.42
    albedo *= np.where(planks & gaps & (footprint_m < 0.12), 0.55, 1.0)[:, None]
    normal = normals[which, face]
    direct = np.maximum(normal @ light.direction.astype(np.float32), 0.0)
    occlusion = (0.62 + 0.18 * normal[:, 1] + 0.2 * smoothstep(0.0, 5.0, point["up_m"])) \
        * np.where(roof, 1.0, 0.6 + 0.4 * smoothstep(-0.3, 1.2, point["up_m"]))
    return albedo * (direct[:, None] * light.sun_rgb + occlusion[:, None] * light.sky_rgb)


def shade_blobs(blobs: list[Blob], first_number: int, number: np.ndarray, shade: np.ndarray,
                light: Light) -> np.ndarray:
    """Linear RGB [M, 3] of the blobs' pixels from their shade [M] in [0, 1]."""
    albedo = np.array([blob.rgb for blob in blobs], np.float32)[number - first_number]
    direct = (1.25 * smoothstep(0.15, 0.95, shade))[:, None] * light.sun_rgb
    return albedo * (direct + (0.15 + 0.75 * shade)[:, None] * light.sky_rgb)
