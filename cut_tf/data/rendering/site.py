"""Bodies placed on the ground of a rendered scene: buildings, vehicles, poles, trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cut_tf.data.noise import Terrain, terrain_height
from cut_tf.data.rendering.ground import Road
from cut_tf.data.rendering.objects import CAR_BODY, CAR_CABIN, CURTAIN_WALL, FACADE, PLAIN, PLANKS, Blob, Colour, Solid

# Linear RGB reflectances.
GREENS = ((0.065, 0.115, 0.022), (0.045, 0.095, 0.020), (0.095, 0.130, 0.030), (0.035, 0.070, 0.022))
AUTUMN = ((0.36, 0.13, 0.02), (0.30, 0.19, 0.03), (0.24, 0.055, 0.02), (0.10, 0.11, 0.025))
CONIFERS = ((0.018, 0.045, 0.018), (0.026, 0.055, 0.022), (0.020, 0.050, 0.030))
WALLS = ((0.62, 0.55, 0.42), (0.55, 0.20, 0.12), (0.68, 0.66, 0.60), (0.60, 0.42, 0.20), (0.30, 0.13, 0.085),
         (0.42, 0.46, 0.48), (0.70, 0.50, 0.36), (0.25, 0.34, 0.40), (0.66, 0.58, 0.26), (0.40, 0.38, 0.34))
ROOFS = ((0.30, 0.085, 0.045), (0.21, 0.070, 0.045), (0.075, 0.078, 0.088), (0.13, 0.085, 0.055), (0.10, 0.12, 0.15))
BLOSSOMS = ((0.40, 0.05, 0.12), (0.45, 0.30, 0.04))
CAR_PAINTS = ((0.45, 0.02, 0.02), (0.02, 0.05, 0.25), (0.60, 0.60, 0.60), (0.02, 0.02, 0.022), (0.70, 0.42, 0.02),
              (0.05, 0.20, 0.10), (0.28, 0.30, 0.32))
# Foot (x, z, half width, half length) in metres, yaw, height in metres, whether it lets light through.
Shadow = tuple[tuple[float, float, float, float], float, float, bool]


class Site:
    """Collects the bodies of a scene, each set on the ground of `terrain`."""

    def __init__(self, rng: np.random.Generator, terrain: Terrain) -> None:
        self.rng, self.terrain = rng, terrain
        self.solids: list[Solid] = []
        self.blobs: list[Blob] = []
        self.shadows: list[Shadow] = []

    def pick(self, choices: Sequence, spread: float = 0.15) -> Colour:
        """One of the colours, varied in brightness and a little in hue."""
        colour = np.asarray(choices[self.rng.integers(len(choices))])
        varied = colour * (1.0 + self.rng.uniform(-spread, spread)) * (1.0 + self.rng.uniform(-0.06, 0.06, 3))
        return tuple(float(value) for value in varied)

    def ground_m(self, x_m: float, z_m: float) -> float:
        return float(terrain_height(self.terrain, np.array([x_m]), np.array([z_m]))[0])

    def dry(self, x_m: float, z_m: float, margin_m: float = 0.4) -> bool:
        level_m = self.terrain.water_level_m
        return level_m is None or self.ground_m(x_m, z_m) > level_m + margin_m

    def _shade(self, solid: Solid) -> None:
        foot = (solid.x_m, solid.z_m, solid.half_width_m, solid.half_length_m)
        self.shadows.append((foot, solid.yaw, solid.wall_m + 0.5 * solid.roof_m, False))

    def block(self, x_m: float, z_m: float, half_width_m: float, half_length_m: float, height_m: float,
              yaw: float = 0.0, shop: bool = False, modern: bool = False) -> None:
        """A flat-roofed or low-pitched town building with windows."""
        rng = self.rng
        opening = rng.uniform((0.78, 0.6), (0.9, 0.8)) if modern else rng.uniform((0.3, 0.45), (0.55, 0.62))
        pitched = not modern and rng.random() < 0.5 and height_m < 20.0
        wall = Solid(x_m, z_m, half_width_m, half_length_m, self.ground_m(x_m, z_m), height_m, yaw,
                     roof_m=rng.uniform(2.0, 4.0) if pitched else 0.0, hipped=True,
                     style=CURTAIN_WALL if modern else FACADE, wall_rgb=self.pick(WALLS), cell_m=rng.uniform(2.0, 3.6),
                     roof_rgb=self.pick(ROOFS) if pitched else self.pick(((0.17, 0.165, 0.16),)),
                     storey_m=rng.uniform(3.0, 3.7), opening=tuple(opening), shop=shop)
        self.solids.append(wall)
        self._shade(wall)
        if pitched:
            return
        cornice_rgb = tuple(min(0.75, 1.15 * value) for value in wall.wall_rgb)
        self.solids.append(wall._replace(half_width_m=half_width_m + 0.25, half_length_m=half_length_m + 0.25,
                                         base_m=wall.base_m + height_m - 0.2, wall_m=0.7, sink_m=0.1, style=PLAIN,
                                         wall_rgb=cornice_rgb))

    def house(self, x_m: float, z_m: float, yaw: float, barn: bool = False) -> None:
        """A house or barn with a pitched roof that overhangs, and often a chimney."""
        rng = self.rng
        half_width, half_length = rng.uniform(3.2, 4.8), rng.uniform(4.5, 7.5)
        wall_m, roof_m = rng.choice([3.0, 3.2, 5.8]), rng.uniform(2.2, 4.2)
        base_m = self.ground_m(x_m, z_m)
        style, walls = (PLANKS, ((0.26, 0.045, 0.03), (0.20, 0.14, 0.09))) if barn else (FACADE, WALLS)
        body = Solid(x_m, z_m, half_width, half_length, base_m, wall_m, yaw, roof_m, rng.random() < 0.25 and not barn,
                     style=style, wall_rgb=self.pick(walls), roof_rgb=self.pick(ROOFS), cell_m=rng.uniform(2.2, 3.2),
                     storey_m=2.9, opening=(0.42, 0.46))
        overhang = 0.45
        self.solids.append(body)
        self._shade(body)
        self.solids.append(body._replace(half_width_m=half_width + overhang, half_length_m=half_length + overhang,
                                         base_m=base_m + wall_m - overhang * roof_m / half_width + 0.12, wall_m=0.1,
                                         sink_m=0.0, roof_m=roof_m * (1 + overhang / half_width), style=PLAIN,
                                         wall_rgb=body.roof_rgb))
        if not barn and rng.random() < 0.7:
            shift = rng.uniform(-0.5, 0.5) * half_length
            self.solids.append(Solid(x_m - np.sin(yaw) * shift, z_m + np.cos(yaw) * shift, 0.4, 0.4,
                                     base_m + wall_m + roof_m, 0.9, yaw, sink_m=1.5, wall_rgb=(0.27, 0.12, 0.08)))

    def church(self, x_m: float, z_m: float, yaw: float) -> None:
        base_m = self.ground_m(x_m, z_m)
        wall_rgb, roof_rgb = self.pick(((0.68, 0.65, 0.58), (0.42, 0.37, 0.30))), self.pick(ROOFS)
        nave = Solid(x_m, z_m, 5.0, 11.0, base_m, 7.0, yaw, 5.0, style=FACADE, wall_rgb=wall_rgb, roof_rgb=roof_rgb,
                     cell_m=4.0, storey_m=7.0, opening=(0.3, 0.6))
        tower = Solid(x_m - np.sin(yaw) * -12.5, z_m + np.cos(yaw) * -12.5, 2.8, 2.8, base_m, 17.0, yaw, 13.0, True,
                      style=FACADE, wall_rgb=wall_rgb, roof_rgb=roof_rgb, cell_m=5.6, storey_m=5.6, opening=(0.22, 0.4))
        for body in (nave, tower):
            self.solids.append(body)
            self._shade(body)

    def car(self, x_m: float, z_m: float, yaw: float) -> None:
        base_m, paint = self.ground_m(x_m, z_m) + 0.34, self.pick(CAR_PAINTS)
        body = Solid(x_m, z_m, 0.88, 2.15, base_m, 0.56, yaw, sink_m=0.16, style=CAR_BODY, wall_rgb=paint,
                     roof_rgb=paint)
        cabin = Solid(x_m + 0.2 * np.sin(yaw), z_m - 0.2 * np.cos(yaw), 0.82, 1.35, base_m + 0.55, 0.02, yaw, 1.3,
                      True, 0.42, 0.0, CAR_CABIN, paint, paint)
        self.solids += [body, cabin]
        self.shadows.append(((x_m, z_m, 0.9, 2.1), yaw, 1.2, False))

    def pole(self, x_m: float, z_m: float, height_m: float, arm_m: float = 0.0,
             rgb: Colour = (0.10, 0.10, 0.10)) -> None:
        base_m = self.ground_m(x_m, z_m)
        self.solids.append(Solid(x_m, z_m, 0.09, 0.09, base_m, height_m, wall_rgb=rgb, roof_rgb=rgb))
        if arm_m:
            self.solids.append(Solid(x_m + 0.5 * arm_m, z_m, 0.5 * abs(arm_m) + 0.1, 0.07, base_m + height_m - 0.3,
                                     0.1, sink_m=0.0, wall_rgb=rgb, roof_rgb=rgb))

    def parasol(self, x_m: float, z_m: float) -> None:
        base_m, cloth = self.ground_m(x_m, z_m), self.pick(CAR_PAINTS[:2] + CAR_PAINTS[4:6])
        self.solids += [Solid(x_m, z_m, 0.04, 0.04, base_m, 2.2, wall_rgb=(0.5, 0.5, 0.48)),
                        Solid(x_m, z_m, 1.3, 1.3, base_m + 2.0, 0.12, self.rng.uniform(0, 1.5), 0.5, True, sink_m=0.0,
                              wall_rgb=cloth, roof_rgb=cloth)]
        self.shadows.append(((x_m, z_m, 1.1, 1.1), 0.0, 1.8, False))

    def tree(self, x_m: float, z_m: float, colours: Sequence, height_m: float) -> None:
        """A broad-leaved tree: a trunk and overlapping lumps of leaves, fewer of them far away."""
        rng = self.rng
        base_m, rgb = self.ground_m(x_m, z_m), self.pick(colours, 0.25)
        radius = height_m * rng.uniform(0.28, 0.38)
        crown_m = base_m + height_m - radius * 1.05
        self.solids.append(Solid(x_m, z_m, 0.03 * height_m, 0.03 * height_m, base_m, 0.6 * height_m,
                                 wall_rgb=(0.085, 0.060, 0.040), roof_rgb=(0.05, 0.04, 0.03)))
        lumps = 5 if z_m < 45.0 else 3 if z_m < 110.0 else 1
        for lump in range(lumps):
            small = 1.0 if lumps == 1 else 0.72
            spread = 0.0 if lumps == 1 else 0.5 * radius
            turn = 2.4 * lump + rng.uniform(0, 1)
            self.blobs.append(Blob(x_m + spread * np.cos(turn), crown_m + 0.8 * spread * np.sin(turn),
                                   z_m + spread * rng.uniform(-0.7, 0.7), small * radius, small * radius * 1.05, rgb,
                                   lumpiness=0.27, offset=rng.uniform(0, 9)))
        self.shadows.append(((x_m, z_m, radius, radius), 0.0, height_m - radius, True))

    def conifer(self, x_m: float, z_m: float, height_m: float) -> None:
        rng, base_m = self.rng, self.ground_m(x_m, z_m)
        radius = height_m * rng.uniform(0.17, 0.24)
        self.solids.append(Solid(x_m, z_m, 0.02 * height_m, 0.02 * height_m, base_m, 0.3 * height_m,
                                 wall_rgb=(0.07, 0.05, 0.035)))
        self.blobs.append(Blob(x_m, base_m + 0.56 * height_m, z_m, radius, 0.47 * height_m, self.pick(CONIFERS, 0.3),
                               True, 0.33, rng.uniform(0, 9)))
        self.shadows.append(((x_m, z_m, 0.7 * radius, radius), 0.0, 0.8 * height_m, True))

    def bush(self, x_m: float, z_m: float, radius_m: float, colours: Sequence) -> None:
        self.blobs.append(Blob(x_m, self.ground_m(x_m, z_m) + 0.3 * radius_m, z_m, radius_m, 0.75 * radius_m,
                               self.pick(colours, 0.3), lumpiness=0.3, offset=self.rng.uniform(0, 9)))
        self.shadows.append(((x_m, z_m, 1.1 * radius_m, radius_m), 0.0, 0.5 * radius_m, True))

    def scatter(self, count: int, nearest_m: float, farthest_m: float, spread: float, road: Road | None = None,
                clear_m: float = 2.5) -> list[tuple[float, float]]:
        """Dry places (x, z) off the road, evenly spread over the logarithm of distance."""
        places = []
        for _ in range(count):
            z_m = float(np.exp(self.rng.uniform(np.log(nearest_m), np.log(farthest_m))))
            x_m = float(self.rng.uniform(-spread, spread) * z_m)
            if road is not None and abs(x_m - road.centre_m(z_m)) < road.half_width_m + road.pavement_m + clear_m:
                continue
            if self.dry(x_m, z_m):
                places.append((x_m, z_m))
        return places
