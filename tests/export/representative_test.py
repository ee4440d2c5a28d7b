"""Typical inputs: what the run was trained on, where that needs no files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cut_tf.data import open_dataset
from cut_tf.export.options import Size
from cut_tf.export.representative import inputs_of, representative_pictures
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from tests import warm_process


@pytest.mark.parametrize("dataset, expected", [
    ("scenes", "scenes"), ("rooms", "rooms"), ("scenes+rooms", "scenes+rooms"), ("hazed:photos", "scenes"),
    ("scenes+hazed:photos", "scenes"), ("photos", "scenes"), ("a,b", "scenes"), ("unknown", "scenes")])
def test_inputs_of_a_run(dataset, expected):
    assert inputs_of(Settings.of(dataset=dataset)) == expected


@pytest.mark.parametrize("dataset", ["rooms", "scenes+rooms"])
def test_rendered_pictures_are_the_test_inputs_of_their_dataset(dataset):
    data = open_dataset(Settings.of(dataset=dataset, preprocess="none", scenes_size_px=32))
    found = representative_pictures(dataset, Size(32, 32), count=2)
    for picture, index in zip(found, (0, len(data.test_source) - 1)):
        expected = data.test_source.load(index).astype(np.float32) / 127.5 - 1
        np.testing.assert_allclose(picture[0], expected, atol=1e-6)


@pytest.mark.parametrize("given, expected", [([], "rooms"), (["--representative=scenes"], "scenes")])
def test_the_command_judges_by_what_the_run_has_seen(tmp_path, tiny_settings, given, expected):
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    pytest.importorskip("ai_edge_quantizer", reason="the extra mobile (ai-edge-quantizer) is not installed")
    method = build_method(tiny_settings(generator="mobile", generator_norm="none", method="paired", dataset="rooms"))
    method.compile()
    method.save(tmp_path / "run")
    done = warm_process.run(["-m", "cut_tf.export", "--run=run", "--format=tflite", "--output=phone", "--size=32x32",
                             "--quantize=float16", *given], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    [report] = (tmp_path / "phone").glob("*.json")
    assert json.loads(report.read_text())["pictures"].endswith(f" of {expected}")
