"""Scores of label maps by hand and by plain NumPy; reading labels and colours."""

from __future__ import annotations

import csv
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.metrics.segmentation import (
    SegmentationReport,
    confusion,
    evaluate_labels,
    read_colour_table,
    read_labels,
)

_TARGET = np.array([[0, 0, 0, 1], [1, 7, 255, 255]], np.uint8)
_PREDICTION = np.array([[0, 0, 1, 1], [255, 3, 0, 9]], np.uint8)


@pytest.fixture(name="folders")
def _folders(tmp_path) -> tuple[Path, Path]:
    for name in ("pred", "target"):
        (tmp_path / name).mkdir()
    return tmp_path / "pred", tmp_path / "target"


def test_scores_by_hand():
    """Of six pixels three are right. Class 0: 2 of 3, class 1: 1 of 2, class 7: 0 of 1; class 3 is predicted only."""
    report = SegmentationReport(confusion(_PREDICTION, _TARGET), 1, {0: "road", 7: "sky"})
    assert report.scores() == {"pixel_accuracy": pytest.approx(3 / 6),
                               "class_accuracy": pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
                               "mean_iou": pytest.approx((2 / 3 + 1 / 3 + 0 + 0) / 4)}
    assert [row[:3] for row in report.rows()] == [(0, "road", 3), (1, "", 2), (3, "", 0), (7, "sky", 1)]
    np.testing.assert_allclose([row[3:] for row in report.rows()],
                               [(2 / 3, 2 / 3), (1 / 2, 1 / 3), (np.nan, 0), (0, 0)])
    table = report.table()
    assert "pixel accuracy  0.5000" in table and "mean iou        0.2500" in table and "Long et al. 2015" in table
    rows = list(csv.reader(report.to_csv().splitlines()))
    assert rows[0] == ["label", "class", "pixels", "accuracy", "iou"] and rows[3] == ["3", "", "0", "", "0.0"]
    values = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert values["mean_iou"] == pytest.approx(0.25) and values["classes"][2]["accuracy"] is None


def test_scores_of_random_maps_are_those_of_plain_numpy():
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 6, (2, 30, 40), dtype=np.uint8)
    target[rng.random(target.shape) < 0.1] = 255
    target[target == 5] = 4  # class 5 is predicted only
    counts = target != 255
    recalls, ious = [], []
    for label in range(6):
        true, said = target[counts] == label, prediction[counts] == label
        if true.any():
            recalls.append((true & said).sum() / true.sum())
        ious.append((true & said).sum() / (true | said).sum())
    scores = SegmentationReport(confusion(prediction, target), 1).scores()
    assert scores == {"pixel_accuracy": pytest.approx((target == prediction)[counts].mean()),
                      "class_accuracy": pytest.approx(np.mean(recalls)), "mean_iou": pytest.approx(np.mean(ious))}
    assert len(recalls) == 5


def test_nothing_to_count_has_no_scores():
    report = SegmentationReport(confusion(_PREDICTION, np.full_like(_TARGET, 255)), 1)
    assert np.isnan(list(report.scores().values())).all() and report.rows() == []
    assert json.loads(report.to_json())["pixel_accuracy"] is None


@pytest.mark.parametrize("prediction", [_PREDICTION[:1], _PREDICTION.astype(np.int64)])
def test_other_arrays_are_refused(prediction):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W\] of one shape"):
        confusion(prediction, _TARGET)


