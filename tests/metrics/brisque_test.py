"""BRISQUE: what the package itself gives where NumPy lets it, reports with it, and what is said without it."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import write_png
from cut_tf.metrics import brisque
from cut_tf.metrics.reports.folder import evaluate_folders


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    """Smooth waves, and the same with noise."""
    rows, columns = np.mgrid[0:96, 0:128]
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(rows / (7 + c)) + np.cos(columns / (11 + c)) for c in range(3)], axis=2)
    clean = np.clip(128 + 45 * waves + rng.normal(0, 3, waves.shape), 0, 255).astype(np.uint8)
    return clean, np.clip(clean + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)


def test_values_are_those_of_the_package():
    """Of BRISQUE(url=False).score(picture) of brisque 0.2.0 with NumPy 2.3, which its own code still runs with."""
    pytest.importorskip("brisque", reason="brisque is optional (pip install '.[quality]')")
    score = brisque.brisque_scorer()
    found = [score(picture) for picture in _pictures()]
    assert found == pytest.approx([50.79319385565984, 62.070358700151445], abs=1e-4)
    assert math.isnan(score(np.full((40, 40, 3), 90, np.uint8)))
    assert math.isnan(score(_pictures()[0][:15]))


@pytest.fixture(name="package")
def _package(monkeypatch) -> None:
    """Stands in for the package: the mean of the grey picture and of its half, as its mixture of numbers and arrays."""
    class Scorer:
        def __init__(self, url: bool) -> None:
            assert not url

        def calculate_brisque_features(self, grey: np.ndarray, kernel_size: int, sigma: float) -> np.ndarray:
            assert kernel_size == 7 and sigma == 7 / 6
            features = np.empty(1, object)
            features[0] = np.array([grey.mean()])
            return features

        def calculate_image_quality_score(self, features: list[float]) -> float:
            return 100.0 * sum(features) / len(features)

    monkeypatch.setitem(sys.modules, "brisque", types.SimpleNamespace(BRISQUE=Scorer))
    half = types.SimpleNamespace(INTER_CUBIC=2, resize=lambda grey, size, fx, fy, interpolation: grey[::2, ::2])
    monkeypatch.setitem(sys.modules, "cv2", half)
    monkeypatch.setattr(brisque.importlib.metadata, "version", lambda name: "0.2.0")


def test_both_sides_are_reported_with_the_code_that_computed_them(package, tmp_path: Path):
    for folder, level in (("pred", 100), ("input", 200)):
        (tmp_path / folder).mkdir()
        picture = np.full((20, 30, 3), level, np.uint8)
        picture[::2, ::2] += 10  # the half has these alone
        write_png(tmp_path / folder / "a.png", picture)
    report = evaluate_folders(tmp_path / "pred", None, input_dir=tmp_path / "input", progress=False, brisque=True)
    expected = {side: 50 * ((level + 2.5) + (level + 10)) / 255 for side, level in (("output", 100), ("input", 200))}
    for side, value in expected.items():
        assert report.summary(f"brisque_{side}").mean == pytest.approx(value, rel=1e-3)
    table = " ".join(report.table().split())
    assert "BRISQUE, output" in table and "by the Python package brisque 0.2.0 and the model in it" in table
    assert report.to_csv().splitlines()[0].endswith("brisque_input,brisque_output")


def test_without_the_package_it_is_told_before_any_picture_is_read(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "brisque", None)
    with pytest.raises(InputError, match=r"--brisque must be left out unless the package brisque is installed \(pip"):
        evaluate_folders(tmp_path / "none", None, input_dir=tmp_path, progress=False, brisque=True)
