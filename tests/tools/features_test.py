"""How well haze can be told in features: the classifier on planted data, and a whole small suite."""

from __future__ import annotations

import numpy as np
import pytest
from absl import flags

from tools.reproduce import __main__ as reproduce, features, runs
from tools.reproduce.suites import Row


def test_what_can_be_separated_is_and_what_is_the_same_is_chance():
    rng = np.random.default_rng(0)
    hazy, clear, hazy_test, clear_test = rng.normal(size=[4, 400, 3])
    assert features.accuracy(hazy, clear, hazy_test, clear_test) == pytest.approx(0.5, abs=0.06)
    for part in (hazy, hazy_test):
        part[:, 1] += 20.0
    assert features.accuracy(hazy, clear, hazy_test, clear_test) == 1.0
    assert features.accuracy(hazy, clear, clear_test, hazy_test) == 0.0


def test_normal_values_are_told_as_often_as_theory_says():
    """Two normal distributions two deviations apart: the best line is right in Phi(1) = 84.1 % of all cases.

    With nine times as many rows of one kind, too, since both kinds have the same weight.
    """
    rng = np.random.default_rng(1)
    hazy, clear = rng.normal(2.0, 1.0, [18_000, 1]), rng.normal(0.0, 1.0, [2_000, 1])
    found = features.accuracy(hazy, clear, rng.normal(2.0, 1.0, [20_000, 1]), rng.normal(0.0, 1.0, [20_000, 1]))
    assert found == pytest.approx(0.8413, abs=0.01)


def test_a_deviation_is_seen_by_the_pooled_reading_alone():
    """Haze that only takes contrast: the mean of each channel tells nothing, its deviation everything."""
    rng = np.random.default_rng(2)
    parts = [scale * rng.normal(size=[100, 64, 2]) for scale in (0.5, 1.0, 0.5, 1.0)]
    found = {heading: features.accuracy(*(reading(part) for part in parts))
             for heading, (reading, unit) in features.READINGS.items() if not unit}
    assert found["mean and deviation"] == 1.0
    assert found["pooled mean"] < 0.8 and found["single patch"] < 0.6


def test_table():
    rows = [Row("none", "no norm", trained=False), Row("batch", "batch norm", trained=False)]
    accuracies = {"00_input": {heading: 0.5 + index / 10 for index, heading in enumerate(features.READINGS)}}
    text = features.table(rows, [{"row": "none", "accuracies": accuracies}])
    assert text.splitlines()[-1] == "| no norm | 00_input | 50 | 60 | 70 | 80 | 90 |"


def test_the_suite_measures_each_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "machine", lambda: {"CPU": "one"})
    monkeypatch.setattr(features.measuring, "in_own_process", lambda function, *arguments: function(*arguments))
    values = flags.FlagValues()
    reproduce.define(values)
    tiny = [f"--set={item}" for item in ("scenes_images=6", "scenes_size_px=32", "crop_size_px=24", "ngf=4",
                                         "generator_blocks=1")]
    arguments = ["reproduce", "--suite=features", f"--output={tmp_path / 'out'}", "--rows=none", *tiny]
    assert reproduce.main(values(arguments), values) == 0
    shown = capsys.readouterr().out
    assert "| resnet, no norm | 01_stem |" in shown and "| resnet, no norm | 12_block1 |" in shown
    assert (tmp_path / "out" / "results" / "none.json").is_file()


@pytest.mark.parametrize("flag", ["--steps=8", "--budget_minutes=1", "--feature_extractor=random",
                                  "--set=preprocess=none"])
def test_what_trains_is_refused(flag, tmp_path, capsys):
    values = flags.FlagValues()
    reproduce.define(values)
    arguments = ["reproduce", "--suite=features", f"--output={tmp_path / 'out'}", "--set=batch_size=1", flag]
    assert reproduce.main(values(arguments), values) == 2
    assert f"error: {flag.rpartition('=')[0]} must" in capsys.readouterr().err and not (tmp_path / "out").exists()
