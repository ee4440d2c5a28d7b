"""Random composition of the rendered rooms: size, surfaces, furniture, lamps and the place of the camera.

Places in a room are metres in a frame of its own: x to the right, z to the back wall, y up from the floor. Its origin
is the middle of the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cut_tf.data.rendering.objects import Colour

# What a surface looks like.
PLAIN, WOOD, FABRIC, TILES, STRIPES, BOOKS, PICTURE, DOORS, WINDOW = range(9)
# Linear RGB reflectances.
WALLS = ((0.62, 0.58, 0.50), (0.66, 0.65, 0.62), (0.52, 0.50, 0.42), (0.40, 0.46, 0.48), (0.58, 0.46, 0.34),
         (0.44, 0.48, 0.36), (0.56, 0.40, 0.36), (0.34, 0.38, 0.46), (0.60, 0.54, 0.30))
WOODS = ((0.26, 0.13, 0.06), (0.36, 0.21, 0.10), (0.14, 0.065, 0.03), (0.46, 0.31, 0.17), (0.09, 0.05, 0.03))
CLOTHS = ((0.12, 0.14, 0.20), (0.30, 0.07, 0.06), (0.36, 0.32, 0.26), (0.08, 0.16, 0.12), (0.42, 0.40, 0.38),
          (0.24, 0.17, 0.10), (0.05, 0.05, 0.06), (0.40, 0.24, 0.08), (0.18, 0.22, 0.36))
THINGS = ((0.55, 0.06, 0.05), (0.06, 0.12, 0.42), (0.60, 0.46, 0.05), (0.07, 0.28, 0.10), (0.70, 0.70, 0.68),
          (0.03, 0.03, 0.035), (0.45, 0.20, 0.05), (0.32, 0.10, 0.30), (0.10, 0.34, 0.38))
_NEAREST_M = 0.5


class Box(NamedTuple):
    """A box that stands at (x, z) with its foot at height `base_m`, turned by `yaw`; `rgb2` is the pattern's other."""

    x_m: float
    z_m: float
    half_width_m: float
    half_length_m: float
    base_m: float
    height_m: float
    rgb: Colour
    pattern: int = PLAIN
    rgb2: Colour = (0.5, 0.5, 0.5)
    scale_m: float = 0.3
    yaw: float = 0.0


class Surface(NamedTuple):
    """Colours and pattern of floor, walls or ceiling."""

    rgb: Colour
    pattern: int
    rgb2: Colour
    scale_m: float


class RoomSpecification(NamedTuple):
    """All that the renderer draws. The camera looks along +z of its own frame; `focal` as in the outdoor scenes.

    The room's origin is at (`x_m`, `z_m`) of the camera's frame, turned by `yaw`. Lamps are places in the room's frame
    with linear RGB intensities.
    """

    eye_m: float
    focal: float
    lens_shift: float
    brightness: float
    x_m: float
    z_m: float
    yaw: float
    half_width_m: float
    half_length_m: float
    height_m: float
    floor: Surface
    walls: Surface
    ceiling: Surface
    boxes: list[Box]
    lamps: list[tuple[tuple[float, float, float], Colour]]
    ambient: Colour


