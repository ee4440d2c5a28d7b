"""Pairing of files, checks before the first metric, and the three outputs of a folder comparison."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cut_tf.data.image_files import write_png
from cut_tf.errors import InputError
from cut_tf.metrics import folder_report
from cut_tf.metrics.folder_report import ImageScore, Report, evaluate_folders


@pytest.fixture(name="folders")
def _folders(tmp_path) -> tuple[Path, Path]:
    for name in ("pred", "target"):
        (tmp_path / name).mkdir()
    return tmp_path / "pred", tmp_path / "target"


def _picture(seed: int, height: int = 13, width: int = 17) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _no_metrics(monkeypatch) -> None:
    """Fails the test if a metric is computed."""
    monkeypatch.setattr(folder_report, "METRICS", {"psnr": lambda *_: pytest.fail("a metric was computed")})


def test_scores_files_and_table(folders, tmp_path):
    pred, target = folders
    for seed, name in enumerate("abc"):
        write_png(pred / f"{name}.png", _picture(seed))
        Image.fromarray(_picture(seed + 10)).save(target / f"{name}.bmp")
    (target / "notes.txt").write_text("not an image")
    report = evaluate_folders(pred, target, tmp_path / "out.csv", tmp_path / "out.json", progress=False)

    expected_psnr = [peak_signal_noise_ratio(_picture(s + 10), _picture(s), data_range=255) for s in range(3)]
    expected_ssim = [
        structural_similarity(_picture(s + 10), _picture(s), gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False, channel_axis=-1, data_range=255)
        for s in range(3)
    ]
    np.testing.assert_allclose([image.psnr for image in report.images], expected_psnr, atol=1e-4)
    np.testing.assert_allclose([image.ssim for image in report.images], expected_ssim, atol=1e-6)

    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [list(row)[:3] for row in rows] == [["name", "width", "height"]] * 3 and len(rows[0]) == 5
    assert [(row["name"], row["width"], row["height"]) for row in rows] == [(f"{n}.png", "17", "13") for n in "abc"]
    np.testing.assert_allclose([float(row["psnr"]) for row in rows], expected_psnr, atol=1e-4)

    values = json.loads((tmp_path / "out.json").read_text())
    assert values["count"] == 3 and values["identical"] == 0 and values["unpaired_targets"] == 0
    assert "Full-size 8-bit RGB" in values["protocol"]
    assert values["psnr"]["mean"] == pytest.approx(np.mean(expected_psnr), abs=1e-4)
    assert values["ssim"]["std"] == pytest.approx(np.std(expected_ssim), abs=1e-6)
    assert values["images"][1]["name"] == "b.png" and values["images"][1]["width"] == 17
    assert f"{np.mean(expected_psnr):.3f}" in report.table() and f"{np.std(expected_ssim):.4f}" in report.table()


def test_mean_and_deviation_by_hand():
    report = Report((ImageScore("a", 11, 11, 10.0, 0.5), ImageScore("b", 11, 11, 14.0, 0.7)))
    summary = report.summary("psnr")
    assert (summary.mean, summary.std, summary.count) == (12.0, 2.0, 2)  # with divisor n - 1 it would be 2.83
    assert report.table().splitlines()[1].split() == ["PSNR", "dB", "12.000", "2.000", "2"]
    assert report.table().splitlines()[2].split() == ["SSIM", "0.6000", "0.1000", "2"]


def test_identical_images_are_counted_and_the_json_stays_valid(folders, tmp_path):
    pred, target = folders
    for seed, name in enumerate(["a", "b"]):
        write_png(pred / f"{name}.png", _picture(seed))
        write_png(target / f"{name}.png", _picture(2 * seed))  # a is the same, b is not
    report = evaluate_folders(pred, target, tmp_path / "o.csv", tmp_path / "o.json")
    values = json.loads((tmp_path / "o.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert values["identical"] == report.identical == 1
    assert values["images"][0]["psnr"] is None and values["images"][0]["ssim"] == pytest.approx(1.0)
    assert values["psnr"]["mean"] == pytest.approx(values["images"][1]["psnr"])
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("a.png,17,13,inf,")
    assert "without a finite PSNR: 1" in report.table()


def test_only_identical_images_have_no_mean(folders, tmp_path):
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    report = evaluate_folders(*folders, json_path=tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["psnr"] == {"mean": None, "std": None}
    assert report.table().splitlines()[1].split() == ["PSNR", "dB", "nan", "nan", "0"]


def test_hazy_versions_share_a_target_and_an_own_stem_comes_first(folders):
    pred, target = folders
    names = ["0012_0.8_0.2", "0012_1_0.16", "0012_3", "street_7_2"]
    for name in names:
        write_png(pred / f"{name}.png", _picture(0))
    for name, seed in {"0012": 1, "0012_3": 0, "street_7": 0, "street": 1, "unused": 1}.items():
        write_png(target / f"{name}.png", _picture(seed))
    report = evaluate_folders(pred, target, progress=False)
    equal = {image.name: image.ssim > 0.999 for image in report.images}
    assert equal == {"0012_0.8_0.2.png": False, "0012_1_0.16.png": False, "0012_3.png": True, "street_7_2.png": True}
    assert report.unpaired_targets == 2  # street and unused
    assert "targets without a prediction: 2" in report.table()


def test_predictions_without_target_are_listed_first_five(folders, monkeypatch):
    pred, target = folders
    _no_metrics(monkeypatch)
    for number in range(7):
        write_png(pred / f"x{number}_fake.png", _picture(0))
    write_png(pred / "good.png", _picture(0))
    write_png(target / "good.png", _picture(0))
    with pytest.raises(InputError) as caught:
        evaluate_folders(pred, target)
    message = str(caught.value)
    assert "x4_fake.png and 2 more" in message and "x5_fake" not in message and "good" not in message
    assert str(target) in message and "7 of 8" in message


@pytest.mark.parametrize("side", [0, 1])
def test_shared_stems_are_listed(folders, side, monkeypatch):
    _no_metrics(monkeypatch)
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    Image.fromarray(_picture(0)).save(folders[side] / "a.jpg")
    with pytest.raises(InputError, match=f"{folders[side]}: .*found a.jpg and a.png"):
        evaluate_folders(*folders)


def test_sizes_are_compared_as_shown_not_as_stored(folders, monkeypatch):
    pred, target = folders
    write_png(pred / "a.png", _picture(0, 13, 17))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown upright
    Image.fromarray(_picture(0, 17, 13)).save(target / "a.jpg", exif=exif)
    assert evaluate_folders(pred, target).images[0].width == 17
    _no_metrics(monkeypatch)
    write_png(pred / "a.png", _picture(0, 17, 13))
    with pytest.raises(InputError, match=r"found a.png 13x17 with a.jpg 17x13"):
        evaluate_folders(pred, target)


def test_sides_too_small_for_ssim(folders, monkeypatch):
    _no_metrics(monkeypatch)
    for folder in folders:
        write_png(folder / "a.png", _picture(0, 10, 20))
    with pytest.raises(InputError, match="at least 11 px.*found a.png 20x10"):
        evaluate_folders(*folders)


def test_outputs_are_checked_before_the_work(folders, tmp_path, monkeypatch):
    _no_metrics(monkeypatch)
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    with pytest.raises(InputError, match="nowhere/o.csv: must lie in an existing folder"):
        evaluate_folders(*folders, csv_path=tmp_path / "nowhere" / "o.csv")
    with pytest.raises(InputError, match="two files"):
        evaluate_folders(*folders, csv_path=tmp_path / "o", json_path=tmp_path / "o")


def test_progress_goes_to_stderr_only_if_wanted(folders, capsys, monkeypatch):
    monkeypatch.setattr(folder_report, "_PROGRESS_SECONDS", -1.0)
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    evaluate_folders(*folders, progress=False)
    assert capsys.readouterr() == ("", "")
    evaluate_folders(*folders)
    assert capsys.readouterr() == ("", "compared 1 of 1 images\n")
