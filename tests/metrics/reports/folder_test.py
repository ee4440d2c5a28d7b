"""Pairing of files, checks before the first metric, and the three outputs of a folder comparison."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cut_tf import flags
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import write_png
from cut_tf.metrics import METRICS, NO_REFERENCE
from cut_tf.metrics.reports import files, folder as folder_report
from cut_tf.metrics.reports.folder import ImageScore, Report, evaluate_folders


@pytest.fixture(name="folders")
def _folders(tmp_path) -> tuple[Path, Path]:
    for name in ("pred", "target"):
        (tmp_path / name).mkdir()
    return tmp_path / "pred", tmp_path / "target"


def _picture(seed: int, height: int = 13, width: int = 17) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _no_metrics(monkeypatch) -> None:
    """Fails the test if a metric is computed."""
    monkeypatch.setattr(folder_report, "_score", lambda *_: pytest.fail("a metric was computed"))


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
    expected_ciede2000 = [deltaE_ciede2000(rgb2lab(_picture(s)), rgb2lab(_picture(s + 10))).mean() for s in range(3)]
    expected_mse = [255**2 / 10 ** (value / 10) for value in expected_psnr]
    expected = {"psnr": expected_psnr, "ssim": expected_ssim, "ciede2000": expected_ciede2000, "mse": expected_mse}
    assert report.measures == tuple(expected)

    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [list(row) for row in rows] == [["name", "width", "height", *expected]] * 3
    assert [(row["name"], row["width"], row["height"]) for row in rows] == [(f"{n}.png", "17", "13") for n in "abc"]

    values = json.loads((tmp_path / "out.json").read_text())
    assert values["count"] == 3 and values["identical"] == 0 and values["unpaired_targets"] == 0
    assert "Full-size 8-bit RGB" in values["protocol"]
    assert values["images"][1]["name"] == "b.png" and values["images"][1]["width"] == 17
    for line, (name, wanted) in zip(report.table().splitlines()[1:], expected.items()):
        np.testing.assert_allclose([image.values[name] for image in report.images], wanted, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose([float(row[name]) for row in rows], wanted, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose([image[name] for image in values["images"]], wanted, rtol=1e-6, atol=1e-4)
        assert values[name]["mean"] == pytest.approx(np.mean(wanted), rel=1e-5)
        assert values[name]["std"] == pytest.approx(np.std(wanted), rel=1e-3) and values[name]["count"] == 3
        assert line.startswith(f"{METRICS[name].label} ") and line.endswith(f" 3 {METRICS[name].better:>7}")
        assert f" {np.mean(wanted):.{METRICS[name].digits - 1}f}" in line


def test_the_protocol_is_printed_and_names_the_decoder(folders):
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    report = evaluate_folders(*folders, progress=False)
    printed = " ".join(report.table().split())
    for phrase in ("Full-size 8-bit RGB", f"Pillow {PIL.__version__}", "no resizing, no crop, no luma channel", "SOTS",
                   "peak 255", "kL = kC = kH = 1", "squared levels", "divisor n"):
        assert phrase in printed and phrase in json.loads(report.to_json())["protocol"], phrase
    assert f"Pillow {PIL.__version__}, libjpeg" in json.loads(report.to_json())["decoder"]
    assert "Contrast gain" not in printed


def test_training_measures_only_what_is_fast_and_higher_when_better():
    assert {name for name in METRICS if METRICS[name].in_training} == {"psnr", "ssim"} == {
        name for name in METRICS if METRICS[name].better == "higher"}
    assert set(flags.choices_of("best_metric")) == {"psnr", "ssim", "fid", "kid"}
    assert set(flags.choices_of("distribution_metric")) == {"none", "fid", "kid"}


def test_inputs_instead_of_targets(folders, tmp_path):
    pred, source = folders
    clear = _picture(0, 5, 20) // 2 * 2  # smaller than SSIM takes
    hazy = (clear // 2 + 100).astype(np.uint8)
    write_png(pred / "0012_0.8.png", clear)
    Image.fromarray(hazy).save(source / "0012_0.8.bmp")
    write_png(pred / "flat.png", clear)
    write_png(source / "flat.png", np.full((5, 20, 3), 51, np.uint8))
    report = evaluate_folders(pred, None, tmp_path / "o.csv", tmp_path / "o.json", input_dir=source)
    names = ["dark_channel_input", "dark_channel_output", "contrast_gain", "colourfulness_input",
             "colourfulness_output"]
    assert list(report.measures) == names
    assert report.images[0].values["contrast_gain"] == pytest.approx(2.0)
    assert report.images[1].values["contrast_gain"] == math.inf
    assert report.images[1].values["dark_channel_input"] == pytest.approx(0.2)
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert list(rows[0]) == ["name", "width", "height", *names] and rows[1]["contrast_gain"] == "inf"
    values = json.loads((tmp_path / "o.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert "psnr" not in values and "identical" not in values and "unpaired_targets" not in values
    assert values["contrast_gain"] == {"mean": pytest.approx(2.0), "std": 0.0, "count": 1}
    assert values["images"][1]["contrast_gain"] is None
    lines = report.table().splitlines()
    assert [line[:21].strip() for line in lines[1:6]] == [
        "dark channel, input", "dark channel, output", "contrast gain", "colourfulness, input",
        "colourfulness, output"]
    assert lines[3].split()[2:] == ["2.0000", "0.0000", "1", "-"]
    printed = " ".join(report.table().split())
    assert "PSNR" not in printed
    for phrase in ("Contrast gain: C(output) / C(input)", "patch of 15x15 px", "in 0..1", "Hasler and Suesstrunk"):
        assert phrase in printed, phrase


def test_targets_and_inputs_give_both(folders, tmp_path):
    pred, target = folders
    (tmp_path / "input").mkdir()
    for folder, seed in ((pred, 0), (target, 1), (tmp_path / "input", 2)):
        write_png(folder / "a.png", _picture(seed))
    report = evaluate_folders(pred, target, input_dir=tmp_path / "input")
    assert report.measures == (*METRICS, *NO_REFERENCE)
    expected = peak_signal_noise_ratio(_picture(1), _picture(0), data_range=255)
    assert report.images[0].values["psnr"] == pytest.approx(expected, abs=1e-4)
    assert [line[:21].strip() for line in report.table().splitlines()[1:10]] == [
        measure.label for measure in (METRICS | NO_REFERENCE).values()]


def test_inputs_have_the_stem_and_the_size_of_the_output(folders, monkeypatch):
    pred, source = folders
    _no_metrics(monkeypatch)
    write_png(pred / "0012_3.png", _picture(0))
    write_png(source / "0012.png", _picture(0))
    with pytest.raises(InputError, match=r"one of the same stem in .*target, .* 1 of 1, found 0012_3.png"):
        evaluate_folders(pred, None, input_dir=source)
    write_png(source / "0012_3.png", _picture(0, 17, 13))
    with pytest.raises(InputError, match=r"must have the size of its input, found 0012_3.png 17x13 with .* 13x17"):
        evaluate_folders(pred, None, input_dir=source)


def test_a_border_is_cut_off_the_targets(folders, monkeypatch):
    pred, target = folders
    write_png(pred / "a.png", _picture(0))
    framed = np.pad(_picture(1), ((3, 3), (3, 3), (0, 0)), constant_values=255)
    write_png(target / "a.png", framed)
    report = evaluate_folders(pred, target, target_border_px=3)
    expected = peak_signal_noise_ratio(_picture(1), _picture(0), data_range=255)
    assert report.images[0].values["psnr"] == pytest.approx(expected, abs=1e-4)
    assert "no crop, but for 3 px cut off each side of the targets" in " ".join(report.table().split())
    _no_metrics(monkeypatch)
    with pytest.raises(InputError, match=r"size of its target without 2 px on each side, found a.png 17x13 with a.png "
                                         r"19x15"):
        evaluate_folders(pred, target, target_border_px=2)
    with pytest.raises(InputError, match="--target_border_px must be zero or more, .* found -1"):
        evaluate_folders(pred, target, target_border_px=-1)
    with pytest.raises(InputError, match="--target_border_px .* zero without --target, found 3"):
        evaluate_folders(pred, None, input_dir=target, target_border_px=3)


def test_mean_and_deviation_by_hand():
    report = Report((ImageScore("a", 11, 11, {"psnr": 10.0, "ssim": 0.5}),
                     ImageScore("b", 11, 11, {"psnr": 14.0, "ssim": 0.7})))
    summary = report.summary("psnr")
    assert (summary.mean, summary.std, summary.count) == (12.0, 2.0, 2)  # with divisor n - 1 it would be 2.83
    assert report.table().splitlines()[1].split() == ["PSNR", "dB", "12.000", "2.000", "2", "higher"]
    assert report.table().splitlines()[2].split() == ["SSIM", "0.6000", "0.1000", "2", "higher"]


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
    assert json.loads((tmp_path / "o.json").read_text())["psnr"] == {"mean": None, "std": None, "count": 0}
    assert report.table().splitlines()[1].split() == ["PSNR", "dB", "nan", "nan", "0", "higher"]


def test_hazy_versions_share_a_target_and_an_own_stem_comes_first(folders):
    pred, target = folders
    names = ["0012_0.8_0.2", "0012_1_0.16", "0012_3", "street_7_2"]
    for name in names:
        write_png(pred / f"{name}.png", _picture(0))
    for name, seed in {"0012": 1, "0012_3": 0, "street_7": 0, "street": 1, "unused": 1}.items():
        write_png(target / f"{name}.png", _picture(seed))
    report = evaluate_folders(pred, target, progress=False)
    equal = {image.name: image.values["ssim"] > 0.999 for image in report.images}
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
    for given, ending in (({"csv_path": tmp_path / "a.png"}, ".csv"), ({"csv_path": tmp_path / "o.json"}, ".csv"),
                          ({"json_path": tmp_path / "weights.h5"}, ".json"), ({"json_path": tmp_path / "o"}, ".json")):
        with pytest.raises(InputError, match=f"--{ending[1:]} must be a file whose name ends in {ending}, found "):
            evaluate_folders(*folders, **given)
    with pytest.raises(InputError, match="--target or --input must be a folder, found neither"):
        evaluate_folders(folders[0], None)


def test_a_report_that_cannot_be_written_is_told(folders, tmp_path, monkeypatch):
    def fill_up(path, data):
        raise InputError(f"{path}: must be writable, found: No space left on device")

    monkeypatch.setattr(files, "replace_file", fill_up)
    for folder, value in zip(folders, (100, 110)):
        write_png(folder / "a.png", np.full([16, 16, 3], value, np.uint8))
    with pytest.raises(InputError, match=r"(?s)o\.csv: must be writable, .*What was measured:.*28\.13"):
        evaluate_folders(*folders, csv_path=tmp_path / "o.csv", progress=False)


def test_progress_goes_to_stderr_only_if_wanted(folders, capsys, monkeypatch):
    monkeypatch.setattr(files, "_PROGRESS_SECONDS", -1.0)
    for folder in folders:
        write_png(folder / "a.png", _picture(0))
    evaluate_folders(*folders, progress=False)
    assert capsys.readouterr() == ("", "")
    evaluate_folders(*folders)
    assert capsys.readouterr() == ("", "compared 1 of 1 images\n")