class _Room:
    """Collects the boxes of a room."""

    def __init__(self, rng: np.random.Generator, half_width_m: float, half_length_m: float, height_m: float) -> None:
        self.rng, self.half_width_m, self.half_length_m, self.height_m = rng, half_width_m, half_length_m, height_m
        # By the place of the furniture that they are parts of, or stand on.
        self.boxes: dict[tuple[float, float, float], list[Box]] = {}

    def pick(self, choices: tuple[Colour, ...], spread: float = 0.25) -> Colour:
        colour = np.asarray(choices[self.rng.integers(len(choices))])
        varied = colour * (1.0 + self.rng.uniform(-spread, spread)) * (1.0 + self.rng.uniform(-0.1, 0.1, 3))
        return tuple(float(value) for value in varied)

    def add(self, piece: tuple[float, float, float], *parts: Box) -> None:
        """Puts the parts of a piece of furniture, whose frame is at (x, z, yaw), into the room."""
        x_m, z_m, yaw = piece
        cosine, sine = np.cos(yaw), np.sin(yaw)
        self.boxes.setdefault(piece, []).extend(
            part._replace(x_m=x_m + part.x_m * cosine - part.z_m * sine,
                          z_m=z_m + part.x_m * sine + part.z_m * cosine, yaw=yaw + part.yaw) for part in parts)

    def along_wall(self, depth_m: float) -> tuple[float, float, float]:
        """A place (x, z, yaw) of furniture with its back to the left, right or back wall."""
        wall, gap = self.rng.integers(3), 0.5 * depth_m + 0.02
        if wall == 2:
            return float(self.rng.uniform(-0.8, 0.8) * self.half_width_m), self.half_length_m - gap, 0.0
        side = -1.0 if wall == 0 else 1.0
        return side * (self.half_width_m - gap), float(self.rng.uniform(-0.5, 0.9) * self.half_length_m), \
            -side * 0.5 * float(np.pi)

    def anywhere(self) -> tuple[float, float, float]:
        return (float(self.rng.uniform(-0.7, 0.7) * self.half_width_m),
                float(self.rng.uniform(-0.3, 0.8) * self.half_length_m), float(self.rng.uniform(0.0, np.pi)))

    def clutter(self, piece: tuple[float, float, float], half_width_m: float, half_length_m: float, top_m: float,
                count: int) -> None:
        """Small things on a top: books, cups, cartons."""
        for _ in range(count):
            wide, long_, high = self.rng.uniform(0.03, 0.14), self.rng.uniform(0.03, 0.12), self.rng.uniform(0.03, 0.3)
            self.add(piece, Box(float(self.rng.uniform(-1, 1) * max(half_width_m - wide, 0.0)),
                                float(self.rng.uniform(-1, 1) * max(half_length_m - long_, 0.0)), wide, long_, top_m,
                                high, self.pick(THINGS), int(self.rng.choice([PLAIN, PLAIN, STRIPES, PICTURE])),
                                self.pick(THINGS), float(self.rng.uniform(0.03, 0.1)),
                                float(self.rng.uniform(0, 1.5))))


def _legs(half_width_m: float, half_length_m: float, height_m: float, rgb: Colour) -> list[Box]:
    return [Box(side * (half_width_m - 0.04), end * (half_length_m - 0.04), 0.025, 0.025, 0.0, height_m, rgb, WOOD)
            for side in (-1, 1) for end in (-1, 1)]


def _table(room: _Room) -> None:
    rng, rgb = room.rng, room.pick(WOODS)
    half_width, half_length, high = rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.55), rng.uniform(0.42, 0.78)
    piece = room.anywhere()
    room.add(piece, Box(0, 0, half_width, half_length, high - 0.04, 0.04, rgb, WOOD),
             *_legs(half_width, half_length, high - 0.04, rgb))
    room.clutter(piece, half_width, half_length, high, rng.integers(0, 7))
    if high > 0.6:
        for side in (-1, 1):
            if rng.random() < 0.7:
                _chair(room, (piece[0] - side * np.sin(piece[2]) * (half_length + 0.2),
                              piece[1] + side * np.cos(piece[2]) * (half_length + 0.2),
                              piece[2] + (np.pi if side < 0 else 0.0)))


def _chair(room: _Room, piece: tuple[float, float, float]) -> None:
    rgb = room.pick(WOODS) if room.rng.random() < 0.6 else room.pick(CLOTHS)
    room.add(piece, Box(0, 0, 0.22, 0.21, 0.42, 0.05, rgb, FABRIC), Box(0, 0.2, 0.22, 0.02, 0.47, 0.45, rgb, WOOD),
             *_legs(0.22, 0.21, 0.42, rgb))


def _sofa(room: _Room) -> None:
    rng, rgb = room.rng, room.pick(CLOTHS)
    half_width, piece = rng.uniform(0.45, 1.1), room.along_wall(0.85)
    room.add(piece, Box(0, 0, half_width, 0.42, 0.08, 0.34, rgb, FABRIC),
             Box(0, 0.34, half_width, 0.1, 0.42, 0.4, rgb, FABRIC),
             *(Box(side * (half_width + 0.08), 0, 0.09, 0.42, 0.08, 0.52, rgb, FABRIC) for side in (-1, 1)))
    for _ in range(rng.integers(0, 4)):
        room.add(piece, Box(float(rng.uniform(-0.8, 0.8)) * half_width, 0.16, 0.2, 0.07, 0.42, 0.36, room.pick(THINGS),
                            int(rng.choice([FABRIC, STRIPES, PICTURE])), room.pick(CLOTHS), 0.06,
                            float(rng.uniform(-0.3, 0.3))))


