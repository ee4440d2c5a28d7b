"""Random composition of the rendered scenes: what stands where, under which light."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from cut_tf.data.scene_ground import Ground, Road, Sky
from cut_tf.data.scene_noise import Terrain, terrain_height
from cut_tf.data.scene_objects import (CAR_BODY, CAR_CABIN, CURTAIN_WALL, FACADE, PLAIN, PLANKS, Blob, Colour, Light,
                                       Solid)

GREENS = ((0.065, 0.115, 0.022), (0.045, 0.095, 0.020), (0.095, 0.130, 0.030), (0.035, 0.070, 0.022))
AUTUMN = ((0.36, 0.13, 0.02), (0.30, 0.19, 0.03), (0.24, 0.055, 0.02), (0.10, 0.11, 0.025))
CONIFERS = ((0.018, 0.045, 0.018), (0.026, 0.055, 0.022), (0.020, 0.050, 0.030))
WALLS = ((0.62, 0.55, 0.42), (0.55, 0.20, 0.12), (0.68, 0.66, 0.60), (0.60, 0.42, 0.20), (0.30, 0.13, 0.085),
         (0.42, 0.46, 0.48), (0.70, 0.50, 0.36), (0.25, 0.34, 0.40), (0.66, 0.58, 0.26), (0.40, 0.38, 0.34))
ROOFS = ((0.30, 0.085, 0.045), (0.21, 0.070, 0.045), (0.075, 0.078, 0.088), (0.13, 0.085, 0.055), (0.10, 0.12, 0.15))
CAR_PAINTS = ((0.45, 0.02, 0.02), (0.02, 0.05, 0.25), (0.60, 0.60, 0.60), (0.02, 0.02, 0.022), (0.70, 0.42, 0.02),
              (0.05, 0.20, 0.10), (0.28, 0.30, 0.32))
GRASS = (((0.085, 0.135, 0.025), (0.170, 0.165, 0.045)), ((0.055, 0.115, 0.022), (0.110, 0.150, 0.035)),
         ((0.200, 0.165, 0.060), (0.280, 0.210, 0.090)))
CROPS = ((0.105, 0.170, 0.030), (0.42, 0.31, 0.10), (0.15, 0.095, 0.055), (0.060, 0.120, 0.025), (0.62, 0.50, 0.05),
         (0.24, 0.22, 0.07), (0.20, 0.11, 0.06))
Shadow = Tuple[Tuple[float, float, float, float], float, float, bool]


class SceneSpecification(NamedTuple):
    """All that the renderer draws. `focal` and `lens_shift` are fractions of the picture's longer side."""

    eye_m: float
    focal: float
    lens_shift: float
    exposure: float
    light: Light
    sky: Sky
    terrain: Terrain
    ground: Ground
    solids: List[Solid]
    blobs: List[Blob]
    shadows: List[Shadow]


