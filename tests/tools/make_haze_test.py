"""The tool that makes a dehazing dataset out of clear photographs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from clear_photographs import file_names, photograph
from PIL import Image

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.haze import scattering
from cut_tf.data.haze.recipe import HazeRecipe, add_random_haze, divide
from cut_tf.data.image_files import read_image
from cut_tf.settings import Settings
from tools import make_haze

ROOT = Path(__file__).parents[2]
SEED_1 = HazeRecipe(seed=1)
HEADER = ["name", "beta_per_m", "airlight_r", "airlight_g", "airlight_b", "seed"]


def _table(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _main(*arguments: str) -> int:
    values = flags.FlagValues()
    make_haze.define(values)
    return make_haze.main(values(["make_haze", *arguments]), values)


def _manifest(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def _tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _originals(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_image(path) for path in folder.iterdir()}


def test_train_halves_share_no_scene(photographs, tmp_path):
    out = tmp_path / "deep" / "out"
    assert make_haze.make_dataset(photographs, out, "train", SEED_1) == 9
    hazy, clear = file_names(out / "trainA"), file_names(out / "trainB")
    assert (len(hazy), len(clear)) == (5, 4) and not set(hazy) & set(clear)
    assert sorted(hazy + clear) == [f"p{number}.png" for number in range(9)]
    originals = _originals(photographs)
    for name in clear:
        np.testing.assert_array_equal(read_image(out / "trainB" / name), originals[name[:2]])
    for name in hazy:
        picture = read_image(out / "trainA" / name)
        assert picture.shape == originals[name[:2]].shape
        assert np.abs(picture.astype(int) - originals[name[:2]]).mean() > 5
    assert file_names(out) == ["haze_train.csv", "haze_train.jsonl", "trainA", "trainB"]


def test_test_split_is_paired(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "out", "test")
    names = [f"p{number}.png" for number in range(9)]
    assert file_names(tmp_path / "out" / "testA") == file_names(tmp_path / "out" / "testB") == names
    originals = _originals(photographs)
    for name in names:
        np.testing.assert_array_equal(read_image(tmp_path / "out" / "testB" / name), originals[name[:2]])


def test_every_test_picture_gets_haze(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "out", "test", HazeRecipe(clear_probability=1.0))
    for name in file_names(tmp_path / "out" / "testA"):
        hazy, clear = (read_image(tmp_path / "out" / f"test{domain}" / name).astype(int) for domain in "AB")
        assert np.abs(hazy - clear).mean() > 5, name


def test_a_file_that_is_no_picture_is_named_before_any_work(photographs, tmp_path):
    (photographs / "zz.jpg").write_text("no picture")
    with pytest.raises(InputError, match="zz.jpg: must be a complete JPEG"):
        make_haze.make_dataset(photographs, tmp_path / "out", "test")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name, target", [("testA", "elsewhere"), ("testB", "nowhere"), ("haze_test.csv", "")])
def test_links_and_folders_in_the_place_of_results_are_refused_before_any_work(photographs, tmp_path, name, target):
    out = tmp_path / "out"
    for folder in (out, tmp_path / "elsewhere"):
        folder.mkdir()
    (out / name).symlink_to(tmp_path / target) if target else (out / name).mkdir()
    with pytest.raises(InputError, match=f"out/{name}: must not exist yet, found a (link|folder)"):
        make_haze.make_dataset(photographs, out, "test")
    assert file_names(out) == [name]


def test_the_result_opens_as_a_dataset(photographs, tmp_path):
    for split in make_haze.SPLITS:
        make_haze.make_dataset(photographs, tmp_path / "out", split)
    data = open_dataset(Settings.of(dataset=str(tmp_path / "out")))
    assert (len(data.source), len(data.target), len(data.test_source), len(data.test_target)) == (5, 4, 9, 9)
    assert data.test_paired


def test_the_table_tells_the_haze_of_each_picture(photographs, tmp_path):
    """With beta and airlight of its row and some depth, every hazy picture follows from the clear one."""
    make_haze.make_dataset(photographs, tmp_path / "out", "test", HazeRecipe(seed=3))
    header, *rows = _table(tmp_path / "out" / "haze_test.csv")
    assert header == HEADER and [row[0] for row in rows] == [f"p{number}.png" for number in range(9)]
    for name, beta, red, green, blue, seed in rows:
        clear, hazy = (read_image(tmp_path / "out" / domain / name) / 255 for domain in ("testB", "testA"))
        airlight = np.array([float(red), float(green), float(blue)])
        least, most = scattering.AIRLIGHT_RANGE
        assert seed == "3" and float(beta) > 0 and (airlight >= least).all() and (airlight <= most).all()
        # I - A = (J - A) t with one t in [0, 1] for the three channels of a pixel.
        share = ((hazy - airlight) * (clear - airlight)).sum(-1) / ((clear - airlight) ** 2).sum(-1)
        assert share.min() > -0.05 and share.max() < 1.05
        np.testing.assert_allclose(hazy, clear * share[..., None] + airlight * (1 - share[..., None]), atol=1 / 255)
        low, high = scattering.MEDIAN_TRANSMISSION_RANGE
        assert low - 0.02 < np.median(share) < high + 0.02
        assert share[:3].mean() < share[-3:].mean(), "haze is denser towards the top"


def test_the_name_that_counts_is_that_of_the_photograph_with_its_suffix(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "out", "test", HazeRecipe(seed=4))
    for path in photographs.iterdir():
        expected = add_random_haze(read_image(path), path.name, HazeRecipe(seed=4)).image
        np.testing.assert_array_equal(read_image(tmp_path / "out" / "testA" / f"{path.stem}.png"), expected)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_limit_gives_a_part_of_the_whole(photographs, tmp_path, split):
    whole, part = tmp_path / "whole", tmp_path / "part"
    make_haze.make_dataset(photographs, whole, split, SEED_1)
    assert make_haze.make_dataset(photographs, part, split, SEED_1, limit=4) == 4
    per_domain = 2 if split == "train" else 4
    for domain in (f"{split}A", f"{split}B"):
        names = file_names(part / domain)
        assert len(names) == per_domain
        for name in names:
            assert (part / domain / name).read_bytes() == (whole / domain / name).read_bytes()
    header, *rows = _table(part / f"haze_{split}.csv")
    assert header == HEADER and len(rows) == per_domain
    assert all(row in _table(whole / f"haze_{split}.csv") for row in rows)


def test_seeds_divide_differently(photographs):
    paths = sorted(photographs.iterdir())
    halves = {frozenset(divide(paths, "train", seed)[0]) for seed in range(10)}
    assert len(halves) > 5


@pytest.mark.parametrize("taken", ["trainA", "trainB", "haze_train.csv", "haze_train.jsonl"])
def test_what_is_there_is_not_overwritten(photographs, tmp_path, taken):
    out = tmp_path / "out"
    make_haze.make_dataset(photographs, out, "train")
    for name in {"trainA", "trainB"} - {taken}:
        shutil.rmtree(out / name)
    for name in {"haze_train.csv", "haze_train.jsonl"} - {taken}:
        (out / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(InputError, match=f"out/{taken}: must not exist yet, found "):
        make_haze.make_dataset(photographs, out, "train", SEED_1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_empty_folders_are_filled_and_the_other_split_is_left_alone(photographs, tmp_path):
    out = tmp_path / "out"
    (out / "testA").mkdir(parents=True)
    make_haze.make_dataset(photographs, out, "train")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("train*/*")}
    make_haze.make_dataset(photographs, out, "test")
    assert len(file_names(out / "testA")) == 9
    assert {path: path.stat().st_mtime_ns for path in out.rglob("train*/*")} == before


@pytest.mark.parametrize("split", ["train", "test"])
def test_workers_change_nothing(photographs, tmp_path, split):
    recipe = HazeRecipe(seed=1, nonhomogeneous=0.5)
    for workers in (1, 3):
        make_haze.make_dataset(photographs, tmp_path / f"by{workers}", split, recipe, workers=workers)
    assert _tree(tmp_path / "by1") == _tree(tmp_path / "by3")


def test_the_manifest_tells_everything(photographs, tmp_path):
    recipe = HazeRecipe(seed=7, beta_min=0.01, beta_max=0.02, airlight_min=0.5, airlight_max=0.6, nonhomogeneous=0.3)
    make_haze.make_dataset(photographs, tmp_path / "out", "train", recipe, limit=7)
    first, *pictures = _manifest(tmp_path / "out" / "haze_train.jsonl")
    assert {name: first[name] for name in ("cut_tf", "input", "split", "limit", "photographs", "seed", "beta_max")} == {
        "cut_tf": cut_tf.__version__, "input": str(photographs), "split": "train", "limit": 7, "photographs": 9,
        "seed": 7, "beta_max": 0.02}
    assert [picture["file"] for picture in pictures] == sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    for picture in pictures:
        original = read_image(photographs / picture["source"])
        found = read_image(tmp_path / "out" / picture["file"])
        assert found.shape == original.shape == (picture["height"], picture["width"], 3)
        if picture["file"].startswith("trainB"):
            assert set(picture) == {"file", "source", "width", "height"}
            continue
        assert picture["seed"] == 7 and picture["depth"] is None and 0.01 <= picture["beta_per_m"] <= 0.02
        assert picture["nonhomogeneous"]["strength"] == 0.3
        assert min(picture["airlight"]) >= 0.5 - 1e-6 and max(picture["airlight"]) <= 0.6 + 1e-6


def _add_depth_maps(photographs: Path, folder: Path) -> Path:
    """Constant depths of 10, 11, 12, ... metres, as .npy and as .png in turn."""
    folder.mkdir()
    for number, path in enumerate(sorted(photographs.iterdir())):
        height, width, _ = read_image(path).shape
        if number % 2:
            levels = np.full((height, width), 1000 * (10 + number), np.uint16)
            Image.fromarray(levels).save(folder / f"{path.stem}.png")
        else:
            np.save(folder / f"{path.stem}.npy", np.full((height, width), 10.0 + number, np.float32))
    return folder


def test_given_depths_by_the_closed_form(photographs, tmp_path, capsys):
    depth = _add_depth_maps(photographs, tmp_path / "depth")
    np.save(depth / "p2.npy", np.full((3, 4), 12.0, np.float32))
    assert _main(f"--input={photographs}", f"--output={tmp_path / 'out'}", "--split=test", f"--depth={depth}",
                 "--beta_min=0.03", "--beta_max=0.06") == 0
    for picture in _manifest(tmp_path / "out" / "haze_test.jsonl")[1:]:
        if picture["file"].startswith("testA"):
            number = int(picture["source"][1])
            share = np.exp(-picture["beta_per_m"] * (10 + number))
            airlight = 255 * np.array(picture["airlight"])
            expected = read_image(photographs / picture["source"]) * share + airlight * (1 - share)
            assert np.abs(read_image(tmp_path / "out" / picture["file"]) - expected).max() <= 0.501
            assert picture["depth"]["map"] == f"p{number}.{'png' if number % 2 else 'npy'}"
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert notes == ["note: 1 depth maps were resized to their photograph by nearest: p2.npy from 4x3 to 40x30"]


def test_depths_of_zero_are_told(photographs, tmp_path, capsys):
    depth = _add_depth_maps(photographs, tmp_path / "depth")
    np.save(depth / "p4.npy", np.eye(40, dtype=np.float32)[:30])
    assert _main(f"--input={photographs}", f"--output={tmp_path / 'out'}", "--split=test", f"--depth={depth}",
                 "--beta_max=0.06") == 0
    assert "note: 1 depth maps have pixels of depth 0, which get no haze: p4.npy" in capsys.readouterr().out


def test_depth_maps_are_checked_before_any_work(photographs, tmp_path, capsys):
    depth = _add_depth_maps(photographs, tmp_path / "depth")
    for name in ("p2.npy", "p7.png"):
        (depth / name).unlink()
    command = [f"--input={photographs}", f"--output={tmp_path / 'out'}", "--split=test", f"--depth={depth}"]
    assert _main(*command) == 2
    assert "must have a depth map (.png, .npy) for each photograph, found none for 2 of 9: p2, p7" in (
        capsys.readouterr().err.replace("p7, p2", "p2, p7"))
    Image.fromarray(np.ones((30, 40), np.uint8)).save(depth / "p2.png")
    np.save(depth / "p7.npy", np.ones((30, 40), np.float32))
    assert _main(*command) == 2
    assert "p2.png: must be a complete 16-bit grey PNG, found mode L" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_photographs_that_are_hazed_need_depths(photographs, tmp_path):
    depth = _add_depth_maps(photographs, tmp_path / "depth")
    for path in divide(sorted(photographs.iterdir()), "train", seed=0)[1]:
        for suffix in (".png", ".npy"):
            (depth / f"{path.stem}{suffix}").unlink(missing_ok=True)
    assert make_haze.make_dataset(photographs, tmp_path / "out", "train", HazeRecipe(depth=str(depth))) == 9


@pytest.mark.parametrize("split", ["train", "test"])
def test_flags_replace_fields_of_the_preset(photographs, tmp_path, split):
    flags_given = ["--haze_preset=real", "--gamma_probability=1", "--gamma_min=2", "--gamma_max=2",
                   "--clear_probability=0", "--overcast_probability=0"]
    assert _main(f"--input={photographs}", f"--output={tmp_path / 'out'}", f"--split={split}", *flags_given) == 0
    first, *pictures = _manifest(tmp_path / "out" / f"haze_{split}.jsonl")
    assert (first["gamma_min"], first["airlight_min"], first["jpeg_probability"]) == (2.0, 0.25, 0.5)
    for picture in pictures:
        dusk = 255 * (read_image(photographs / picture["source"]) / 255.0) ** 2.0
        found = read_image(tmp_path / "out" / picture["file"])
        if picture["file"].startswith(f"{split}B"):
            assert np.abs(found - dusk).max() <= 0.501
        else:
            assert picture["drawn"]["gamma"] == 2.0 and picture["drawn"]["depth"]


def test_dusk_needs_no_depths_of_pictures_that_stay_clear(photographs, tmp_path):
    depth = _add_depth_maps(photographs, tmp_path / "depth")
    hazy, clear = divide(sorted(photographs.iterdir()), "train", seed=0)
    for path in clear:
        for suffix in (".png", ".npy"):
            (depth / f"{path.stem}{suffix}").unlink(missing_ok=True)
    recipe = HazeRecipe(depth=str(depth), gamma_probability=1.0)
    assert make_haze.make_dataset(photographs, tmp_path / "out", "train", recipe) == len(hazy) + len(clear)
    with pytest.raises(InputError, match=rf"found none for {len(clear)} of 9"):
        make_haze.make_dataset(photographs, tmp_path / "sky", "train", HazeRecipe(depth=str(depth),
                                                                                  overcast_probability=1.0))


@pytest.mark.parametrize("arguments, message", [
    ([], "error: --input must be a folder, found ''"),
    (["--input=IN"], "error: --output must be a folder, found ''"),
    (["--input=IN/none", "--output=OUT"], "IN/none: must be a folder with images"),
    (["--input=IN", "--output=OUT", "--seed=-1"], "error: --seed must be an integer, zero or more, found -1"),
    (["--input=IN", "--output=OUT", "--limit=-2"], "error: --limit and --workers must be zero or more, found -2 and 0"),
    (["--input=IN", "--output=OUT", "--workers=-1"], "--limit and --workers must be zero or more, found 0 and -1"),
    (["--input=IN", "--output=OUT", "--beta_min=0.1"], "error: --beta_max must be --beta_min (0.1) or more, found 0.0"),
    (["--input=IN", "--output=OUT", "--airlight_max=2"], "error: --airlight_max must be at most 1, found 2.0"),
    (["--input=IN", "--output=OUT", "--haze_preset=real", "--airlight_max=0.1"],
     "error: --airlight_min must be at most --airlight_max (0.1), found 0.25"),
    (["--input=IN", "--output=OUT", "--noise_kinds=white"], "error: --noise_kinds must be some of colour, grey, corr"),
    (["--input=IN", "--output=OUT", "--nonhomogeneous=2"], "error: --nonhomogeneous must be at most 1, found 2.0"),
    (["--input=IN", "--output=OUT", "--depth=IN/none"], "error: --depth must be a folder with depth maps, found IN/no"),
    (["--input=IN", "--output=OUT", "--limit=1"], "error: --split=train must get two photographs or more"),
    (["--input=IN", "--output=OUT", "train"], "error: arguments must be flags, found train"),
    (["--input=IN", "--output=IN/p0.jpg"], "error: --output must be a folder that can be written"),
])
def test_bad_input_gives_code_2_and_writes_nothing(photographs, tmp_path, capsys, arguments, message):
    filled = [argument.replace("IN", str(photographs)).replace("OUT", str(tmp_path / "out")) for argument in arguments]
    assert _main(*filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message.replace("IN", str(photographs)) in error
    assert not (tmp_path / "out").exists()


def test_photographs_whose_results_would_have_one_name(photographs, tmp_path, capsys):
    photograph(1).save(photographs / "p0.png")
    assert _main(f"--input={photographs}", f"--output={tmp_path / 'out'}") == 2
    assert "names without suffix must differ, found several of p0" in capsys.readouterr().err


def test_unknown_split_is_refused():
    with pytest.raises(flags.IllegalFlagValueError, match="train|test"):
        _main("--input=a", "--output=b", "--split=val")


def _program(*arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return [sys.executable, "-m", "tools.make_haze", *arguments], environment


@pytest.mark.slow
def test_as_a_program(photographs, tmp_path):
    command, environment = _program(f"--input={photographs}", "--output=out", "--limit=6", "--workers=2")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "6/6" in done.stdout and "/picture" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "out: trainA hazy, trainB clear, from 6 photographs; haze_train.jsonl and .csv list the haze")
    again = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900,
                           check=False)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("error: out/haze_train.csv: must not exist yet")
