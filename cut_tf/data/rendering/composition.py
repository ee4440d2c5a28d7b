"""Random composition of the rendered scenes: what stands where, under which light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cut_tf.data.noise import Terrain
from cut_tf.data.rendering.ground import Ground, Road, Sky
from cut_tf.data.rendering.objects import PLANKS, Blob, Light, Solid
from cut_tf.data.rendering.site import AUTUMN, BLOSSOMS, CAR_PAINTS, CONIFERS, GREENS, Shadow, Site

# Linear RGB reflectances.
GRASS = (((0.085, 0.135, 0.025), (0.170, 0.165, 0.045)), ((0.055, 0.115, 0.022), (0.110, 0.150, 0.035)),
         ((0.200, 0.165, 0.060), (0.280, 0.210, 0.090)))
CROPS = ((0.105, 0.170, 0.030), (0.42, 0.31, 0.10), (0.15, 0.095, 0.055), (0.060, 0.120, 0.025), (0.62, 0.50, 0.05),
         (0.24, 0.22, 0.07), (0.20, 0.11, 0.06))


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
    solids: list[Solid]
    blobs: list[Blob]
    shadows: list[Shadow]


class _Composition(NamedTuple):
    terrain: Terrain
    ground: Ground
    site: Site
    camera_m: float


def _offset(rng: np.random.Generator) -> tuple[float, float]:
    return tuple(float(value) for value in rng.uniform(0.0, 3000.0, 2))


def _distant_hills(rng: np.random.Generator, start_m: float) -> dict:
    """Terrain parameters of wooded hills behind a settlement, or none."""
    if rng.random() < 0.3:
        return {}
    return {"mountain_m": rng.uniform(25.0, 90.0), "mountain_scale_m": rng.uniform(300.0, 550.0),
            "mountain_start_m": start_m, "canopy_m": rng.uniform(5.0, 9.0), "canopy_cover": rng.uniform(0.3, 0.9),
            "canopy_start_m": start_m}


def _street(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), **_distant_hills(rng, 230.0))
    heading = rng.uniform(-0.10, 0.10)
    road = Road(rng.uniform(-3.0, 3.0), rng.uniform(3.4, 6.0), heading, pavement_m=rng.uniform(2.2, 4.0),
                crossing_m=rng.uniform(9.0, 30.0))
    plants, dry = GRASS[rng.integers(2)]
    site = Site(rng, terrain)
    yaw, modern_share, floors = -np.arctan(heading), rng.choice([0.0, 0.25, 0.7]), rng.integers(2, 8)
    end_m = rng.uniform(90.0, 260.0)
    for side in (-1, 1):
        z_m = rng.uniform(-4.0, 8.0)
        while z_m < end_m:
            length = rng.uniform(8.0, 24.0)
            depth, centre = rng.uniform(10.0, 16.0), z_m + 0.5 * length
            kerb_m = road.half_width_m + road.pavement_m
            x_m = road.centre_m(centre) + side * (kerb_m + rng.uniform(0, 1.2) + 0.5 * depth)
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
                      **{"canopy_start_m": 130.0, **_distant_hills(rng, 140.0)})
    road = Road(rng.uniform(-4.0, 3.0), rng.uniform(1.6, 3.0), rng.uniform(-0.2, 0.2), rng.uniform(1.0, 7.0),
                rng.uniform(18.0, 45.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.5),
                marked=bool(rng.random() < 0.4))
    plants, dry = GRASS[rng.integers(3)]
    site, leaves = Site(rng, terrain), GREENS if rng.random() < 0.65 else AUTUMN
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
    site = Site(rng, terrain)
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
    turn = rng.choice([-1, 1]) * rng.uniform(0.75, 1.35)
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(0.5, 2.0), flat_m=20.0, mountain_m=rng.uniform(35.0, 130.0),
                      mountain_scale_m=rng.uniform(260.0, 480.0), mountain_start_m=rng.uniform(80.0, 200.0),
                      ridged=rng.uniform(0.2, 0.8), canopy_m=rng.uniform(3.0, 7.0), canopy_cover=rng.uniform(0.3, 0.7),
                      canopy_start_m=150.0, water_level_m=-1.4,
                      shore=(float(np.sin(turn)), float(np.cos(turn)), rng.uniform(-10.0, 14.0)))
    plants, dry = GRASS[rng.integers(3)]
    sand = ((0.55, 0.44, 0.29), (0.42, 0.36, 0.27), (0.60, 0.52, 0.38))[rng.integers(3)]
    water = ((0.010, 0.060, 0.075), (0.006, 0.035, 0.065), (0.012, 0.085, 0.085))[rng.integers(3)]
    site = Site(rng, terrain)
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
            site.solids.append(Solid(x_m, z_m, 1.1, 3.6, -1.0, 0.7, rng.uniform(0, 3.1), sink_m=0.4,
                                     wall_rgb=boat_rgb, roof_rgb=(0.5, 0.45, 0.38)))
            site.pole(x_m, z_m, rng.uniform(5.0, 8.0), 0.0, (0.5, 0.5, 0.5))
    ground = Ground(plants, dry, sand_rgb=sand, water_rgb=water)
    return _Composition(terrain, ground, site, rng.choice([2.2, 5.0, 10.0]))


def _farmland(rng: np.random.Generator) -> _Composition:
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(1.5, 7.0), rolling_scale_m=rng.uniform(120.0, 220.0),
                      flat_m=rng.uniform(10.0, 30.0), **{"canopy_m": 8.0, "canopy_cover": rng.uniform(0.1, 0.4),
                                                         "canopy_start_m": 150.0, **_distant_hills(rng, 260.0)})
    road = None
    if rng.random() < 0.65:
        road = Road(rng.uniform(-4.0, 4.0), rng.uniform(1.5, 3.2), rng.uniform(-0.3, 0.3), rng.uniform(0.0, 8.0),
                    rng.uniform(25.0, 70.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.5),
                    marked=bool(rng.random() < 0.5))
    plants, dry = GRASS[rng.integers(3)]
    crops = tuple(CROPS[place] for place in rng.permutation(len(CROPS))[:4])
    ground = Ground(plants, dry, parcel_m=rng.uniform(25.0, 60.0), parcel_rgb=crops,
                    parcel_yaw=rng.uniform(-0.6, 0.6), road=road)
    site, leaves = Site(rng, terrain), GREENS if rng.random() < 0.6 else AUTUMN
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
    site, yaw = Site(rng, terrain), rng.uniform(-0.3, 0.3)
    tallest, modern_share = rng.uniform(25.0, 110.0), rng.uniform(0.1, 0.8)
    for x_m, z_m in site.scatter(46, 45.0, 420.0, 0.75, road, 12.0):
        height_m = 7.0 + tallest * rng.random() ** 2 * min(1.0, z_m / 160.0)
        site.block(x_m, z_m, rng.uniform(5.0, 11.0), rng.uniform(5.0, 12.0), height_m, yaw, False,
                   rng.random() < modern_share)
    for x_m, z_m in site.scatter(26, 16.0, 120.0, 0.75, road, 3.0):
        site.tree(x_m, z_m, GREENS, rng.uniform(5.0, 10.0))
    for z_m in np.arange(24.0, 160.0, 17.0):
        site.car(road.centre_m(z_m) + rng.choice([-1, 1]) * 2.2, z_m, -np.arctan(road.heading))
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.uniform(9.0, 28.0))


def _park(rng: np.random.Generator) -> _Composition:
    pond = rng.random() < 0.45
    terrain = Terrain(_offset(rng), rolling_m=rng.uniform(1.0, 3.0), rolling_scale_m=rng.uniform(60.0, 110.0),
                      flat_m=7.0, water_level_m=-0.5 if pond else None, canopy_m=9.0,
                      canopy_cover=rng.uniform(0.3, 0.9), canopy_start_m=rng.uniform(120.0, 220.0))
    road = None
    if not pond:
        road = Road(rng.uniform(-3.0, 3.0), rng.uniform(1.0, 1.8), rng.uniform(-0.2, 0.2), rng.uniform(1.0, 5.0),
                    rng.uniform(12.0, 30.0), rng.uniform(0, 6.0), paved=bool(rng.random() < 0.4), marked=False)
    plants, dry = GRASS[rng.integers(2)]
    site, leaves = Site(rng, terrain), AUTUMN if rng.random() < 0.4 else GREENS
    for x_m, z_m in site.scatter(30, 13.0, 160.0, 0.75, road, 2.0):
        site.tree(x_m, z_m, leaves, rng.uniform(6.0, 13.0))
    for x_m, z_m in site.scatter(10, 5.0, 50.0, 0.7, road, 1.0):
        site.bush(x_m, z_m, rng.uniform(0.4, 1.2), GREENS if rng.random() < 0.7 else BLOSSOMS)
    if rng.random() < 0.6:
        for x_m, z_m in site.scatter(9, 150.0, 330.0, 0.6):
            site.block(x_m, z_m, 9.0, 9.0, rng.uniform(14.0, 60.0), rng.uniform(-0.4, 0.4), False, rng.random() < 0.5)
    return _Composition(terrain, Ground(plants, dry, road=road), site, rng.choice([1.7, 2.4, 5.0]))


LAYOUTS = (_street, _village, _mountains, _coast, _farmland, _city_view, _park, _street, _mountains)


def _daylight(rng: np.random.Generator) -> tuple[Light, Sky, float]:
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
    cover = (rng.choice([0.0, rng.uniform(0.25, 0.7)]), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.6),
             rng.uniform(0.7, 0.95))[kind]
    tint = rng.uniform(0.88, 1.12, 3)
    light = Light(direction, np.array(sun_rgb, np.float32), np.array(sky_rgb, np.float32))
    sky = Sky(tuple(zenith * tint), tuple(horizon * (0.5 + 0.5 * tint)), cloud, float(cover),
              rng.uniform(0.16, 0.34), rng.uniform(0.0, 40.0))
    return light, sky, rng.uniform(0.92, 1.12) * (1.0, 1.04, 1.15, 1.15)[kind]


def compose_scene(rng: np.random.Generator) -> SceneSpecification:
    """Draws one scene; independent of the picture's size."""
    layout = LAYOUTS[rng.integers(len(LAYOUTS))]
    light, sky, exposure = _daylight(rng)
    terrain, ground, site, camera_m = layout(rng)
    foot_m = site.ground_m(0.0, 0.3)
    solids = [solid for solid in site.solids if not _blocks_view(solid)]
    return SceneSpecification(foot_m + float(camera_m), rng.uniform(0.70, 1.05), rng.uniform(-0.06, 0.20), exposure,
                              light, sky, terrain, ground, solids, site.blobs, site.shadows)


def _blocks_view(solid: Solid) -> bool:
    """Whether the camera stands inside the solid or right in front of it."""
    reach = np.hypot(solid.half_width_m, solid.half_length_m)
    ahead = abs(solid.x_m) < 0.8 * solid.half_width_m + 1.0 and 0.0 < solid.z_m < reach + 4.0
    return bool(np.hypot(solid.x_m, solid.z_m) < min(solid.half_width_m, solid.half_length_m) + 1.0 or ahead)