class _Site:
    """Collects the bodies of a scene, each set on the ground of `terrain`."""

    def __init__(self, rng: np.random.Generator, terrain: Terrain):
        self.rng, self.terrain = rng, terrain
        self.solids: List[Solid] = []
        self.blobs: List[Blob] = []
        self.shadows: List[Shadow] = []

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
        opening = (rng.uniform(0.78, 0.9), rng.uniform(0.6, 0.8)) if modern else (rng.uniform(.3, .55), rng.uniform(.45, .62))
        pitched = not modern and rng.random() < 0.5 and height_m < 20.0
        wall = Solid(x_m, z_m, half_width_m, half_length_m, self.ground_m(x_m, z_m), height_m, yaw,
                     roof_m=rng.uniform(2.0, 4.0) if pitched else 0.0, hipped=True,
                     style=CURTAIN_WALL if modern else FACADE, wall_rgb=self.pick(WALLS), cell_m=rng.uniform(2.0, 3.6),
                     roof_rgb=self.pick(ROOFS) if pitched else self.pick(((0.17, 0.165, 0.16),)),
                     storey_m=rng.uniform(3.0, 3.7), opening=opening, shop=shop)
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
        body = Solid(x_m, z_m, 0.88, 2.15, base_m, 0.56, yaw, sink_m=0.16, style=CAR_BODY, wall_rgb=paint, roof_rgb=paint)
        cabin = Solid(x_m - 0.2 * -np.sin(yaw), z_m - 0.2 * np.cos(yaw), 0.82, 1.35, base_m + 0.55, 0.02, yaw, 1.3, True,
                      0.42, 0.0, CAR_CABIN, paint, paint)
        self.solids += [body, cabin]
        self.shadows.append(((x_m, z_m, 0.9, 2.1), yaw, 1.2, False))

    def pole(self, x_m: float, z_m: float, height_m: float, arm_m: float = 0.0, rgb: Colour = (0.10, 0.10, 0.10)) -> None:
        base_m = self.ground_m(x_m, z_m)
        self.solids.append(Solid(x_m, z_m, 0.09, 0.09, base_m, height_m, wall_rgb=rgb, roof_rgb=rgb))
        if arm_m:
            self.solids.append(Solid(x_m + 0.5 * arm_m, z_m, 0.5 * abs(arm_m) + 0.1, 0.07, base_m + height_m - 0.3, 0.1,
                                     sink_m=0.0, wall_rgb=rgb, roof_rgb=rgb))

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
        self.blobs.append(Blob(x_m, base_m + 0.56 * height_m, z_m, radius, 0.47 * height_m, self.pick(CONIFERS, 0.3), True,
                               0.33, rng.uniform(0, 9)))
        self.shadows.append(((x_m, z_m, 0.7 * radius, radius), 0.0, 0.8 * height_m, True))

    def bush(self, x_m: float, z_m: float, radius_m: float, colours: Sequence) -> None:
        self.blobs.append(Blob(x_m, self.ground_m(x_m, z_m) + 0.3 * radius_m, z_m, radius_m, 0.75 * radius_m,
                               self.pick(colours, 0.3), lumpiness=0.3, offset=self.rng.uniform(0, 9)))
        self.shadows.append(((x_m, z_m, 1.1 * radius_m, radius_m), 0.0, 0.5 * radius_m, True))

    def scatter(self, count: int, nearest_m: float, farthest_m: float, spread: float, road: Road = None,
                clear_m: float = 2.5) -> List[Tuple[float, float]]:
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


class _Composition(NamedTuple):
    terrain: Terrain
    ground: Ground
    site: _Site
    camera_m: float


def _offset(rng: np.random.Generator) -> Tuple[float, float]:
    return tuple(float(value) for value in rng.uniform(0.0, 3000.0, 2))


def _distant_hills(rng: np.random.Generator, start_m: float) -> dict:
    """Terrain parameters of wooded hills behind a settlement, or none."""
    if rng.random() < 0.3:
        return {}
    return {'mountain_m': rng.uniform(25.0, 90.0), 'mountain_scale_m': rng.uniform(300.0, 550.0),
            'mountain_start_m': start_m, 'canopy_m': rng.uniform(5.0, 9.0), 'canopy_cover': rng.uniform(0.3, 0.9),
            'canopy_start_m': start_m}


def _street(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), **_distant_hills(rng, 230.0))
    heading = rng.uniform(-0.10, 0.10)
    road = Road(rng.uniform(-3.0, 3.0), rng.uniform(3.4, 6.0), heading, pavement_m=rng.uniform(2.2, 4.0),
                crossing_m=rng.uniform(9.0, 30.0))
    plants, dry = GRASS[rng.integers(2)]
    site = _Site(rng, terrain)
    yaw, modern_share, floors = -np.arctan(heading), rng.choice([0.0, 0.25, 0.7]), rng.integers(2, 8)
    end_m = rng.uniform(90.0, 260.0)
    for side in (-1, 1):
        z_m = rng.uniform(-4.0, 8.0)
        while z_m < end_m:
            length = rng.uniform(8.0, 24.0)
            depth, centre = rng.uniform(10.0, 16.0), z_m + 0.5 * length
            x_m = road.centre_m(centre) + side * (road.half_width_m + road.pavement_m + rng.uniform(0, 1.2) + 0.5 * depth)
            if rng.random() < 0.88:
                height_m = 3.3 * max(2, floors + rng.integers(-2, 3)) + 0.6
                site.block(x_m, centre, 0.5 * depth, 0.5 * length - 0.05, height_m, yaw, rng.random() < 0.6,
                           rng.random() < modern_share)
            else:
                site.tree(x_m - side * 0.3 * depth, centre, GREENS, rng.uniform(6.0, 10.0))
            z_m += length + rng.choice([0.0, 0.0, 3.0])
        leaves = GREENS if rng.random() < 0.7 else AUTUMN
        if rng.random() < 0.65:
            for z_m in np.arange(rng.uniform(9.0, 18.0), min(end_m, 110.0), rng.uniform(11.0, 20.0)):
                x_m = road.centre_m(z_m) + side * (road.half_width_m + 0.9)
                site.tree(x_m, z_m, leaves, rng.uniform(4.5, 7.5))
        for z_m in np.arange(rng.uniform(6.0, 20.0), min(end_m, 120.0), 26.0):
            site.pole(road.centre_m(z_m) + side * (road.half_width_m + 0.5), z_m, 7.5, -side * 1.6)
        for z_m in np.arange(rng.uniform(5.0, 14.0), min(end_m, 90.0), 7.5):
            if rng.random() < 0.5:
                site.car(road.centre_m(z_m) + side * (road.half_width_m - 1.15), z_m, yaw)
    if rng.random() < 0.6:
        site.car(road.centre_m(24.0) + 0.28 * road.half_width_m, rng.uniform(14.0, 40.0), yaw)
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.choice([1.7, 2.5, 4.5, 8.0]))


