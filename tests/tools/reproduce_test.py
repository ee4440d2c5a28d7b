"""The tool that trains and measures the rows of a table."""

from __future__ import annotations

import fcntl
import json
import os
import re
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import read_image, write_png
from tests.tools.reproduced import TINY, tree_of
from tools.benchmark import measuring
from tools.reproduce import __main__ as reproduce, budget, report, runs
from tools.reproduce.budget import Cost
from tools.reproduce.suites import Row

MACHINE = {"cut_tf": "1", "CPU": "a, 2 cores"}


def _main(*arguments: str) -> int:
    values = flags.FlagValues()
    reproduce.define(values)
    return reproduce.main(values(["reproduce", *arguments]), values)


def _result(row: str, seed: int | None, psnr: float | None, ssim: float, delta: float, **more: float) -> dict:
    return {"row": row, "seed": seed, "metrics": {"psnr": psnr, "ssim": ssim, "ciede2000": delta}, "machine": MACHINE,
            "test_pictures": 48, **more}


def test_the_table_has_means_and_spreads_over_seeds():
    """Worked out by hand: 10, 12, 14 have the mean 12 and the deviation sqrt((4 + 0 + 4) / 2) = 2."""
    rows = [Row("input", "hazy input", trained=False), Row("cut", "CUT"), Row("fastcut", "FastCUT"),
            Row("odcr", "ODCR")]
    results = [
        _result("odcr", 5, 20.126, 0.5, 7.0, steps=8, step_sec=1.0, peak_memory_mib=1000.4),
        _result("cut", 0, 10.0, 0.70, 9.0, steps=8, step_sec=0.1, peak_memory_mib=700.0),
        _result("cut", 1, 12.0, 0.70, 10.0, steps=8, step_sec=0.2, peak_memory_mib=800.0),
        _result("cut", 2, 14.0, 0.76, 14.0, steps=8, step_sec=0.6, peak_memory_mib=750.0),
        _result("input", None, 11.567, 0.61234, 21.0),
    ]
    # SSIM: mean 0.72, deviation sqrt((2 * 0.02^2 + 0.04^2) / 2) = 0.03464; CIEDE2000: sqrt((4 + 1 + 9) / 2) = 2.6458.
    assert report.table(rows, results).splitlines() == [
        "| method | seeds | PSNR, dB | SSIM | CIEDE2000 | steps | s/step | peak memory, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| hazy input | – | 11.57 | 0.6123 | 21.00 | – | – | – |",
        "| CUT | 3 | 12.00 ± 2.00 | 0.7200 ± 0.0346 | 11.00 ± 2.65 | 8 | 0.300 | 800 |",
        "| ODCR | 1 | 20.13 | 0.5000 | 7.00 | 8 | 1.000 | 1000 |",
    ]


def test_a_table_without_a_finite_psnr_has_a_dash():
    line = report.table([Row("input", "same", trained=False)], [_result("input", None, None, 1.0, 0.0)])
    assert line.splitlines()[-1] == "| same | – | – | 1.0000 | 0.00 | – | – | – |"


def test_steps_that_fit_into_a_budget():
    """3 seeds, 0.5 and 1.5 s a step, 10 and 20 s besides: 90 s and 6 s per step. 0.9 * 1000 - 90 = 810 = 135 * 6."""
    costs = [Cost(step_sec=0.5, fixed_sec=10), Cost(step_sec=1.5, fixed_sec=20)]
    assert budget.steps_within(1000, costs, seeds=3) == 128
    assert budget.steps_within(1000 + 6 / 0.9 + 1e-6, costs, seeds=3) == 136
    assert budget.steps_within(100, costs, seeds=3) == 8


@pytest.mark.parametrize("steps, expected", [(1, 8), (8, 8), (15, 8), (16, 16), (803, 800)])
def test_steps_are_whole_epochs(steps, expected):
    assert budget.whole_epochs(steps) == expected


