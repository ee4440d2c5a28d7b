"""Rendered rooms: exact distances by another computation, and pictures that look like photographs of rooms."""

from __future__ import annotations

import numpy as np
import pytest

from cut_tf.data.rendering import rooms
from cut_tf.data.rendering.furniture import compose_room
from cut_tf.data.rendering.renderer import view_rays
from cut_tf.data.rendering.rooms import render_room

SEED, SIDE_PX = 7, 64


@pytest.fixture(name="pictures", scope="module")
def _pictures():
    return [render_room(SEED, index, SIDE_PX, SIDE_PX) for index in range(16)]


def _boxes_in_the_camera_frame(room):
    """Centre [3], half sizes [3] and yaw of each box of a specification, the room last."""
    cosine, sine = np.cos(room.yaw), np.sin(room.yaw)
    found = [(np.array([room.x_m + box.x_m * cosine - box.z_m * sine, box.base_m + 0.5 * box.height_m - room.eye_m,
                        room.z_m + box.x_m * sine + box.z_m * cosine]),
              np.array([box.half_width_m, 0.5 * box.height_m, box.half_length_m]), room.yaw + box.yaw)
             for box in room.boxes]
    return [*found, (np.array([room.x_m, 0.5 * room.height_m - room.eye_m, room.z_m]),
                     np.array([room.half_width_m, 0.5 * room.height_m, room.half_length_m]), room.yaw)]


def _distances(room, rays):
    """Distances along the rays [H, W] by the slab method in each box's own frame, in float64."""
    u, v = np.meshgrid(rays.u.astype(np.float64), rays.v.astype(np.float64))
    direction = np.stack([u, v, np.ones_like(u)], axis=-1)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    nearest = np.full(u.shape, np.inf)
    for number, (centre, half, yaw) in enumerate(_boxes_in_the_camera_frame(room)):
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        slope, origin = direction @ turn.T, -turn @ centre
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (np.sort(np.stack([(-half - origin) / slope, (half - origin) / slope]), axis=0))
        enters, leaves = near.max(axis=-1), far.min(axis=-1)
        if number == len(room.boxes):
            nearest = np.minimum(nearest, leaves)
        else:
            # A box nearer than 0.4 m of forward distance is not drawn.
            forward = enters / np.linalg.norm(np.stack([u, v, np.ones_like(u)], axis=-1), axis=-1)
            nearest = np.where((enters < leaves) & (forward > 0.4), np.minimum(nearest, enters), nearest)
    return nearest


@pytest.mark.parametrize("index", range(6))
def test_distances_are_those_of_the_boxes(index):
    room = compose_room(np.random.default_rng([SEED, index, 77]))
    rays = view_rays(room, 60, 80)
    _, found = rooms.render_samples(room, rays)
    expected = _distances(room, rays)
    # At an edge, rounding decides which of two surfaces a ray meets.
    same = np.abs(found - expected) < 1e-3 * expected
    assert same.mean() > 0.998 and len(room.boxes) > 3


def test_an_empty_room_ends_at_its_walls():
    room = compose_room(np.random.default_rng(3))._replace(
        boxes=[], yaw=0.0, x_m=0.5, z_m=2.0, half_width_m=1.5, half_length_m=3.0, height_m=2.5, eye_m=1.5,
        lens_shift=0.0, focal=1.0)
    rays = view_rays(room, 101, 101)
    _, distance_m = rooms.render_samples(room, rays)
    length = np.sqrt(1 + rays.u[None, :] ** 2 + rays.v[:, None] ** 2)
    forward = distance_m / length
    assert forward[50, 50] == pytest.approx(5.0, abs=1e-4)  # the back wall, 2 + 3 m away
    assert forward[100, 50] == pytest.approx(1.5 / -rays.v[100], rel=1e-4)  # the floor
    assert forward[0, 50] == pytest.approx(1.0 / rays.v[0], rel=1e-4)  # the ceiling
    assert forward[50, 0] == pytest.approx(-1.0 / rays.u[0], rel=1e-4)  # the left wall is 1 m away


def test_distances_are_those_of_rooms(pictures):
    for picture in pictures:
        assert picture.image.shape == (SIDE_PX, SIDE_PX, 3) and picture.image.dtype == np.uint8
        assert picture.depth_m.dtype == np.float32
        assert picture.depth_m.min() > 0.3 and picture.depth_m.max() < 10.5
    assert 1.5 < np.median([np.median(picture.depth_m) for picture in pictures]) < 5.0


def test_pictures_are_lit_and_differ(pictures):
    brightness = np.array([picture.image.mean() for picture in pictures])
    assert brightness.min() > 25 and brightness.max() < 220
    contrast = [picture.image.mean(axis=2).std() for picture in pictures]
    assert min(contrast) > 8 and np.median(contrast) > 25
    small = np.array([picture.image[::8, ::8].ravel() for picture in pictures], float)
    gaps = np.abs(small[:, None] - small[None]).mean(axis=2) + 1e3 * np.eye(len(small))
    assert gaps.min() > 8
    saturation = [np.ptp(picture.image.astype(int), axis=2).mean() for picture in pictures]
    assert np.median(saturation) > 15


def test_same_arguments_give_the_same_room_at_every_size():
    first, again = render_room(3, 5, 48, 64), render_room(3, 5, 48, 64)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    large = render_room(3, 5, 192, 256)
    reduced = large.image.reshape(48, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), first.image.ravel())[0, 1] > 0.93


@pytest.mark.parametrize("height, width", [(16, 16), (17, 90), (90, 17)])
def test_every_size_is_drawn(height, width):
    for index in range(4):
        picture = render_room(1, index, height, width)
        assert picture.image.shape == (height, width, 3) and np.isfinite(picture.depth_m).all()


def test_a_lamp_lights_what_faces_it():
    """On a plain floor under one lamp the light falls off as cos / (1/4 + r^2)."""
    room = compose_room(np.random.default_rng(3))
    room = room._replace(boxes=[], yaw=0.0, x_m=0.0, z_m=3.0, half_width_m=3.0, half_length_m=4.0, height_m=2.6,
                         eye_m=1.5, lens_shift=-0.5, focal=1.0, ambient=(0.0, 0.0, 0.0),
                         lamps=[((0.0, 2.0, 0.0), (1.0, 1.0, 1.0))], floor=room.ceiling)
    rays = view_rays(room, 80, 80)
    colour, distance_m = rooms.render_samples(room, rays)
    u, v = np.meshgrid(rays.u, rays.v)
    forward = distance_m / np.sqrt(1 + u**2 + v**2)
    x_m, y_m, z_m = u * forward, 1.5 + v * forward, forward
    inside = (y_m < 0.01) & (np.abs(x_m) < 2.0) & (z_m < 6.0) & (z_m > 1.0)
    squared = x_m**2 + 2.0**2 + (z_m - 3.0) ** 2
    expected = (2.0 / np.sqrt(squared)) / (0.25 + squared)
    ratio = colour[..., 0][inside] / expected[inside]
    assert inside.sum() > 500 and ratio.std() / ratio.mean() < 0.05


@pytest.mark.parametrize("arguments, message", [
    ((-1, 0, 32, 32), r"seed must be an integer >= 0, got -1"),
    ((0, 0, 15, 32), r"height must be an integer >= 16, got 15"),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_room(*arguments)
