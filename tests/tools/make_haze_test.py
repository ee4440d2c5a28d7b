"""The tool that makes a dehazing dataset out of clear photographs."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from cut_tf.data import haze, open_dataset
from cut_tf.data.image_files import read_image
from cut_tf.errors import InputError
from cut_tf.settings import DataSettings
from tools import make_haze

ROOT = Path(__file__).parents[2]
RECORDED_HAZE = [0.02223902, 0.743341863, 0.756780207, 0.751912594]
HEADER = ["name", "beta_per_m", "airlight_r", "airlight_g", "airlight_b", "seed"]


def _photograph(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(10, axis=0).repeat(10, axis=1))


@pytest.fixture(name="photographs")
def _photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "clear"
    folder.mkdir()
    for number in range(9):
        suffix, size = "jpg" if number < 4 else "png", ((40, 30), (30, 50))[number % 2]
        _photograph(number, *size).save(folder / f"p{number}.{suffix}")
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _table(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _main(*arguments: str) -> int:
    values = flags.FlagValues()
    make_haze.define(values)
    return make_haze.main(values(["make_haze", *arguments]), values)


def _originals(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_image(path) for path in folder.iterdir()}


def test_train_halves_share_no_scene(photographs, tmp_path):
    out = tmp_path / "deep" / "out"
    assert make_haze.make_dataset(photographs, out, "train", seed=1) == 9
    hazy, clear = _names(out / "trainA"), _names(out / "trainB")
    assert (len(hazy), len(clear)) == (5, 4) and not set(hazy) & set(clear)
    assert sorted(hazy + clear) == [f"p{number}.png" for number in range(9)]
    originals = _originals(photographs)
    for name in clear:
        np.testing.assert_array_equal(read_image(out / "trainB" / name), originals[name[:2]])
    for name in hazy:
        picture = read_image(out / "trainA" / name)
        assert picture.shape == originals[name[:2]].shape
        assert np.abs(picture.astype(int) - originals[name[:2]]).mean() > 5
    assert _names(out) == ["haze_train.csv", "trainA", "trainB"]


def test_test_split_is_paired(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "out", "test")
    names = [f"p{number}.png" for number in range(9)]
    assert _names(tmp_path / "out" / "testA") == _names(tmp_path / "out" / "testB") == names
    originals = _originals(photographs)
    for name in names:
        np.testing.assert_array_equal(read_image(tmp_path / "out" / "testB" / name), originals[name[:2]])


def test_the_result_opens_as_a_dataset(photographs, tmp_path):
    for split in make_haze.SPLITS:
        make_haze.make_dataset(photographs, tmp_path / "out", split)
    data = open_dataset(DataSettings(dataset=str(tmp_path / "out")))
    assert (len(data.source), len(data.target), len(data.test_source), len(data.test_target)) == (5, 4, 9, 9)
    assert data.test_paired


def test_the_table_tells_the_haze_of_each_picture(photographs, tmp_path):
    """With beta and airlight of its row and some depth, every hazy picture follows from the clear one."""
    make_haze.make_dataset(photographs, tmp_path / "out", "test", seed=3)
    header, *rows = _table(tmp_path / "out" / "haze_test.csv")
    assert header == HEADER and [row[0] for row in rows] == [f"p{number}.png" for number in range(9)]
    for name, beta, red, green, blue, seed in rows:
        clear, hazy = (read_image(tmp_path / "out" / domain / name) / 255 for domain in ("testB", "testA"))
        airlight = np.array([float(red), float(green), float(blue)])
        least, most = haze.AIRLIGHT_RANGE
        assert seed == "3" and float(beta) > 0 and (airlight >= least).all() and (airlight <= most).all()
        # I - A = (J - A) t with one t in [0, 1] for the three channels of a pixel.
        share = ((hazy - airlight) * (clear - airlight)).sum(-1) / ((clear - airlight) ** 2).sum(-1)
        assert share.min() > -0.05 and share.max() < 1.05
        np.testing.assert_allclose(hazy, clear * share[..., None] + airlight * (1 - share[..., None]), atol=1 / 255)
        low, high = haze.MEDIAN_TRANSMISSION_RANGE
        assert low - 0.02 < np.median(share) < high + 0.02
        assert share[:3].mean() < share[-3:].mean(), "haze is denser towards the top"


def test_haze_depends_on_seed_and_name_alone():
    image = np.asarray(_photograph(0))
    first = make_haze.add_random_haze(image, 1, "a.jpg")
    again = make_haze.add_random_haze(image, 1, "a.jpg")
    np.testing.assert_array_equal(first.image, again.image)
    others = [make_haze.add_random_haze(image, seed, name) for seed, name in ((2, "a.jpg"), (1, "b.jpg"), (1, "a.png"))]
    betas = {found.parameters.beta_per_m for found in [first, *others]}
    assert len(betas) == 4


def test_the_name_that_counts_is_that_of_the_photograph_with_its_suffix(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "out", "test", seed=4)
    for path in photographs.iterdir():
        expected = make_haze.add_random_haze(read_image(path), 4, path.name).image
        np.testing.assert_array_equal(read_image(tmp_path / "out" / "testA" / f"{path.stem}.png"), expected)


def test_recorded_haze():
    """The same command gives the same dataset with every later version."""
    parameters = make_haze.add_random_haze(np.asarray(_photograph(0)), 5, "a.jpg").parameters
    assert [parameters.beta_per_m, *map(float, parameters.airlight)] == pytest.approx(RECORDED_HAZE, rel=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_limit_gives_a_part_of_the_whole(photographs, tmp_path, split):
    whole, part = tmp_path / "whole", tmp_path / "part"
    make_haze.make_dataset(photographs, whole, split, seed=2)
    assert make_haze.make_dataset(photographs, part, split, seed=2, limit=4) == 4
    per_domain = 2 if split == "train" else 4
    for domain in (f"{split}A", f"{split}B"):
        names = _names(part / domain)
        assert len(names) == per_domain
        for name in names:
            assert (part / domain / name).read_bytes() == (whole / domain / name).read_bytes()
    header, *rows = _table(part / f"haze_{split}.csv")
    assert header == HEADER and len(rows) == per_domain
    assert all(row in _table(whole / f"haze_{split}.csv") for row in rows)


def test_seeds_divide_differently(photographs):
    paths = sorted(photographs.iterdir())
    halves = {frozenset(make_haze.divide(paths, "train", seed)[0]) for seed in range(10)}
    assert len(halves) > 5


@pytest.mark.parametrize("taken", ["trainA", "trainB", "haze_train.csv"])
def test_what_is_there_is_not_overwritten(photographs, tmp_path, taken):
    out = tmp_path / "out"
    make_haze.make_dataset(photographs, out, "train")
    for name in {"trainA", "trainB"} - {taken}:
        shutil.rmtree(out / name)
    if taken != "haze_train.csv":
        (out / "haze_train.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(InputError, match=f"out/{taken}: must not exist yet, found "):
        make_haze.make_dataset(photographs, out, "train", seed=1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_empty_folders_are_filled_and_the_other_split_is_left_alone(photographs, tmp_path):
    out = tmp_path / "out"
    (out / "testA").mkdir(parents=True)
    make_haze.make_dataset(photographs, out, "train")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("train*/*")}
    make_haze.make_dataset(photographs, out, "test")
    assert len(_names(out / "testA")) == 9
    assert {path: path.stat().st_mtime_ns for path in out.rglob("train*/*")} == before


def test_a_damaged_photograph_leaves_nothing_behind(photographs, tmp_path):
    path = photographs / "p7.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"p7\.png"):
        make_haze.make_dataset(photographs, tmp_path / "out", "test")
    assert _names(tmp_path / "out") == []


def test_a_stopped_run_leaves_no_dataset(photographs, tmp_path, monkeypatch):
    """Whenever a run is killed, its output holds what is seen here between two pictures: no part of a split."""
    seen = []

    def write_some(path: Path, image: np.ndarray) -> None:
        seen.append(_names(tmp_path / "out"))
        if len(seen) > 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(make_haze, "write_png", write_some)
    with pytest.raises(KeyboardInterrupt):
        make_haze.make_dataset(photographs, tmp_path / "out", "train")
    assert len(seen) == 7 and all(name.startswith(".") for names in seen for name in names)
    monkeypatch.undo()
    (tmp_path / "out" / seen[0][0] / "trainA").mkdir(parents=True)  # what a killed run would have left
    assert make_haze.make_dataset(photographs, tmp_path / "out", "train") == 9


@pytest.mark.parametrize("arguments, message", [
    ([], "error: --input must be a folder, found ''"),
    (["--input=IN"], "error: --output must be a folder, found ''"),
    (["--input=IN/none", "--output=OUT"], "IN/none: must be a folder with images"),
    (["--input=IN", "--output=OUT", "--seed=-1"], "error: --seed and --limit must be zero or more, found -1 and 0"),
    (["--input=IN", "--output=OUT", "--limit=-2"], "error: --seed and --limit must be zero or more, found 0 and -2"),
    (["--input=IN", "--output=OUT", "--limit=1"], "error: --split=train must get two photographs or more"),
    (["--input=IN", "--output=OUT", "train"], "error: everything must be given as a flag, found train"),
    (["--input=IN", "--output=IN/p0.jpg"], "error: --output must be a folder that can be written"),
])
def test_bad_input_gives_code_2_and_writes_nothing(photographs, tmp_path, capsys, arguments, message):
    filled = [argument.replace("IN", str(photographs)).replace("OUT", str(tmp_path / "out")) for argument in arguments]
    assert _main(*filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message.replace("IN", str(photographs)) in error
    assert not (tmp_path / "out").exists()


def test_photographs_whose_results_would_have_one_name(photographs, tmp_path, capsys):
    _photograph(1).save(photographs / "p0.png")
    assert _main(f"--input={photographs}", f"--output={tmp_path / 'out'}") == 2
    assert "names without suffix must differ, found several of p0" in capsys.readouterr().err


def test_unknown_split_is_refused():
    with pytest.raises(flags.IllegalFlagValueError, match="train|test"):
        _main("--input=a", "--output=b", "--split=val")


def test_as_a_program(photographs, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tools.make_haze", f"--input={photographs}", "--output=out", "--limit=6"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "trainA: 3 of 3 pictures", "trainB: 3 of 3 pictures",
        "out: trainA hazy, trainB clear, from 6 photographs; haze_train.csv lists the haze"]
    again = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120,
                           check=False)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("error: out/haze_train.csv: must not exist yet")