def test_speed_is_the_median_without_the_first_note_of_each_process(tmp_path):
    for number, speeds in enumerate(((50.0, 1.0, 2.0), (40.0, 9.0, 3.0))):
        # Two processes in one second would write to one file.
        writer = tf.summary.create_file_writer(str(tmp_path / "events"), filename_suffix=f".{number}")
        with writer.as_default():
            for step, speed in enumerate(speeds):
                tf.summary.scalar("speed/step_sec", speed, step=step)
                tf.summary.scalar("loss/generator", 77.0, step=step)
        writer.close()
    # By their suffixes: TensorFlow numbers its files, and 10 is sorted before 9.
    (first,), (second,) = ((tmp_path / "events").glob(f"*.{number}") for number in (0, 1))
    assert runs.median_step_sec(tmp_path) == pytest.approx(2.5)  # of 1, 2, 9, 3
    second.write_bytes(second.read_bytes()[:-5])  # killed while it wrote: without the last loss
    assert runs.median_step_sec(tmp_path) == pytest.approx(2.5)
    second.unlink()
    first.rename(first.with_name("events.out.tfevents.1"))
    assert runs.median_step_sec(tmp_path) == pytest.approx(1.5)


def test_a_run_without_notes_of_its_speed_is_named(tmp_path):
    with pytest.raises(InputError, match="events: must have the speed"):
        runs.median_step_sec(tmp_path)


def test_the_grid_has_every_picture_under_its_label(tmp_path):
    # Not grey, as the smooth edges of letters are.
    colours = np.stack([np.arange(1, 7) * 30, np.full(6, 200), np.zeros(6)], -1).astype(np.uint8).reshape(2, 3, 3)
    columns = []
    for column in range(3):
        paths = [tmp_path / f"{column}{row}.png" for row in range(2)]
        for row, path in enumerate(paths):
            write_png(path, np.full([20, 600 if column == 2 else 40, 3], colours[row, column]))
        columns.append((f"a label of column {column}", paths))
    report.write_grid(tmp_path / "grid.png", columns)
    grid = read_image(tmp_path / "grid.png")
    for row, column in np.ndindex(2, 3):
        found = (grid == colours[row, column]).all(-1)
        # 600x20 px become 256 px wide, and 20 * 256 / 600 = 8.5 px high.
        assert found.sum() >= (256 * 8 if column == 2 else 800)
        assert np.nonzero(found)[0].min() > 10, "room for the label"
    assert grid.shape[1] < 450


def test_a_failed_run_tells_its_last_lines_and_its_log(tmp_path):
    with open(tmp_path / "lock", "ab") as lock, pytest.raises(runs.RunError) as caught:
        runs.train(["--ngf=none"], tmp_path / "run", tmp_path / "run.log", 8, lambda child: None,
                   lock.fileno())
    assert "exit code 1" in str(caught.value) and "--ngf" in str(caught.value)
    assert str(tmp_path / "run.log") in str(caught.value) and (tmp_path / "run.log").stat().st_size