def _village(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(1.0, 5.0), flat_m=rng.uniform(14.0, 40.0),
                      **{'canopy_start_m': 130.0, **_distant_hills(rng, 140.0)})
    road = Road(rng.uniform(-4.0, 3.0), rng.uniform(1.6, 3.0), rng.uniform(-0.2, 0.2), rng.uniform(1.0, 7.0),
                rng.uniform(18.0, 45.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.5), marked=bool(rng.random() < 0.4))
    plants, dry = GRASS[rng.integers(3)]
    site, leaves = _Site(rng, terrain), GREENS if rng.random() < 0.65 else AUTUMN
    for z_m in np.arange(rng.uniform(15.0, 26.0), 150.0, rng.uniform(13.0, 20.0)):
        for side in (-1, 1):
            if rng.random() < 0.75:
                x_m = road.centre_m(z_m) + side * (road.half_width_m + rng.uniform(8.5, 17.0))
                site.house(x_m, z_m + rng.uniform(-3, 3), rng.choice([0.0, 1.57]) + rng.uniform(-0.25, 0.25))
    if rng.random() < 0.45:
        site.church(rng.uniform(-0.3, 0.3) * 120.0, rng.uniform(90.0, 150.0), rng.uniform(0.8, 2.2))
    for x_m, z_m in site.scatter(22, 10.0, 220.0, 0.8, road, 4.0):
        site.tree(x_m, z_m, leaves, rng.uniform(5.0, 11.0))
    for x_m, z_m in site.scatter(12, 6.0, 70.0, 0.7, road, 1.0):
        site.bush(x_m, z_m, rng.uniform(0.5, 1.3), GREENS)
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        for z_m in np.arange(7.0, 45.0, 2.4):
            site.pole(road.centre_m(z_m) + side * (road.half_width_m + 1.0), z_m, 1.1, 0.0, (0.20, 0.14, 0.09))
    if rng.random() < 0.5:
        z_m = rng.uniform(12.0, 35.0)
        site.car(road.centre_m(z_m) + 0.3, z_m, 0.1)
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.choice([2.0, 3.5, 6.0, 11.0]))


