"""The evaluation main: outputs and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from absl.testing import flagsaver
from PIL import Image

from cut_tf import evaluate
from cut_tf.common import places
from cut_tf.data.image_files import write_png
from cut_tf.metrics import features

_ROOT = Path(__file__).parents[1]


@pytest.fixture(name="folders")
def _folders(tmp_path) -> tuple[Path, Path]:
    """One pair whose mean squared difference is 255^2 / 100, so its PSNR is 20 dB."""
    for name, level in (("pred", 100), ("target", 100 + 51)):
        (tmp_path / name).mkdir()
        image = np.full((12, 16, 3), 100, np.uint8)
        image[:, :4] = level
        write_png(tmp_path / name / "a.png", image)
    return tmp_path / "pred", tmp_path / "target"


@pytest.mark.slow
def test_as_a_program(folders, tmp_path):
    pred, target = folders
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "cut_tf.evaluate", f"--pred={pred}/", f"--target={target}"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["PSNR", "dB", "20.000", "0.000", "1", "higher"]
    assert done.stdout.splitlines()[4].split() == ["MSE", "650.2", "0.0", "1", "lower"]
    assert f"Pillow {PIL.__version__}" in done.stdout and "no crop" in done.stdout
    assert json.loads((tmp_path / "pred.metrics.json").read_text())["psnr"]["mean"] == pytest.approx(20, abs=1e-4)
    assert (tmp_path / "pred.metrics.csv").read_text().startswith(
        "name,width,height,psnr,ssim,ciede2000,mse\na.png,16,12,20.0")
    assert sorted(os.listdir(tmp_path)) == ["pred", "pred.metrics.csv", "pred.metrics.json", "target"]


def _main(capsys, *arguments: str, **values: str) -> tuple[int, str]:
    """Exit code and stderr of the main with these flags."""
    code, captured = _run_main(capsys, *arguments, **values)
    return code, captured.err


def _print(capsys, **values: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    code, captured = _run_main(capsys, **values)
    return code, captured.out + captured.err


def _run_main(capsys, *arguments: str, **values: str) -> tuple[int, object]:
    given = {"pred": "", "target": "", "input": "", "csv": "", "json": "", **values}
    for name in given:
        given[name] = str(given[name])
    given.update(pixels_in_flight=int(values.get("pixels_in_flight", 2**24)),
                 target_border_px=int(values.get("target_border_px", 0)), labels=bool(values.get("labels")),
                 distribution=values.get("distribution", "").split(",") if values.get("distribution") else [])
    if not evaluate.flags.FLAGS.is_parsed():
        evaluate.flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given):
        code = evaluate.main(["evaluate", *arguments])
    return code, capsys.readouterr()


def test_own_output_names(folders, tmp_path, capsys):
    pred, target = folders
    assert _main(capsys, pred=pred, target=target, csv=tmp_path / "x.csv", json=tmp_path / "y.json") == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["pred", "target", "x.csv", "y.json"]


def test_inputs_instead_of_targets_and_beside_them(folders, tmp_path, capsys):
    pred, other = folders
    for values, first in (({"input": other}, "dark_channel_input"), ({"input": other, "target": other}, "psnr")):
        assert _main(capsys, pred=pred, csv=tmp_path / "x.csv", json=tmp_path / "y.json", **values) == (0, "")
        header = (tmp_path / "x.csv").read_text().splitlines()[0]
        assert header.startswith(f"name,width,height,{first},") and header.endswith(",colourfulness_output")
        gain = json.loads((tmp_path / "y.json").read_text())["contrast_gain"]
        assert gain == {"mean": 0.0, "std": 0.0, "count": 1}  # the prediction is flat, the other picture is not


def test_a_border_of_the_targets(folders, tmp_path, capsys):
    pred, target = folders
    write_png(target / "a.png", np.full((14, 18, 3), 100, np.uint8))
    assert _main(capsys, pred=pred, target=target, target_border_px="1") == (0, "")
    code, message = _main(capsys, pred=pred, target=target)
    assert code == 2 and "must have the size of its target, found a.png 16x12 with a.png 18x14" in message


def test_folders_and_reports_behind_urls(folders, tmp_path, capsys):
    pred, target = folders
    remote = f"ram://{tmp_path.name}"
    for folder in (pred, target):
        places.write_bytes(f"{remote}/{folder.name}/a.png", (folder / "a.png").read_bytes())
    assert _main(capsys, pred=f"{remote}/pred/", target=f"{remote}/target") == (0, "")
    assert _main(capsys, pred=pred, target=target) == (0, "")
    for ending in ("csv", "json"):
        assert places.read_bytes(f"{remote}/pred.metrics.{ending}") == (
            tmp_path / f"pred.metrics.{ending}").read_bytes()
    code, message = _main(capsys, pred=f"{remote}/none", target=target)
    assert code == 2 and f"{remote}/none: must be a folder with images" in message
    code, message = _main(capsys, pred=f"{remote}/pred", target=target, labels="yes")
    assert code == 2 and "--labels must be given with folders and files of this machine, found ram://" in message


def test_flags_of_pipelines(folders, capsys):
    pred, target = folders
    code, message = _main(capsys, pred=pred, target=target, pixels_in_flight=5)
    assert code == 2 and "--pixels_in_flight must not be given without --runner, found 5" in message
    code, message = _main(capsys, pred=pred, target=target, labels="yes", runner="DirectRunner")
    assert code == 2 and "--labels must be given without --runner, found --runner=DirectRunner" in message


@pytest.fixture(name="sets")
def _sets(tmp_path) -> tuple[Path, Path]:
    """Five pictures and six of other names and sizes, which are brighter."""
    for name, count, least in (("pred", 5, 0), ("target", 6, 60)):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(count)
        for index in range(count):
            write_png(tmp_path / name / f"{name}{index}.png", rng.integers(least, 256, (20, 16 + count, 3), np.uint8))
    return tmp_path / "pred", tmp_path / "target"


def test_distances_of_folders_that_are_no_pairs(sets, tmp_path, capsys):
    pred, target = sets
    given = {"distribution": "fid,kid", "feature_extractor": "random"}
    reference = tmp_path / "target.npz"
    assert _print(capsys, pred=pred, target=target, reference_statistics=reference, **given)[0] == 0
    first = json.loads((tmp_path / "pred.distribution.json").read_text())
    assert first["fid"]["value"] > 0.1 and first["fid"]["std"] is None and first["kid"]["std"] > 0
    assert (first["predictions"], first["targets"], first["dimension"]) == (5, 6, "112")
    assert first["resize"] == "bicubic with antialias (tf.image.resize, floats) to 64x64"
    rows = (tmp_path / "pred.distribution.csv").read_text().splitlines()
    assert rows[0].startswith("measure,value,std,predictions,targets,extractor,layer,resize,weights,dimension")
    assert rows[1].startswith(f"fid,{first['fid']['value']},,5,6,") and rows[2].startswith("kid,")

    code, printed = _print(capsys, pred=pred, reference_statistics=reference, **given)
    second = json.loads((tmp_path / "pred.distribution.json").read_text())
    assert code == 0 and second["fid"] == first["fid"] and second["kid"] == first["kid"]
    for phrase in ("5 predictions, 6 targets", "random convolutions", "means after each of three", "bicubic", "64x64",
                   "subsets of 2", "warning: FID is biased upwards: 5 images are fewer than the 112 dimensions"):
        assert phrase in " ".join(printed.split()), phrase
    assert _print(capsys, pred=target, target=target, **given)[0] == 0
    same = json.loads((tmp_path / "target.distribution.json").read_text())
    assert same["fid"]["value"] == pytest.approx(0, abs=1e-9) and abs(same["kid"]["value"]) < first["kid"]["value"]


def test_bad_distances_are_refused_before_the_extractor_is_made(sets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(features, "feature_extractor", lambda *_: pytest.fail("an extractor was made"))
    pred, target = sets
    (tmp_path / "there.npz").touch()
    (tmp_path / "one").mkdir()
    (tmp_path / "folder.csv").mkdir()
    write_png(tmp_path / "one" / "a.png", np.zeros([16, 16, 3], np.uint8))
    before = sorted(os.listdir(tmp_path))
    for values, message in (
            ({"distribution": "fid,is"}, "--distribution must be fid or kid or fid,kid, found 'fid,is'"),
            ({"distribution": "fid", "target": ""}, "--target must be a folder or --reference_statistics a file"),
            ({"distribution": "fid", "reference_statistics": tmp_path / "there.npz"}, "must be a new file in an"),
            ({"distribution": "fid", "reference_statistics": tmp_path / "x.npz", "target": ""}, "must be a file"),
            ({"distribution": "fid", "target": tmp_path / "no"}, "no: must be a folder with images"),
            ({"distribution": "fid", "target": tmp_path / "one"}, "one: FID and KID need at least 2 images, found 1"),
            ({"distribution": "fid", "reference_statistics": tmp_path / "x.json"}, "whose name ends in .npz"),
            ({"distribution": "fid", "csv": tmp_path / "folder.csv"}, "--csv must be a file, found the folder"),
            ({"distribution": "fid", "input": target}, "--input must be left out with --distribution"),
            ({"distribution": "fid", "csv": tmp_path / "no" / "x.csv"}, "must lie in an existing folder"),
            ({"feature_extractor": "random"}, "--feature_extractor must be left out without --distribution"),
            ({"distribution": "fid", "labels": "yes"}, "--labels must be given without --distribution, found both"),
            ({"labels": "yes", "target": ""}, "--target must be the folder of the true label maps, found ''"),
            ({"label_colours": "c.csv"}, "--label_colours must be left out without --labels, found 'c.csv'")):
        code, error = _main(capsys, pred=pred, **{"target": target, **values})
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("values", [{"distribution": "fid", "feature_extractor": "random"}, {"labels": "yes"}])
def test_what_is_no_picture_is_found_before_any_is_decoded(sets, tmp_path, capsys, monkeypatch, values):
    pred, target = sets
    for folder in sets:
        (folder / "zz.png").write_text("no picture")
    for module in ("cut_tf.metrics.reports.distances", "cut_tf.metrics.segmentation"):
        monkeypatch.setattr(f"{module}.read_image", lambda *_: pytest.fail("a picture was decoded"))
    monkeypatch.setattr("cut_tf.metrics.segmentation.read_labels", lambda *_: pytest.fail("a map was decoded"))
    code, error = _main(capsys, pred=pred, target=pred if "labels" in values else target, **values)
    assert code == 2 and f"error: {pred / 'zz.png'}: must be a complete JPEG" in error


def test_label_maps(tmp_path, capsys):
    for name, level in (("pred", 1), ("target", 2)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[0, 0, 0, level]], np.uint8)).save(tmp_path / name / "a.png")
    code, printed = _print(capsys, pred=tmp_path / "pred", target=tmp_path / "target", labels="yes")
    assert code == 0 and "pixel accuracy  0.7500" in printed and "mean iou        0.3333" in printed
    assert json.loads((tmp_path / "pred.labels.json").read_text())["class_accuracy"] == pytest.approx(0.5)
    assert (tmp_path / "pred.labels.csv").read_text().splitlines()[1] == "0,,3,1.0,1.0"


def test_bad_input_is_told_in_one_line(folders, tmp_path, capsys):
    pred, _ = folders
    code, message = _main(capsys, pred=pred, target=tmp_path / "nowhere")
    assert code == 2 and message.startswith(f"error: {tmp_path / 'nowhere'}: must be a folder with images")
    assert message.count("\n") == 1 and message.endswith("found no such folder\n")
    assert _main(capsys, pred=pred) == (2, "error: --target or --input must be a folder, found neither\n")
    assert _main(capsys) == (2, "error: --pred must be a folder, found ''\n")
    assert _main(capsys, "left", "over", pred=pred)[1] == "error: arguments must be flags, found left over\n"
