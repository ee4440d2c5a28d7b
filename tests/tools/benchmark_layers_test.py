"""The rows of the layers' benchmark, measured in this process, and how they read."""

from __future__ import annotations

import pytest

from tools.benchmark import layers, measuring


def test_rows_compare_both_layers_in_both_passes(monkeypatch):
    monkeypatch.setattr(measuring, "in_own_process", lambda function, *arguments: function(*arguments))
    # A process' peak can be forgotten, but that of the tests is no one's business.
    monkeypatch.setattr(layers, "_peak_mib", lambda *case: 12.0)
    rows = list(layers.rows(32, 2, 3, "float32", 2))
    assert [(row["name"], row["pass"]) for row in rows] == [
        ("convolution", "forward"), ("convolution", "forward+backward"), ("deformable", "forward"),
        ("deformable", "forward+backward")]
    for row, base in zip(rows, (*rows[:2], *rows[:2])):
        assert row["shape"] == [2, 8, 8, 12] and row["peak_mib"] == 12.0
        assert 0 < row["least_sec"] <= row["median_sec"] <= row["most_sec"]
        assert row["share_of_convolution"] == pytest.approx(row["median_sec"] / base["median_sec"])
        # 128 pixels of 12 channels.
        assert row["sec_per_megapixel_channel"] == pytest.approx(row["median_sec"] / (128e-6 * 12))
    text = layers.line({**rows[0], "median_sec": 0.0123, "sec_per_megapixel_channel": 0.5})
    assert "convolution forward" in text and "12.30 ms" in text and "2x8x8x12" in text and "500.00 ms per" in text
