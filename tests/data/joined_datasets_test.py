"""Datasets joined by a +, and names of folders that hold one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cut_tf.data import open_dataset
from cut_tf.data.domain import TranslationData
from cut_tf.settings import Settings


def _fill(folder: Path, *names: str, width: int = 40, height: int = 30) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def _open(dataset: str, **values: object) -> TranslationData:
    return open_dataset(Settings.of(dataset=dataset, preprocess="none", **values))


def test_a_plus_in_the_name_of_a_folder_joins_nothing(tmp_path):
    one, other, plain = (_fill(tmp_path / name / "photos", "a.png", "b.png") for name in ("a+b", "c+d", "e"))
    assert len(_open(f"{one},{other}").source) == 2
    for dataset, count in ((f"hazed:{one}", 1), (f"hazed:{one},{other}", 1), (f"hazed:{plain}+scenes", 4)):
        assert len(_open(dataset, haze_variants=1, scenes_images=3).source) == count, dataset


def test_a_border_belongs_to_the_benchmark_among_joined_datasets(tmp_path):
    _fill(tmp_path / "its" / "hazy", "1_1.png", "2_1.png")
    _fill(tmp_path / "its" / "clear", "1.png", "2.png", width=60, height=50)
    root = f"haze:{tmp_path / 'its'},{tmp_path / 'its'}"
    data = _open(f"{root}+scenes", crop_border_px=10, scenes_images=3)
    assert len(data.source) == len(_open(root, crop_border_px=10).source) + 3
    assert data.test_source.load(0).shape == data.test_target.load(0).shape == (30, 40, 3)
