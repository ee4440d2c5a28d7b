"""Depth maps in 16-bit PNG and .npy files."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.haze.depth_maps import depth_map_of, find_depth_maps, read_depth, resize_nearest

LEVELS = np.array([[0, 1, 250], [1000, 40000, 65535]], np.uint16)


def _png(path, levels=LEVELS):
    Image.fromarray(levels).save(path)
    return path


def test_png_is_in_millimetres(tmp_path):
    depth_m = read_depth(_png(tmp_path / "a.png"))
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, [[0, 0.001, 0.25], [1, 40, 65.535]], rtol=1e-6)


def test_png_in_another_unit(tmp_path):
    np.testing.assert_allclose(read_depth(_png(tmp_path / "a.png"), 0.5), LEVELS * 0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npy_is_in_metres_and_may_be_infinite(tmp_path, dtype):
    expected = np.array([[0.5, np.inf, 3.25], [0, 1, 2]])
    np.save(tmp_path / "a.npy", expected.astype(dtype))
    depth_m = read_depth(tmp_path / "a.npy", scale=7.0)
    assert depth_m.dtype == np.float32
    np.testing.assert_array_equal(depth_m, expected)


def test_npy_in_the_order_of_fortran(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(LEVELS.astype(np.float32)))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy"), LEVELS)


def test_nearest_by_hand():
    small = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(resize_nearest(small, 4, 6), small.repeat(2, axis=0).repeat(3, axis=1))
    # Of three columns two lie in the halves, the middle one starts the second half.
    np.testing.assert_array_equal(resize_nearest(small, 2, 3), [[1, 2, 2], [3, 4, 4]])
    large = np.arange(36).reshape(6, 6)
    np.testing.assert_array_equal(resize_nearest(large, 2, 2), [[7, 10], [25, 28]])
    np.testing.assert_array_equal(resize_nearest(large, 6, 6), large)


def test_maps_are_found_by_stem(tmp_path):
    _png(tmp_path / "a.png")
    np.save(tmp_path / "b.x.npy", np.ones((2, 2), np.float32))
    _png(tmp_path / "unused.png")
    assert find_depth_maps(tmp_path, ["a", "b.x"]) == {"a": tmp_path / "a.png", "b.x": tmp_path / "b.x.npy"}
    assert depth_map_of(tmp_path, "b.x") == tmp_path / "b.x.npy"


def test_every_missing_one_is_named(tmp_path):
    _png(tmp_path / "p3.png")
    with pytest.raises(InputError, match="must have a depth map .*found none for 39 of 40") as caught:
        find_depth_maps(tmp_path, [f"p{number}" for number in range(40)])
    words = str(caught.value).replace(",", "").split()
    assert [word for word in words if word.startswith("p") and word[1:].isdigit()] == [
        f"p{number}" for number in range(40) if number != 3]
    with pytest.raises(InputError, match="for p0, found none"):
        depth_map_of(tmp_path, "p0")


def test_two_maps_of_one_photograph(tmp_path):
    _png(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match=r"must have one depth map for each photograph, found a\.png and a\.npy"):
        find_depth_maps(tmp_path, ["a"])


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="--depth must be a folder with depth maps, found .*none"):
        find_depth_maps(tmp_path / "none", ["a"])


def _npy_bytes(array, **options):
    data = io.BytesIO()
    np.save(data, array, **options)
    return data.getvalue()


def _png_bytes(array):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


class _Trap:
    """Leaves a trace if it is ever unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("name, data, message", [
    ("a.png", _png_bytes(np.ones((2, 3), np.uint8)), "must be a complete 16-bit grey PNG, found mode L"),
    ("a.png", _png_bytes(np.ones((2, 3, 3), np.uint8)), "must be a complete 16-bit grey PNG, found mode RGB"),
    ("a.png", b"no picture", "must be a complete 16-bit grey PNG, found 10 bytes starting with b'no pictu'"),
    ("a.npy", _npy_bytes(np.ones((2, 3), np.int32)), r"floating-point metres \[H, W\], found int32 \[2, 3\]"),
    ("a.npy", _npy_bytes(np.ones((2, 3, 1), np.float32)), r"found float32 \[2, 3, 1\]"),
    ("a.npy", _npy_bytes(np.ones((0, 3), np.float32)), r"found float32 \[0, 3\]"),
    ("a.npy", _npy_bytes(np.ones((20, 30), np.float32))[:-1], "found 2527 bytes instead of 2528"),
    ("a.npy", b"\x93NUMPY\x01\x00", "found ValueError"),
    ("a.npy", _npy_bytes(np.array([[_Trap()]], object), allow_pickle=True), r"found object \[1, 1\]"),
    ("a.npy", pickle.dumps(_Trap()), "found ValueError"),
])
def test_other_files_are_named_before_and_while_reading(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        find_depth_maps(tmp_path, ["a"])
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        read_depth(tmp_path / name)


def test_a_cut_off_png_is_named(tmp_path):
    rng = np.random.default_rng(0)
    data = _png_bytes(rng.integers(0, 65536, (50, 50), dtype=np.uint16))
    (tmp_path / "a.png").write_bytes(data[:len(data) // 2])
    with pytest.raises(InputError, match=r"a\.png: must be a complete 16-bit grey PNG"):
        read_depth(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    for name in ("a.png", "a.npy"):
        with pytest.raises(InputError, match=rf"{name}: .*FileNotFoundError"):
            read_depth(tmp_path / name)


@pytest.mark.parametrize("value, found", [(np.nan, "nan"), (-0.5, "-0.5")])
def test_values_that_are_no_depths(tmp_path, value, found):
    np.save(tmp_path / "a.npy", np.array([[1, value]], np.float32))
    with pytest.raises(InputError, match=rf"a\.npy: depths must be zero or more, found minimum {found}"):
        read_depth(tmp_path / "a.npy")


# ---- relative inverse depths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [LEVELS, (LEVELS // 257).astype(np.uint8)])
def test_inverse_png_of_8_and_16_bits_is_largest_where_it_is_nearest(tmp_path, levels):
    depth_m = read_depth(_png(tmp_path / "a.png", levels), form="inverse")
    values = levels.astype(np.float64)
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, 160.0 * (1.0 - values / values.max()), rtol=1e-6, atol=1e-5)
    assert (depth_m[1, 2], depth_m[0, 0]) == (0.0, 160.0)


def test_unit_and_offset_of_inverse_depths_do_not_matter(tmp_path):
    inverse = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", inverse)
    np.save(tmp_path / "b.npy", (31.0 * inverse - 400.0).astype(np.float32))
    one, other = (read_depth(tmp_path / f"{name}.npy", scale=9.0, form="inverse") for name in "ab")
    np.testing.assert_allclose(one, other, atol=0.01)
    assert (one.min(), one.max()) == (0.0, 160.0) and one[np.unravel_index(inverse.argmax(), inverse.shape)] == 0.0


@pytest.mark.parametrize("values, message", [
    ([[1.0, np.nan]], "inverse depths must be finite and differ, found nan to nan"),
    ([[1.0, np.inf]], r"inverse depths must be finite and differ, found 1\.0 to inf"),
    ([[2.0, 2.0]], r"inverse depths must be finite and differ, found 2\.0 to 2\.0"),
])
def test_inverse_depths_that_tell_no_distances(tmp_path, values, message):
    np.save(tmp_path / "a.npy", np.array(values, np.float32))
    with pytest.raises(InputError, match=message):
        read_depth(tmp_path / "a.npy", form="inverse")


def test_pictures_of_colour_are_no_depths_of_either_form(tmp_path):
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: must be a complete 8- or 16-bit grey PNG, found mode RGB"):
        find_depth_maps(tmp_path, ["a"], "inverse")
    _png(tmp_path / "a.png", LEVELS.astype(np.uint8))
    find_depth_maps(tmp_path, ["a"], "inverse")
    with pytest.raises(InputError, match=r"a\.png: must be a complete 16-bit grey PNG, found mode L"):
        find_depth_maps(tmp_path, ["a"])