def _mountains(rng: np.random.Generator) -> _Composition:
    desert, lake = rng.random() < 0.25, rng.random() < 0.5
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(2.0, 7.0), rolling_scale_m=rng.uniform(70.0, 140.0),
                      flat_m=rng.uniform(5.0, 14.0), mountain_m=rng.uniform(70.0, 200.0),
                      mountain_scale_m=rng.uniform(300.0, 600.0), mountain_start_m=rng.uniform(130.0, 260.0),
                      ridged=rng.uniform(0.5, 1.0), terrace_m=rng.uniform(22.0, 45.0) if desert else 0.0,
                      canopy_m=0.0 if desert else rng.uniform(6.0, 10.0), canopy_cover=rng.uniform(0.25, 0.75),
                      canopy_start_m=rng.uniform(70.0, 140.0),
                      water_level_m=rng.uniform(-1.2, -0.5) if lake and not desert else None)
    site = _Site(rng, terrain)
    if desert:
        ground = Ground((0.36, 0.17, 0.08), (0.44, 0.26, 0.13), rock_rgb=(0.40, 0.15, 0.07), rock_slope=0.5, strata=1.0)
        for x_m, z_m in site.scatter(26, 5.0, 120.0, 0.7):
            site.bush(x_m, z_m, rng.uniform(0.3, 0.9), ((0.11, 0.13, 0.05), (0.16, 0.14, 0.07)))
    else:
        plants, dry = GRASS[rng.integers(3)]
        ground = Ground(plants, dry, rock_slope=rng.uniform(0.6, 0.95), forest_rgb=site.pick(CONIFERS),
                        rock_rgb=site.pick(((0.21, 0.195, 0.18), (0.16, 0.16, 0.17), (0.26, 0.21, 0.16))),
                        snow_line_m=rng.uniform(0.45, 0.75) * terrain.mountain_m if rng.random() < 0.45 else 1e6)
        for x_m, z_m in site.scatter(rng.integers(10, 34), 14.0, 170.0, 0.75):
            site.conifer(x_m, z_m, rng.uniform(7.0, 17.0))
    for x_m, z_m in site.scatter(rng.integers(3, 12), 5.0, 60.0, 0.7):
        site.bush(x_m, z_m, rng.uniform(0.3, 1.4), (ground.rock_rgb,))
    if rng.random() < 0.4:
        for x_m, z_m in site.scatter(3, 35.0, 90.0, 0.4):
            site.house(x_m, z_m, rng.uniform(0, 3.1), barn=True)
    return _Composition(terrain, ground, site, rng.choice([2.0, 4.0, 8.0, 16.0]))


def _coast(rng: np.random.Generator) -> _Composition:
    turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.25)
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(0.5, 2.0), flat_m=20.0, mountain_m=rng.uniform(25.0, 110.0),
                      mountain_scale_m=rng.uniform(260.0, 480.0), mountain_start_m=rng.uniform(120.0, 220.0),
                      ridged=rng.uniform(0.2, 0.8), canopy_m=rng.uniform(3.0, 7.0), canopy_cover=rng.uniform(0.3, 0.7),
                      canopy_start_m=150.0, water_level_m=-1.4,
                      shore=(float(np.sin(turn)), float(np.cos(turn)), rng.uniform(-22.0, 8.0)))
    plants, dry = GRASS[rng.integers(3)]
    sand = ((0.55, 0.44, 0.29), (0.42, 0.36, 0.27), (0.60, 0.52, 0.38))[rng.integers(3)]
    water = ((0.010, 0.060, 0.075), (0.006, 0.035, 0.065), (0.012, 0.085, 0.085))[rng.integers(3)]
    site = _Site(rng, terrain)
    for x_m, z_m in site.scatter(26, 14.0, 150.0, 0.8):
        if site.dry(x_m, z_m, 2.2):
            site.tree(x_m, z_m, GREENS, rng.uniform(4.0, 8.0))
        elif rng.random() < 0.5:
            site.bush(x_m, z_m, rng.uniform(0.3, 0.9), ((0.16, 0.14, 0.12), (0.09, 0.085, 0.08)))
    for x_m, z_m in site.scatter(10, 30.0, 160.0, 0.8):
        if site.dry(x_m, z_m, 2.5):
            site.house(x_m, z_m, rng.uniform(0, 3.1))
    if rng.random() < 0.5:
        for x_m, z_m in site.scatter(9, 9.0, 45.0, 0.6):
            site.parasol(x_m, z_m)
    for x_m, z_m in ((rng.uniform(-0.5, 0.5) * 60.0, rng.uniform(30.0, 120.0)) for _ in range(3)):
        if not site.dry(x_m, z_m):
            boat_rgb = site.pick(CAR_PAINTS)
            site.solids.append(Solid(x_m, z_m, 1.1, 3.6, -1.0, 0.7, rng.uniform(0, 3.1), sink_m=0.4, wall_rgb=boat_rgb,
                                     roof_rgb=(0.5, 0.45, 0.38)))
            site.pole(x_m, z_m, rng.uniform(5.0, 8.0), 0.0, (0.5, 0.5, 0.5))
    return _Composition(terrain, Ground(plants, dry, sand_rgb=sand, water_rgb=water), site, rng.choice([2.2, 5.0, 10.0]))


