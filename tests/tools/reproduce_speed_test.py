"""The suite that measures training steps."""

from __future__ import annotations

import json
import types

import pytest
from absl import flags

from tools.benchmark import measuring
from tools.reproduce import __main__ as reproduce, speed
from tools.reproduce.suites import Row

TINY = ["--ngf=4", "--ndf=4", "--generator_blocks=1", "--crop_size_px=32", "--load_size_px=32"]
MACHINE = {"cut_tf": "1", "CPU": "a, 2 cores"}


def _main(*arguments: str) -> int:
    values = flags.FlagValues()
    reproduce.define(values)
    return reproduce.main(values(["reproduce", "--suite=speed", *arguments]), values)


def _result(row: str, seed: int, step_sec: float, peak_memory_mib: float) -> dict:
    return {"row": row, "seed": seed, "step_sec": step_sec, "images_per_sec": 2 / step_sec,
            "peak_memory_mib": peak_memory_mib, "steps": 3, "metrics": {}, "machine": MACHINE, "took_sec": 60.0}


def test_ratios_are_those_of_the_same_repeat():
    """By hand: 1/2 and 3/4 have the mean 0.625 and the deviation 0.125 sqrt(2) = 0.177; 0.24 / 0.40 = 0.6."""
    rows = [Row("cyclegan", "CycleGAN", paper=("0.40", "4.81")), Row("cut", "CUT", paper=("0.24", "3.33")),
            Row("gcgan", "GcGAN")]
    results = [_result("cyclegan", 0, 2.0, 1000.0), _result("cut", 0, 1.0, 600.0), _result("cyclegan", 1, 4.0, 1000.0),
               _result("cut", 1, 3.0, 800.0), _result("gcgan", 2, 1.0, 900.0)]
    lines = speed.table(rows, results, ("s/step", "GB")).splitlines()
    assert lines[0] == ("| method | repeats | s/step | images/s | peak memory, MiB | time / CycleGAN's | paper | "
                        "memory / CycleGAN's | paper | paper: s/step | paper: GB |")
    assert lines[2:] == [
        "| CycleGAN | 2 | 3.000 ± 1.414 | 0.750 ± 0.354 | 1000 ± 0 | 1.000 ± 0.000 | 1.000 | 1.000 ± 0.000 | 1.000 | "
        "0.40 | 4.81 |",
        "| CUT | 2 | 2.000 ± 1.414 | 1.333 ± 0.943 | 700 ± 141 | 0.625 ± 0.177 | 0.600 | 0.700 ± 0.141 | 0.692 | "
        "0.24 | 3.33 |",
        "| GcGAN | 1 | 1.000 | 2.000 | 900 | – | – | – | – | – | – |"]


def test_steps_are_timed_after_the_warm_up(monkeypatch):
    """By a clock that only the steps move, those of the warm-up by much."""
    now = [0.0]

    def batches(batch):
        for step_sec in (100.0, 50.0, 1.0, 4.0, 2.0):
            now[0] += step_sec
            yield batch

    monkeypatch.setattr(speed, "itertools", types.SimpleNamespace(repeat=batches))
    monkeypatch.setattr(speed, "time", types.SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0]))
    found = speed.measure(["--method=paired", "--batch_size=2", "--ema_decay=0", *TINY], 3)
    assert found["step_secs"] == [1.0, 4.0, 2.0] and found["steps"] == 3 and found["took_sec"] == 157.0
    assert found["step_sec"] == 2.0 and found["images_per_sec"] == 1.0
    assert 100 < found["peak_memory_mib"] < 20000 and found["settings"]["generator"]["ngf"] == 4


def test_rows_take_turns_and_an_interrupted_suite_goes_on(tmp_path, monkeypatch, capsys):
    done, stops = [], [3]

    def measure(function, arguments, steps):
        assert function is speed.measure and steps == 3 and "--ngf=4" in arguments
        if len(done) in stops:
            stops.clear()
            raise KeyboardInterrupt
        done.append([text for text in arguments if text.startswith(("--method", "--seed"))])
        return {key: value for key, value in _result("", 0, 1.0 + len(done), 600.0).items()
                if key not in ("row", "seed")}

    monkeypatch.setattr(measuring, "in_own_process", measure)
    arguments = [f"--output={tmp_path / 'out'}", "--rows=cyclegan,gcgan", "--seeds=0,1", "--steps=3", "--set=ngf=4"]
    assert _main(*arguments) == 130
    assert _main(*arguments) == 0
    assert done == [["--method=cyclegan", "--seed=0"], ["--method=gcgan", "--seed=0"],
                    ["--method=cyclegan", "--seed=1"], ["--method=gcgan", "--seed=1"]]
    result = json.loads((tmp_path / "out" / "results" / "gcgan_seed1.json").read_text(encoding="utf-8"))
    assert result["step_sec"] == 5.0 and result["label"] == "GcGAN" and result["seed"] == 1
    # 3/2 and 5/4.
    line = "| GcGAN | 2 | 4.000 ± 1.414 | 0.533 ± 0.189 | 600 ± 0 | 1.375 ± 0.177 |"
    assert line in capsys.readouterr().out and line in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("argument, message", [
    ("--dataset=photos", "--dataset must be left out with --suite=speed, found photos"),
    ("--budget_minutes=3", "--budget_minutes must be left out with --suite=speed, found 3.0"),
    ("--feature_extractor=random", "--feature_extractor must be left out"),
    ("--set=preprocess=none", "--set=preprocess must leave crops of --crop_size_px"),
    ("--rows=odcr", "--rows must be names out of cyclegan, cut, fastcut, gcgan with --suite=speed, found 'odcr'"),
])
def test_what_makes_no_sense_is_refused(tmp_path, capsys, argument, message):
    assert _main(f"--output={tmp_path / 'out'}", argument) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
