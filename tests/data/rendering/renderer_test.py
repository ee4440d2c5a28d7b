import numpy as np
import pytest

from cut_tf.data.haze.scattering import add_haze, sample_haze
from cut_tf.data.noise import Terrain
from cut_tf.data.rendering import renderer
from cut_tf.data.rendering.composition import compose_scene
from cut_tf.data.rendering.objects import FIRST_SLOPE, GeometryBuffer, Rays, Solid, draw_solid
from cut_tf.data.rendering.renderer import SKY_DEPTH_M, render_scene

SEED = 7
SIDE_PX = 96
DARK_PATCH_PX = 15


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(SEED, index, SIDE_PX, SIDE_PX) for index in range(32)]


def dark_channel(image):
    """Minimum over the colours and a patch around each pixel, in [0, 1] (He et al. 2009)."""
    half = DARK_PATCH_PX // 2
    darkest = np.pad(image.min(axis=2), half, mode="edge") / 255.0
    patches = np.lib.stride_tricks.sliding_window_view(darkest, (DARK_PATCH_PX, DARK_PATCH_PX))
    return patches.min(axis=(2, 3))


def neighbour_correlation(image):
    grey = image.mean(axis=2)
    return np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1]


def empty_plain(eye_m):
    """A specification of bare level ground under an empty sky, seen from `eye_m` above it."""
    specification = compose_scene(np.random.default_rng(0))
    return specification._replace(terrain=Terrain(), solids=[], blobs=[], shadows=[], eye_m=eye_m, focal=1.0,
                                  lens_shift=0.0)


def test_same_arguments_give_the_same_scene():
    first, second = render_scene(3, 5, 48, 64), render_scene(3, 5, 48, 64)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)


def test_scene_does_not_depend_on_what_was_rendered_before():
    alone = render_scene(3, 6, 32, 32)
    render_scene(9, 1, 40, 20)
    np.testing.assert_array_equal(render_scene(3, 6, 32, 32).image, alone.image)


def test_seed_and_index_both_change_the_picture():
    reference = render_scene(0, 0, 48, 48).image.astype(int)
    for other in (render_scene(0, 1, 48, 48), render_scene(1, 0, 48, 48)):
        assert np.abs(other.image - reference).mean() > 10


def test_all_scenes_differ(scenes):
    small = np.array([scene.image[::8, ::8].ravel() for scene in scenes], float)
    gaps = np.abs(small[:, None] - small[None]).mean(axis=2) + 1e3 * np.eye(len(small))
    assert gaps.min() > 8


@pytest.mark.parametrize("height, width", [(16, 16), (33, 47), (64, 17), (20, 90)])
def test_shapes_types_and_ranges(height, width):
    for index in range(6):
        image, depth_m = render_scene(SEED, index, height, width)
        assert image.shape == (height, width, 3) and image.dtype == np.uint8
        assert depth_m.shape == (height, width) and depth_m.dtype == np.float32
        assert np.isfinite(depth_m).all() and depth_m.min() > 0.3 and depth_m.max() <= SKY_DEPTH_M


def test_sizes_show_the_same_composition():
    for index in range(4):
        large, small = render_scene(SEED, index, 128, 128), render_scene(SEED, index, 32, 32)
        reduced = large.image.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.corrcoef(reduced.ravel(), small.image.ravel())[0, 1] > 0.9
        ratio = np.median(large.depth_m.reshape(32, 4, 32, 4), axis=(1, 3)) / small.depth_m
        assert np.mean(np.abs(np.log(ratio)) < 0.2) > 0.8


def test_sky_is_farthest_and_scenes_reach_from_near_to_far(scenes):
    for scene in scenes:
        sky = scene.depth_m == np.float32(SKY_DEPTH_M)
        assert 1.0 - sky.mean() > 0.02
        assert scene.depth_m[~sky].max() < SKY_DEPTH_M
        assert scene.depth_m[~sky].max() > 2.0 * scene.depth_m[~sky].min()
        # The sky lies above the ground: wherever the bottom row is sky, something is wrong.
        assert not sky[-1].any()
    assert np.mean([scene.depth_m.max() == SKY_DEPTH_M for scene in scenes]) > 0.8
    assert np.median([scene.depth_m.min() for scene in scenes]) < 15.0
    assert np.median([scene.depth_m[scene.depth_m < SKY_DEPTH_M].max() for scene in scenes]) > 300.0


def test_depth_of_a_plain_is_that_of_the_plane():
    eye_m, side = 2.0, 64
    rays = renderer.view_rays(empty_plain(eye_m), side, side)
    _, distance_m = renderer._render_samples(empty_plain(eye_m), rays)
    u, v = np.meshgrid(rays.u.astype(float), rays.v.astype(float))
    ground = v < -0.02
    expected_m = eye_m / -v[ground] * np.sqrt(1 + u[ground] ** 2 + v[ground] ** 2)
    np.testing.assert_allclose(distance_m[ground], expected_m, rtol=1e-3)
    assert (distance_m[v > 0] == SKY_DEPTH_M).all()


def test_depth_of_hills_lies_on_the_height_field():
    hills = Terrain(rolling_m=8.0, rolling_scale_m=60.0, flat_m=5.0)
    specification = empty_plain(4.0)._replace(terrain=hills)
    rays = renderer.view_rays(specification, 96, 96)
    grid = renderer._terrain_grid(specification, rays)
    z_m, _ = renderer._meet_terrain(grid, rays)
    row, column = np.nonzero((z_m < 150.0) & (z_m > 2.0))
    z_m = z_m[row, column]
    height_m = renderer.terrain_height(hills, rays.u[column] * z_m, z_m)
    error_m = np.abs(rays.eye_m + rays.v[row] * z_m - height_m)
    assert row.size > 2000 and height_m.std() > 2.0
    # The surface is linear between grid steps of 4 % of the distance.
    assert np.median(error_m) < 0.05 and np.percentile(error_m, 95) < 0.5