def _farmland(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(1.5, 7.0), rolling_scale_m=rng.uniform(120.0, 220.0),
                      flat_m=rng.uniform(10.0, 30.0), **{'canopy_m': 8.0, 'canopy_cover': rng.uniform(0.1, 0.4),
                                                         'canopy_start_m': 150.0, **_distant_hills(rng, 260.0)})
    road = None
    if rng.random() < 0.65:
        road = Road(rng.uniform(-4.0, 4.0), rng.uniform(1.5, 3.2), rng.uniform(-0.3, 0.3), rng.uniform(0.0, 8.0),
                    rng.uniform(25.0, 70.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.5), marked=bool(rng.random() < 0.5))
    plants, dry = GRASS[rng.integers(3)]
    crops = tuple(CROPS[place] for place in rng.permutation(len(CROPS))[:4])
    ground = Ground(plants, dry, parcel_m=rng.uniform(25.0, 60.0), parcel_rgb=crops, parcel_yaw=rng.uniform(-0.6, 0.6), road=road)
    site, leaves = _Site(rng, terrain), GREENS if rng.random() < 0.6 else AUTUMN
    for x_m, z_m in site.scatter(16, 14.0, 260.0, 0.75, road):
        site.tree(x_m, z_m, leaves, rng.uniform(6.0, 12.0))
    row_z, row_tilt = rng.uniform(60.0, 140.0), rng.uniform(-0.4, 0.4)
    for x_m in np.arange(-70.0, 70.0, rng.uniform(5.0, 9.0)):
        if rng.random() < 0.7:
            site.tree(x_m, row_z + row_tilt * x_m, leaves, rng.uniform(5.0, 9.0))
    for x_m, z_m in site.scatter(4, 35.0, 120.0, 0.6, road, 7.0):
        site.house(x_m, z_m, rng.uniform(0, 3.1), barn=rng.random() < 0.6)
    for x_m, z_m in site.scatter(rng.integers(0, 10), 9.0, 70.0, 0.6, road):
        site.solids.append(Solid(x_m, z_m, 0.7, 1.0, site.ground_m(x_m, z_m), 0.7, rng.uniform(0, 3), 0.6, True, 0.6,
                                 style=PLANKS, wall_rgb=(0.50, 0.37, 0.13), roof_rgb=(0.55, 0.42, 0.16)))
    if rng.random() < 0.6:
        start, drift = rng.uniform(-8.0, 8.0), rng.uniform(-0.3, 0.3)
        for z_m in np.arange(10.0, 200.0, 24.0):
            site.pole(start + drift * z_m, z_m, 7.5, 1.8, (0.12, 0.085, 0.06))
    return _Composition(terrain, ground, site, rng.choice([2.0, 4.0, 7.0, 14.0]))


def _city_view(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), **_distant_hills(rng, 330.0))
    road = Road(rng.uniform(-12.0, 12.0), 5.0, rng.uniform(-0.3, 0.3), pavement_m=3.0)
    plants, dry = GRASS[rng.integers(2)]
    site, yaw = _Site(rng, terrain), rng.uniform(-0.3, 0.3)
    tallest, modern_share = rng.uniform(25.0, 110.0), rng.uniform(0.1, 0.8)
    for x_m, z_m in site.scatter(46, 45.0, 420.0, 0.75, road, 12.0):
        height_m = 7.0 + tallest * rng.random() ** 2 * min(1.0, z_m / 160.0)
        site.block(x_m, z_m, rng.uniform(5.0, 11.0), rng.uniform(5.0, 12.0), height_m, yaw, False, rng.random() < modern_share)
    for x_m, z_m in site.scatter(26, 16.0, 120.0, 0.75, road, 3.0):
        site.tree(x_m, z_m, GREENS, rng.uniform(5.0, 10.0))
    for z_m in np.arange(24.0, 160.0, 17.0):
        site.car(road.centre_m(z_m) + rng.choice([-1, 1]) * 2.2, z_m, -np.arctan(road.heading))
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.uniform(9.0, 28.0))