class _Fakes:
    """Stand-ins for training and evaluation that take no time: 0.5 s per step, as they say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[list[str]] = []
        self.stop_at: dict[str, BaseException] = {}
        monkeypatch.setattr(runs, "train", self._train)
        monkeypatch.setattr(measuring, "in_own_process", self._evaluate)

    def _train(self, arguments, run, log, steps, started, lock):
        started(os.getpid())
        if run.name in self.stop_at:
            raise self.stop_at.pop(run.name)
        self.trained.append([run.name, *arguments])
        return runs.Trained(3.0, 500.0, 0)

    def _evaluate(self, function, row, run, data, pictures, asked):
        assert asked == runs.Asked()
        assert function is runs.evaluate
        pictures.mkdir(parents=True, exist_ok=True)
        for index in range(runs.PICTURES):
            write_png(pictures / f"{index}.png", np.zeros([16, 16, 3], np.uint8))
        return {key: value for key, value in _result(row, None, 10.0, 0.5, 9.0, step_sec=0.5).items()
                if key not in ("row", "seed")}

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.trained]


@pytest.fixture(name="fakes")
def _fakes(monkeypatch):
    return _Fakes(monkeypatch)


def test_the_budget_sets_the_steps_of_all_runs(fakes, tmp_path, capsys):
    """2 rows, 2 seeds, 0.5 s: 2 s for one step of all. Nine tenths of a minute are 54 s, so 27 steps, in epochs 24."""
    out = tmp_path / "out"
    assert _main(f"--output={out}", "--rows=cut,odcr", "--seeds=0,1", "--budget_minutes=1", *TINY) == 0
    assert fakes.names == ["calibration_cut", "calibration_odcr", "cut_seed0", "odcr_seed0", "cut_seed1", "odcr_seed1"]
    assert json.loads((out / "plan.json").read_text())["steps"] == 24
    for name, *arguments in fakes.trained:
        assert f"--steps_per_epoch={2 if name.startswith('calibration') else 3}" in arguments
        assert {"--constant_epochs=5", "--decay_epochs=3", "--ngf=4"} <= set(arguments)
    assert "24 steps per run" in capsys.readouterr().out


def test_a_budget_too_small_is_told(fakes, tmp_path, capsys):
    assert _main(f"--output={tmp_path / 'out'}", "--rows=cut", "--seeds=0", "--budget_minutes=0.01", *TINY) == 0
    assert "note: more than --budget_minutes=0.01, since 8 steps are the least" in capsys.readouterr().out


def test_without_steps_and_budget_those_of_the_base_are_taken(fakes, tmp_path):
    assert _main(f"--output={tmp_path / 'out'}", "--rows=cut", "--seeds=0", *TINY) == 0
    (_, *arguments), = fakes.trained
    assert "--steps_per_epoch=100" in arguments and "--dataset=scenes" in arguments
    assert [text for text in arguments if text.startswith("--flagfile=")][0].endswith("cut_scenes.flags")


@pytest.mark.parametrize("stopped", ["calibration_odcr", "cut_seed0", "odcr_seed1"])
def test_an_interrupted_suite_goes_on(fakes, tmp_path, capsys, stopped):
    out = tmp_path / "out"
    arguments = [f"--output={out}", "--rows=input,cut,odcr", "--seeds=0,1", "--budget_minutes=1", *TINY]
    fakes.stop_at[stopped] = KeyboardInterrupt()
    assert _main(*arguments) == 130
    assert "the same command continues" in capsys.readouterr().err
    before = tree_of(out / "results")
    assert _main(*arguments) == 0
    assert fakes.names == ["calibration_cut", "calibration_odcr", "cut_seed0", "odcr_seed0", "cut_seed1", "odcr_seed1"]
    after = tree_of(out / "results")
    assert len(after) == 5 and before.items() <= after.items()
    assert "All 5 runs are finished" in (out / "README.md").read_text(encoding="utf-8")
    assert _main(*arguments) == 0 and tree_of(out / "results") == after and len(fakes.names) == 6


def test_a_failed_run_stops_the_suite(fakes, tmp_path, capsys):
    out = tmp_path / "out"
    fakes.stop_at["odcr_seed0"] = runs.RunError("odcr_seed0: training failed")
    arguments = [f"--output={out}", "--rows=cut,odcr", "--seeds=0", "--steps=8", *TINY]
    assert _main(*arguments) == 1
    assert "error: odcr_seed0: training failed" in capsys.readouterr().err
    assert "**1 of 2 runs are finished**" in (out / "README.md").read_text(encoding="utf-8")
    assert _main(*arguments) == 0 and fakes.names == ["cut_seed0", "odcr_seed0"]


def test_an_evaluation_that_is_killed_names_its_run(fakes, tmp_path, capsys, monkeypatch):
    out, evaluate = tmp_path / "out", measuring.in_own_process
    arguments = [f"--output={out}", "--rows=cut", "--seeds=0", "--steps=8", *TINY]

    def killed(*_: object) -> None:
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    monkeypatch.setattr(measuring, "in_own_process", killed)
    assert _main(*arguments) == 1
    assert "error: cut_seed0: its process was killed" in capsys.readouterr().err
    monkeypatch.setattr(measuring, "in_own_process", evaluate)
    assert _main(*arguments) == 0 and fakes.names == ["cut_seed0"]  # trained once


@pytest.mark.parametrize("change, message", [
    (["--seeds=0,1"], r"seeds \[0\] against \[0, 1\]"), (["--steps=16"], "steps 8 against 16"),
    (["--budget_minutes=5", "--steps=0"], r"steps 8 against 0; budget_minutes 0.0 against 5.0"),
    (["--rows=cut,fastcut"], "rows.fastcut None against '--method=cut .*'"),
    (["--set=ngf=8"], "settings.ngf 4 against 8"), (["--base=cut_folder"], "base 'cut_scenes' against 'cut_folder'"),
])
def test_other_flags_for_the_same_folder_are_refused(fakes, tmp_path, capsys, change, message):
    out = tmp_path / "out"
    arguments = [f"--output={out}", "--rows=cut", "--seeds=0", "--steps=8", *TINY]
    assert _main(*arguments) == 0
    before = tree_of(out)
    assert _main(*arguments, *change) == 2
    error = capsys.readouterr().err
    assert re.search(f"holds results of other flags or settings .*{message}", error), error
    assert tree_of(out) == before


def test_a_folder_in_use_is_refused(fakes, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [f"--output={out}", "--rows=cut", "--seeds=0", "--steps=8", *TINY]
    fakes.stop_at["cut_seed0"] = KeyboardInterrupt()
    assert _main(*arguments) == 130
    with open(out / ".lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert _main(*arguments) == 2
    assert f"is in use by a process that still runs, one of {os.getpid()} " in capsys.readouterr().err
    assert _main(*arguments) == 0


@pytest.mark.parametrize("arguments, message", [
    (["--output="], "--output must be a folder, found '.'"),
    (["--seeds=a"], "--seeds must be integers with commas between, found 'a'"),
    (["--seeds=1,1"], "--seeds must be different integers, zero or more, found [1, 1]"),
    (["--seeds=-1"], "--seeds must be different integers, zero or more, found [-1]"),
    (["--steps=12"], "--steps must be a multiple of 8 with --suite=dehazing, found 12"),
    (["--steps=-8"], "--steps must be zero or more, found -8"),
    (["--steps=8", "--budget_minutes=2"], "and not be given with --steps, found 2.0 and --steps=8"),
    (["--budget_minutes=-2"], "--budget_minutes must be above zero"),
    (["--rows=cut,cat"], "--rows must be names out of input, dark_channel_prior, cut, fastcut, cyclegan, odcr"),
    (["--base=nothing"], "--base must be a flagfile of cut_tf.train: --flagfile must be a file or one of"),
    (["--set=ngf"], "--set must be name=value, found 'ngf'"),
    (["--set=seed=3"], "--set must leave method, dataset, run, seed"),
    (["--set=nothing=3"], "--base and --set must give flags of cut_tf.train: Unknown command line flag 'nothing'"),
    (["--set=crop_size_px=8"], "--crop_size_px must be at least 16, found 8"),
    (["--dataset=nowhere"], "nowhere"), (["cut"], "arguments must be flags, found cut"),
])
def test_bad_input_gives_code_2_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert _main("--output=out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error, error
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_pairs_is_refused(tmp_path, capsys):
    for name in ("trainA", "trainB"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (80, 80)).save(tmp_path / "data" / name / "a.png")
    assert _main(f"--output={tmp_path / 'out'}", f"--dataset={tmp_path / 'data'}") == 2
    assert "--dataset must have pairs of hazy and clear test pictures" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suite", ["unpaired", "features"])
def test_a_dataset_without_test_pictures_of_both_domains_is_refused(tmp_path, capsys, suite):
    for name in ("trainA", "trainB", "testA"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (80, 80)).save(tmp_path / "data" / name / "a.png")
    assert _main(f"--output={tmp_path / 'out'}", f"--suite={suite}", f"--dataset={tmp_path / 'data'}",
                 "--set=crop_size_px=32") == 2
    assert "--dataset must have test pictures of both domains" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_files_and_damaged_ones_are_named(fakes, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    arguments = [f"--output={tmp_path / 'out'}", "--rows=input", *TINY]
    assert _main(*arguments) == 2
    assert "--output must be a new or empty folder, or that of a suite" in capsys.readouterr().err
    (tmp_path / "out" / "mine.txt").unlink()
    assert _main(*arguments) == 0
    (tmp_path / "out" / "results" / "input.json").write_text("{")
    assert _main(*arguments) == 2
    assert "results/input.json: must be the result of a run" in capsys.readouterr().err
    (tmp_path / "out" / "plan.json").write_text("[]")
    assert _main(*arguments) == 2
    assert "plan.json: must be the plan of a suite" in capsys.readouterr().err