@pytest.mark.parametrize("yaw", [0.0, 0.6])
def test_wall_and_roof_meet_the_rays_where_their_planes_do(yaw):
    rays = Rays(np.linspace(-0.5, 0.5, 101, dtype=np.float32), np.linspace(0.5, -0.5, 101, dtype=np.float32), 2.0, 0.01)
    shape = (101, 101)
    buffer = GeometryBuffer(np.full(shape, np.inf, np.float32), np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    solid = Solid(0.0, 20.0, 3.0, 5.0, 0.0, 4.0, yaw, roof_m=3.0)
    normals = draw_solid(solid, 1, rays, buffer)
    row, column = np.nonzero(buffer.number == 1)
    z_m, face = buffer.z_m[row, column], buffer.detail[row, column].astype(int)
    point = np.stack([rays.u[column] * z_m, rays.eye_m + rays.v[row] * z_m - solid.base_m, z_m - solid.z_m], axis=1)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    across, along = point[:, 0] * cosine + point[:, 2] * sine, point[:, 2] * cosine - point[:, 0] * sine
    roof = face >= FIRST_SLOPE
    assert (np.abs(across) < 3.001).all() and (np.abs(along) < 5.001).all()
    eaves = 4.0 + 3.0 * (1.0 - np.abs(across) / 3.0)
    assert (point[:, 1] < eaves + 0.001).all()
    np.testing.assert_allclose(point[roof, 1], eaves[roof], atol=1e-3)
    on_wall = np.minimum(np.abs(np.abs(across) - 3.0), np.abs(np.abs(along) - 5.0))
    np.testing.assert_allclose(on_wall[~roof], 0.0, atol=1e-3)
    # Every face that is seen looks towards the camera.
    directions = np.stack([rays.u[column], rays.v[row], np.ones(row.size)], axis=1)
    assert (np.sum(normals[face] * directions, axis=1) < 0).all()
    assert yaw or buffer.z_m[50, 50] == pytest.approx(15.0, abs=1e-4)


def test_nearer_body_hides_the_farther_whatever_the_order():
    rays = Rays(np.linspace(-0.5, 0.5, 21, dtype=np.float32), np.linspace(0.5, -0.5, 21, dtype=np.float32), 1.0, 0.05)
    near, far = Solid(0.0, 10.0, 1.0, 1.0, 0.0, 2.0), Solid(0.0, 30.0, 1.0, 1.0, 0.0, 2.0)
    for order in ((near, far), (far, near)):
        buffer = GeometryBuffer(np.full((21, 21), np.inf, np.float32), np.zeros((21, 21), np.int32),
                                np.zeros((21, 21), np.float32))
        for number, solid in enumerate(order, start=1):
            draw_solid(solid, number, rays, buffer)
        assert buffer.z_m[10, 10] == pytest.approx(9.0, abs=1e-4)
        assert order[buffer.number[10, 10] - 1] is near


def test_pictures_have_the_contrast_and_smoothness_of_photographs(scenes):
    contrast = np.array([scene.image.mean(axis=2).std() / 255.0 for scene in scenes])
    assert contrast.min() > 0.05 and 0.12 < np.median(contrast) < 0.30
    correlation = np.array([neighbour_correlation(scene.image) for scene in scenes])
    assert correlation.min() > 0.6 and np.median(correlation) > 0.85
    # Neither blurred nor flat: neighbours also differ.
    steps = [np.abs(np.diff(scene.image.astype(int), axis=1)).mean() for scene in scenes]
    assert min(steps) > 1.0
    brightness = np.array([scene.image.mean() / 255.0 for scene in scenes])
    assert brightness.min() > 0.12 and brightness.max() < 0.8


def test_dark_channel_is_low_without_haze_and_rises_with_it(scenes):
    clear, solid_only, hazy = [], [], []
    for index, scene in enumerate(scenes):
        dark = dark_channel(scene.image)
        clear.append(dark.mean())
        solid_only.append(dark[scene.depth_m < SKY_DEPTH_M].mean())
        haze = sample_haze(np.random.default_rng(index), scene.depth_m)
        hazy.append(dark_channel(add_haze(scene.image, scene.depth_m, *haze)).mean())
    assert np.mean(clear) < 0.25
    assert np.mean(solid_only) < 0.17
    assert np.mean(hazy) > np.mean(clear) + 0.15
    assert (np.array(hazy) > np.array(clear)).all()


def test_colours_vary_within_and_across_scenes(scenes):
    means = np.array([scene.image.mean(axis=(0, 1)) for scene in scenes[:16]])
    assert (means.std(axis=0) > 8).all()
    chroma = means - means.mean(axis=1, keepdims=True)
    assert chroma.std(axis=0).max() > 5
    saturation = [np.ptp(scene.image.astype(int), axis=2).mean() for scene in scenes]
    assert np.median(saturation) > 25


@pytest.mark.parametrize("arguments, message", [
    ((-1, 0, 32, 32), r"seed must be an integer >= 0, got -1"),
    ((0, -2, 32, 32), r"index must be an integer >= 0, got -2"),
    ((0, 0, 15, 32), r"height must be an integer >= 16, got 15"),
    ((0, 0, 32, 8), r"width must be an integer >= 16, got 8"),
    ((0, 0, 32.0, 32), r"height must be an integer >= 16, got 32\.0"),
    ((0, True, 32, 32), r"index must be an integer >= 0, got True"),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments)