def _park(rng: np.random.Generator) -> _Composition:
    pond = rng.random() < 0.45
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(1.0, 3.0), rolling_scale_m=rng.uniform(60.0, 110.0), flat_m=7.0,
                      water_level_m=-0.5 if pond else None, canopy_m=9.0, canopy_cover=rng.uniform(0.3, 0.9),
                      canopy_start_m=rng.uniform(120.0, 220.0))
    road = None if pond else Road(rng.uniform(-3.0, 3.0), rng.uniform(1.0, 1.8), rng.uniform(-0.2, 0.2), rng.uniform(1.0, 5.0),
                                  rng.uniform(12.0, 30.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.4), marked=False)
    plants, dry = GRASS[rng.integers(2)]
    site, leaves = _Site(rng, terrain), AUTUMN if rng.random() < 0.4 else GREENS
    for x_m, z_m in site.scatter(30, 10.0, 160.0, 0.75, road, 2.0):
        site.tree(x_m, z_m, leaves, rng.uniform(6.0, 13.0))
    for x_m, z_m in site.scatter(10, 5.0, 50.0, 0.7, road, 1.0):
        site.bush(x_m, z_m, rng.uniform(0.4, 1.2), GREENS if rng.random() < 0.7 else ((0.40, 0.05, 0.12), (0.45, 0.30, 0.04)))
    if rng.random() < 0.6:
        for x_m, z_m in site.scatter(9, 150.0, 330.0, 0.6):
            site.block(x_m, z_m, 9.0, 9.0, rng.uniform(14.0, 60.0), rng.uniform(-0.4, 0.4), False, rng.random() < 0.5)
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.choice([1.7, 2.4, 5.0]))


LAYOUTS = (_street, _village, _mountains, _coast, _farmland, _city_view, _park, _street)


def _daylight(rng: np.random.Generator) -> Tuple[Light, Sky, float]:
    """Sun, sky and exposure of one of: midday, afternoon, golden hour, broken overcast."""
    kind = rng.choice(4, p=[0.40, 0.30, 0.20, 0.10])
    elevation = np.deg2rad((rng.uniform(40, 62), rng.uniform(24, 40), rng.uniform(9, 18), rng.uniform(35, 55))[kind])
    # More often behind the photographer or to the side than in the picture.
    azimuth = rng.choice([-1, 1]) * np.deg2rad(rng.uniform(35, 165))
    direction = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    sun_rgb = ((1.30, 1.22, 1.08), (1.30, 1.12, 0.86), (1.35, 0.88, 0.46), (0.50, 0.50, 0.49))[kind]
    sky_rgb = ((0.24, 0.30, 0.40), (0.23, 0.28, 0.38), (0.22, 0.24, 0.33), (0.44, 0.47, 0.51))[kind]
    zenith = ((0.055, 0.17, 0.50), (0.06, 0.16, 0.44), (0.10, 0.18, 0.40), (0.30, 0.36, 0.44))[kind]
    horizon = ((0.36, 0.55, 0.78), (0.46, 0.56, 0.68), (0.85, 0.50, 0.25), (0.58, 0.62, 0.66))[kind]
    cloud = ((0.86, 0.88, 0.92), (0.88, 0.83, 0.78), (0.90, 0.58, 0.42), (0.70, 0.72, 0.75))[kind]
    cover = (rng.choice([0.0, rng.uniform(0.25, 0.7)]), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.6), rng.uniform(0.7, 0.95))[kind]
    tint = rng.uniform(0.88, 1.12, 3)
    light = Light(direction, np.array(sun_rgb, np.float32), np.array(sky_rgb, np.float32))
    sky = Sky(tuple(zenith * tint), tuple(horizon * (0.5 + 0.5 * tint)), cloud, float(cover), rng.uniform(0.16, 0.34),
              rng.uniform(0.0, 40.0))
    return light, sky, rng.uniform(0.92, 1.12) * (1.0, 1.04, 1.15, 1.15)[kind]


def compose_scene(rng: np.random.Generator) -> SceneSpecification:
    """Draws one scene; independent of the picture's size."""
    layout = LAYOUTS[rng.integers(len(LAYOUTS))]
    light, sky, exposure = _daylight(rng)
    terrain, ground, site, camera_m = layout(rng)
    foot_m = site.ground_m(0.0, 0.3)
    solids = [solid for solid in site.solids if not _blocks_view(solid)]
    return SceneSpecification(foot_m + float(camera_m), rng.uniform(0.70, 1.05), rng.uniform(-0.06, 0.20), exposure, light,
                              sky, terrain, ground, solids, site.blobs, site.shadows)


def _blocks_view(solid: Solid) -> bool:
    """Whether the camera stands inside the solid or right in front of it."""
    reach = np.hypot(solid.half_width_m, solid.half_length_m)
    ahead = abs(solid.x_m) < 0.8 * solid.half_width_m + 1.0 and 0.0 < solid.z_m < reach + 4.0
    return bool(np.hypot(solid.x_m, solid.z_m) < min(solid.half_width_m, solid.half_length_m) + 1.0 or ahead)