def _bed(room: _Room) -> None:
    rng, piece = room.rng, room.along_wall(2.05)
    half_width = rng.uniform(0.45, 0.95)
    sheet = tuple(float(value) for value in rng.uniform(0.3, 0.75) * np.ones(3))
    room.add(piece, Box(0, 0, half_width, 1.0, 0.1, 0.22, room.pick(WOODS), WOOD),
             Box(0, 0, half_width - 0.02, 0.98, 0.32, 0.2, sheet, FABRIC),
             Box(0, -0.25, half_width + 0.02, 0.75, 0.36, 0.2, room.pick(CLOTHS), int(rng.choice([FABRIC, STRIPES])),
                 room.pick(CLOTHS), float(rng.uniform(0.08, 0.3))),
             Box(0, 1.0, half_width + 0.04, 0.03, 0.0, float(rng.uniform(0.8, 1.2)), room.pick(WOODS), WOOD))
    for side in (-0.5, 0.5):
        room.add(piece, Box(side * half_width, 0.72, 0.3 * half_width + 0.1, 0.18, 0.52, 0.12, (0.6, 0.58, 0.55),
                            FABRIC))


def _shelf(room: _Room) -> None:
    rng, piece = room.rng, room.along_wall(0.3)
    half_width, high, rgb = rng.uniform(0.3, 0.8), rng.uniform(0.9, 2.1), room.pick(WOODS)
    storeys = max(2, int(high / 0.36))
    room.add(piece, Box(0, 0.13, half_width, 0.01, 0.0, high, rgb, WOOD),
             *(Box(side * half_width, 0, 0.015, 0.14, 0.0, high, rgb, WOOD) for side in (-1, 1)))
    for storey in range(storeys + 1):
        base_m = storey * (high - 0.02) / storeys
        room.add(piece, Box(0, 0, half_width, 0.14, base_m, 0.02, rgb, WOOD))
        if storey < storeys and rng.random() < 0.75:
            full = rng.uniform(0.3, 0.97) * half_width
            room.add(piece, Box(float(full - half_width + 0.02), 0.02, float(full), 0.09, base_m + 0.02,
                                float(rng.uniform(0.18, 0.3)), room.pick(THINGS), BOOKS, room.pick(CLOTHS),
                                float(rng.uniform(0.02, 0.05))))
        elif storey < storeys:
            room.clutter(piece, half_width, 0.1, base_m + 0.02, 2)


def _cabinet(room: _Room) -> None:
    rng, depth = room.rng, float(room.rng.uniform(0.4, 0.62))
    half_width, high = rng.uniform(0.35, 1.2), float(rng.choice([0.75, 0.9, 2.0]))
    rgb = room.pick(WOODS) if rng.random() < 0.6 else room.pick(WALLS)
    piece = room.along_wall(depth)
    room.add(piece, Box(0, 0, half_width, 0.5 * depth, 0.0, high, rgb, DOORS, (0.3, 0.28, 0.25),
                        float(rng.uniform(0.35, 0.6))))
    if high < 1.0:
        room.add(piece, Box(0, 0, half_width + 0.02, 0.5 * depth + 0.02, high, 0.03, room.pick(WOODS), WOOD))
        room.clutter(piece, half_width, 0.4 * depth, high + 0.03, rng.integers(2, 9))
        if rng.random() < 0.35:  # a screen
            room.add(piece, Box(0, 0.05, 0.4, 0.03, high + 0.08, 0.5, (0.02, 0.02, 0.022), PLAIN))


def _carton(room: _Room) -> None:
    rng, size = room.rng, room.rng.uniform(0.12, 0.3)
    room.add(room.anywhere(), Box(
        0, 0, size, size * float(rng.uniform(0.6, 1.0)), 0.0, size * float(rng.uniform(0.8, 2)),
        room.pick(((0.36, 0.24, 0.12), *THINGS)), int(rng.choice([PLAIN, PICTURE, STRIPES])), room.pick(THINGS), 0.1))


def _carpet(room: _Room) -> None:
    rng = room.rng
    room.add(room.anywhere()[:2] + (0.0,), Box(0, 0, float(rng.uniform(0.5, 1.4)), float(rng.uniform(0.5, 1.2)), 0.0,
                                               0.008, room.pick(CLOTHS), int(rng.choice([FABRIC, STRIPES, PICTURE])),
                                               room.pick(CLOTHS), float(rng.uniform(0.08, 0.5))))


def _on_wall(room: _Room) -> None:
    """A picture, a mirror or a board."""
    rng, (x_m, z_m, yaw) = room.rng, room.along_wall(0.03)
    half_width, high = float(rng.uniform(0.15, 0.7)), float(rng.uniform(0.25, 0.9))
    room.add((x_m, z_m, yaw), Box(
        0, 0, half_width, 0.015, float(rng.uniform(1.1, 1.5)), high, room.pick(THINGS + WALLS), PICTURE,
        room.pick(THINGS + WALLS), float(rng.uniform(0.1, 0.5))))