def test_folders_of_grey_and_palette_maps_of_two_sizes(folders, tmp_path):
    """The second prediction has half of its target's size: each of its pixels stands for four."""
    pred, target = folders
    palette = Image.fromarray(_PREDICTION, "P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(pred / "a.png")
    Image.fromarray(_TARGET).save(target / "a.png")
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(pred / "b.png")
    Image.fromarray(np.array([[0, 0, 1, 1], [0, 0, 1, 7]], np.uint8)).save(target / "b.png")
    report = evaluate_labels(pred, target, csv_path=tmp_path / "o.csv", json_path=tmp_path / "o.json", progress=False)
    assert report.images == 2 and report.scores()["pixel_accuracy"] == pytest.approx((3 + 7) / (6 + 8))
    assert json.loads((tmp_path / "o.json").read_text())["count"] == 2
    assert (tmp_path / "o.csv").read_text() == report.to_csv()


def test_colours_become_the_nearest_label(folders, tmp_path):
    pred, target = folders
    (tmp_path / "colours.csv").write_text("# Cityscapes\n\n0, 128, 64, 128, road\n1,70,130,180,sky, above\n255,0,0,0\n"
                                          "0,130,60,120\n")
    table = read_colour_table(tmp_path / "colours.csv")
    assert table.names == {0: "road", 1: "sky, above", 255: ""}
    picture = np.array([[[128, 64, 128], [75, 120, 170], [3, 2, 1], [135, 50, 110]]], np.uint8)
    np.testing.assert_array_equal(table.labels_of(picture), [[0, 1, 255, 0]])
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 50, 3), np.uint8)
    distances = np.square(noise[:, :, None].astype(int) - table.colours).sum(-1)
    np.testing.assert_array_equal(table.labels_of(noise), table.labels[distances.argmin(-1)])
    Image.fromarray(picture).save(pred / "a.bmp")
    Image.fromarray(np.array([[[128, 64, 128], [128, 64, 128], [70, 130, 180], [0, 0, 0]]], np.uint8)).save(
        target / "a.png")
    report = evaluate_labels(pred, target, tmp_path / "colours.csv", progress=False)
    assert report.pixel_accuracy == pytest.approx(1 / 3) and report.rows()[0][1] == "road"


@pytest.mark.parametrize("text, found", [("", "found none"), ("0,1,2\n", "in line 1"), ("#x\n0,1,2,256\n", "in line 2"),
                                         ("0,1,2,3\n1,1,2,3\n", "in line 2"), ("a,1,2,3\n", "in line 1")])
def test_bad_colour_tables_are_refused(tmp_path, text, found):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputError, match=f"--label_colours=.*c.csv must have a line .*{found}"):
        read_colour_table(tmp_path / "c.csv")
    with pytest.raises(InputError, match="--label_colours=.*No such file"):
        read_colour_table(tmp_path / "missing.csv")


def test_what_are_no_labels_is_refused(tmp_path):
    cases = {"rgb.png": (Image.new("RGB", (4, 4)), "found mode RGB; colours need --label_colours"),
             "deep.png": (Image.fromarray(np.zeros([4, 4], np.uint16)), "found mode I"),
             "grey.bmp": (Image.new("L", (4, 4)), "found another format"),
             "half.png": (Image.effect_noise((40, 40), 9), "found")}
    for name, (picture, message) in cases.items():
        picture.save(tmp_path / name)
        if name == "half.png":
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:500])
        with pytest.raises(InputError, match=f"{name}: must be a PNG of grey levels or palette entries.*{message}"):
            read_labels(tmp_path / name)
    Image.fromarray(np.eye(3, dtype=bool)).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "bits.png"), np.eye(3, dtype=np.uint8))


def _grey_png(bits: int, rows: np.ndarray) -> bytes:
    """A PNG of grey levels of so few bits, which Pillow does not write."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = rows.shape
    lines = [int("".join(f"{label:0{bits}b}" for label in row), 2).to_bytes(width * bits // 8, "big") for row in rows]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_labels_of_few_bits_are_the_stored_numbers(tmp_path, bits):
    labels = np.uint8(np.arange(16).reshape(2, 8) % 2**bits)
    (tmp_path / "a.png").write_bytes(_grey_png(bits, labels))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)


def test_maps_without_a_target_and_bad_outputs_are_refused(folders, tmp_path):
    pred, target = folders
    Image.new("L", (4, 4)).save(pred / "a.png")
    Image.new("L", (4, 4)).save(target / "b.png")
    with pytest.raises(InputError, match="every image must have one of the same stem .* found a.png"):
        evaluate_labels(pred, target, progress=False)
    with pytest.raises(InputError, match="must lie in an existing folder"):
        evaluate_labels(pred, target, csv_path=tmp_path / "no" / "x.csv", progress=False)


def test_a_report_never_replaces_the_colour_table(folders, tmp_path):
    pred, target = folders
    for folder in folders:
        Image.new("L", (4, 4)).save(folder / "a.png")
    table = tmp_path / "colours.csv"
    table.write_text("0,0,0,0,road\n")
    (tmp_path / "again.csv").hardlink_to(table)
    for name in ("colours.csv", "again.csv"):
        with pytest.raises(InputError, match=f"--csv must be another file than the one that is read, found .*{name}"):
            evaluate_labels(pred, target, table, csv_path=tmp_path / name, progress=False)
    assert table.read_text() == "0,0,0,0,road\n"
