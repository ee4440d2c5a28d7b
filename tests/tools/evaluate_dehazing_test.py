"""The command that measures dehazing models: haze that no training uses, tables, checks, bad flags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import write_png
from tests import warm_process
from tools.evaluate_dehazing import measuring, report, sets
from tools.evaluate_dehazing.unseen_haze import add_unseen_haze

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="photographs")
def _photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(3):
        smooth = Image.fromarray(rng.integers(0, 256, [4, 5, 3], np.uint8)).resize((50, 40), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{number}.png")
    return folder


def test_unseen_haze_is_brighter_flatter_and_the_same_for_the_same_name():
    clear = np.random.default_rng(0).integers(0, 160, [40, 60, 3], np.uint8)
    hazy = add_unseen_haze(clear, "a.png")
    assert hazy.shape == clear.shape and hazy.dtype == np.uint8
    assert hazy.mean() > clear.mean() + 5 and hazy.std() < clear.std()
    np.testing.assert_array_equal(hazy, add_unseen_haze(clear, "a.png"))
    assert np.abs(hazy.astype(int) - add_unseen_haze(clear, "b.png")).mean() > 1


def test_short_waves_get_more_unseen_haze():
    """A black picture shows the haze alone: never less of blue than of red."""
    hazy = add_unseen_haze(np.zeros([40, 60, 3], np.uint8), "a.png").astype(int)
    assert (hazy[..., 2] >= hazy[..., 0]).all() and hazy[..., 2].mean() > hazy[..., 0].mean()


def test_every_set_has_pairs_of_one_size(photographs):
    found = sets.test_sets(str(photographs), [f"mine=hazed:{photographs},{photographs}"], count=1)
    assert list(found) == ["photographs, mild", "photographs, reside", "photographs, real", "rendered scenes",
                           "rendered rooms", "mine", "photographs, unseen haze and depths"]
    for name, pairs in found.items():
        (pair,) = pairs
        assert len(pairs) == 1 and pair.hazy.shape == pair.clear.shape, name
        assert np.abs(pair.hazy.astype(int) - pair.clear).mean() > 1, name


def test_the_white_border_of_sots_is_cut_off(photographs, tmp_path):
    sides = {"ITS/hazy/1_1.png": 40, "ITS/clear/1.png": 40, "ITS/hazy/2_1.png": 40, "ITS/clear/2.png": 40,
             "SOTS/indoor/hazy/7_1.png": 40, "SOTS/indoor/gt/7.png": 60}
    for name, side_px in sides.items():
        path = tmp_path / "RESIDE" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, np.full([side_px, side_px, 3], side_px, np.uint8))
    given = f"sots=haze:{tmp_path}/RESIDE/ITS,{tmp_path}/RESIDE/SOTS/indoor"
    with pytest.raises(InputError, match="try --crop_border_px=10"):
        sets.test_sets(str(photographs), [given], count=1)
    (pair,) = sets.test_sets(str(photographs), [given], count=1, border_px=10)["sots"]
    assert pair.hazy.shape == pair.clear.shape == (40, 40, 3) and (pair.clear == 60).all()


@pytest.mark.parametrize("given, finding", [("mine", "must be NAME=DATASET .*, found 'mine'"),
                                            ("rendered rooms=scenes", "name of its own, found 'rendered rooms=s"),
                                            ("mine=hazed:{0}", "must have test pictures in pairs")])
def test_bad_pairs_are_named(photographs, given, finding):
    with pytest.raises(InputError, match=finding):
        sets.test_sets(str(photographs), [given.format(photographs)], count=1)


def test_scores_of_models_whose_answers_are_known(photographs):
    """The identity, and a model that knows the truth of its one pair and adds a level otherwise."""
    (pair,) = sets.test_sets(str(photographs), [], count=1)["photographs, mild"]
    models = {"hazy": lambda picture: picture, "one level off": lambda picture: pair.clear ^ 1}
    found = measuring.of_pairs([pair], models, 1)
    error = np.mean((pair.hazy.astype(float) - pair.clear)**2)
    assert found["hazy"]["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert found["one level off"]["psnr"] == pytest.approx(20 * np.log10(255), abs=1e-3)
    assert "| a (1) | " in report.pair_table({"a": found}, {"a": 1})
    grey = sets.Pair("grey", np.full([64, 64, 3], 100, np.uint8), np.full([64, 64, 3], 50, np.uint8))
    checks = measuring.of_clear([photographs / "0.png"], [pair], {"rooms": [grey]},
                                lambda picture: np.minimum(picture, 254) + 1)
    assert checks["clear_psnr"] == checks["clear_psnr_least"] == pytest.approx(20 * np.log10(255), abs=0.2)
    assert checks["twice_psnr"] < checks["once_psnr"] and checks["noise"] == pytest.approx(1.0, abs=0.05)
    assert checks["noise_rooms"] == pytest.approx(1.0, abs=0.01)
    doubled = measuring.of_clear([photographs / "0.png"], [pair], {"rooms": [grey]}, lambda picture: 2 * picture)
    assert doubled["noise_rooms"] == pytest.approx(2.0, abs=0.01)


def test_the_sheet_has_a_row_per_picture_and_a_column_per_model():
    rows = [{"hazy": np.full([40, 60, 3], 10 * row, np.uint8), "model": np.full([40, 60, 3], 200, np.uint8)}
            for row in range(2)]
    page = np.asarray(report.sheet(["a", "b"], rows))
    assert page.shape == (2 * 160 + 3 * 16, 480, 3)
    assert page[100, 300, 0] == 200 and page[100, 100, 0] == 0 and page[300, 100, 0] == 10
    tall = np.asarray(report.sheet(["a"], [{"hazy": np.zeros([4000, 100, 3], np.uint8)}]))
    assert tall.shape == (480 + 2 * 16, 240, 3) and (tall[32:, :12].mean(), tall[100, 13, 0]) == (0, 255)


def test_the_command_prints_and_writes_its_tables(photographs, tmp_path):
    arguments = ["-m", "tools.evaluate_dehazing", f"--photographs={photographs}", f"--real={photographs}", "--count=1",
                 "--checked=1", f"--model=box={ROOT / 'saved_models' / 'dehaze_mobile' / '1'}",
                 f"--output={tmp_path / 'out'}"]
    done = warm_process.run(arguments, ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "out" / "tables.md").read_text()
    assert text.strip() in done.stdout and "| hazy | dark channel prior | box |" in text
    assert text.count("\n| ") == 6 + 4 + 4
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores) == {"pairs", "checks", "real"} and {"noise_scenes", "noise_rooms"} < set(scores["checks"]["box"])
    assert scores["checks"]["hazy"]["clear_psnr"] == 100.0
    assert Image.open(tmp_path / "out" / "real.jpg").width == 3 * 240
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    again = warm_process.run(arguments, ROOT)
    assert again.returncode == 2
    assert f"--output must be a folder without results, found {tmp_path / 'out' / 'tables.md'}" in again.stderr
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_pictures_without_sky_have_no_number_in_json():
    text = report.as_json({"real": {"box": {"sky_colour": float("nan"), "noise": 1.5}}})
    assert json.loads(text, parse_constant=pytest.fail) == {"real": {"box": {"sky_colour": None, "noise": 1.5}}}


def test_a_bad_model_is_named_before_anything_is_measured(photographs):
    for model, finding in (("box", "--model must be NAME=PATH"),
                           ("box=nowhere@3", "--model=box=nowhere@3: "), ("box=nowhere", "--model=box=nowhere: ")):
        done = warm_process.run(["-m", "tools.evaluate_dehazing", f"--photographs={photographs}", f"--model={model}"],
                                ROOT)
        assert done.returncode == 2 and f"error: {finding}" in done.stderr


def test_a_damaged_real_picture_is_named_before_anything_is_measured(photographs, tmp_path):
    data = (photographs / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:len(data) // 2])
    program = ("import runpy; from tools.evaluate_dehazing import measuring; measuring.of_pairs = None; "
               "runpy.run_module('tools.evaluate_dehazing', run_name='__main__')")
    done = warm_process.run(["-c", program, f"--photographs={photographs}", f"--real={tmp_path}"], ROOT)
    assert done.returncode == 2 and f"error: {tmp_path / 'cut.png'}: " in done.stderr, done.stderr