def _opening(room: _Room) -> tuple[float, float, float] | None:
    """A door or a window. Returns the middle of a window."""
    rng, piece = room.rng, room.along_wall(0.02)
    if rng.random() < 0.4:
        room.add(piece, Box(0, 0, 0.45, 0.02, 0.0, 2.0, room.pick(WOODS + WALLS), DOORS, (0.2, 0.18, 0.15), 0.9))
        return None
    half_width, base, high = float(rng.uniform(0.4, 1.0)), float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.9, 1.3))
    room.add(piece, Box(0, 0, half_width, 0.02, base, high, (0.9, 0.95, 1.0), WINDOW, room.pick(WOODS + WALLS), 0.6))
    if rng.random() < 0.6:
        cloth = room.pick(CLOTHS + WALLS)
        room.add(piece, *(Box(side * (half_width + 0.12), -0.04, 0.16, 0.05, 0.15, base + high, cloth, STRIPES,
                              tuple(0.8 * value for value in cloth), 0.06) for side in (-1, 1)))
    return piece[0] * 0.9, base + 0.6 * high, piece[1] * 0.9


_FURNITURE: tuple[Callable[[_Room], object], ...] = (
    _table, _table, _sofa, _bed, _shelf, _shelf, _cabinet, _cabinet, _cabinet, _carton)


def compose_room(rng: np.random.Generator) -> RoomSpecification:
    """Draws one room; independent of the picture's size. What it shows is 0.5 to 9 m away, as in NYU Depth v2."""
    room = _Room(rng, rng.uniform(1.2, 3.0), rng.uniform(1.4, 4.0), rng.uniform(2.3, 3.0))
    lamps = []
    for _ in range(rng.integers(1, 4)):
        window = _opening(room)
        if window:
            lamps.append((window, tuple(rng.uniform(0.4, 2.2) * np.array([0.85, 0.95, 1.1]))))
    for _ in range(rng.integers(1, 5)):
        _on_wall(room)
    if rng.random() < 0.5:
        _carpet(room)
    for place in rng.integers(0, len(_FURNITURE), rng.integers(5, 13)):
        _FURNITURE[place](room)
    warm = np.array([1.15, 1.0, 0.72]) ** rng.uniform(0.0, 1.3)
    for _ in range(rng.integers(1, 3)):
        lamps.append(((float(rng.uniform(-0.5, 0.5) * room.half_width_m), room.height_m - rng.uniform(0.15, 0.6),
                       float(rng.uniform(-0.6, 0.7) * room.half_length_m)), tuple(rng.uniform(0.6, 1.8) * warm)))
    floor_pattern = int(rng.choice([WOOD, WOOD, TILES, FABRIC]))
    floor = Surface(room.pick(CLOTHS + WALLS) if floor_pattern in (TILES, FABRIC) else room.pick(WOODS), floor_pattern,
                    room.pick(WALLS), float(rng.uniform(0.12, 0.6)))
    wall_rgb = room.pick(WALLS, 0.15)
    walls = Surface(wall_rgb, int(rng.choice([PLAIN, PLAIN, PLAIN, STRIPES, TILES])),
                    tuple(float(rng.uniform(0.8, 0.95)) * value for value in wall_rgb), float(rng.uniform(0.1, 0.4)))
    # The camera stands in the nearer third and looks at the farther part.
    camera_x, camera_z = rng.uniform(-0.55, 0.55) * room.half_width_m, -room.half_length_m * rng.uniform(0.55, 0.93)
    yaw = float(rng.uniform(-0.55, 0.55))
    cosine, sine = np.cos(yaw), np.sin(yaw)
    boxes = [box for parts in room.boxes.values() for box in parts
             if not any(_blocks_view(part, camera_x, camera_z) for part in parts)]
    return RoomSpecification(
        float(rng.uniform(1.0, 1.7)), float(rng.uniform(0.7, 1.0)), float(rng.uniform(-0.26, 0.02)),
        float(rng.uniform(0.12, 0.3)), float(-(camera_x * cosine - camera_z * sine)),
        float(-(camera_x * sine + camera_z * cosine)), yaw, room.half_width_m, room.half_length_m, room.height_m, floor,
        walls, Surface(tuple(rng.uniform(0.6, 0.75) * np.ones(3)), PLAIN, (0.6, 0.6, 0.6), 0.3), boxes, lamps,
        tuple(rng.uniform(0.05, 0.12) * (0.5 + 0.5 * warm)))


def _blocks_view(box: Box, x_m: float, z_m: float) -> bool:
    """Whether the camera would stand in the box or right before it."""
    reach = np.hypot(box.half_width_m, box.half_length_m)
    return bool(np.hypot(box.x_m - x_m, box.z_m - z_m) < reach + _NEAREST_M) and box.height_m > 0.02
