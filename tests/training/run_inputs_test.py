"""A run that goes on finds the pictures and the teacher of its beginning, or refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.checkpoints import run_and_step, write_settings
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.pipeline import TrainingStream
from cut_tf.methods import build_method
from cut_tf.training import run_inputs, trainer
from cut_tf.translators.run import Translator

QUICK = {"method": "paired", "generator": "mobile", "generator_norm": "none", "preprocess": "crop"}


@pytest.fixture
def begun(tmp_path, tiny_settings, monkeypatch):
    """begun(**settings) -> a run over a folder of six pictures per domain, which has recorded its inputs."""
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (tmp_path / "data" / domain).mkdir(parents=True)
        for number in range(6):
            picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "data" / domain / f"{number}.png")

    def begin(**overrides):
        run = open_run(**overrides)
        write_settings(run.folder, run.settings)
        run_inputs.write(run.folder, run.inputs)
        return run

    def settings(**overrides):
        return tiny_settings(**{**QUICK, "run": str(tmp_path / "run"), "dataset": str(tmp_path / "data"),
                                "steps_per_epoch": 0, "batch_size": 2, **overrides})

    def open_run(**overrides):
        return trainer.Run(settings(**overrides))

    def settle(**overrides):
        asked = settings(**overrides)
        stream = TrainingStream(open_dataset(asked), asked.data, asked.train.seed)
        return run_inputs.settle(tmp_path / "run", stream, asked)

    begin.again, begin.settle = open_run, settle
    return begin


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_changed_pictures_are_named_and_nothing_is_touched(begun, tmp_path):
    run, data = begun(), tmp_path / "data"
    assert run.steps_per_epoch == 3
    (data / "trainA" / "0.png").rename(data / "trainA" / "7.png")
    (data / "trainB" / "0.png").rename(data / "trainB" / "7.png")
    size = (data / "trainB" / "3.png").stat().st_size
    Image.new("RGB", (32, 32)).save(data / "trainB" / "3.png")
    before = _contents(tmp_path)
    with pytest.raises(InputError) as raised:
        begun.again()
    assert str(raised.value).splitlines() == [
        f"--run={run.folder} was begun with other inputs than are found now (5 differences):",
        f"  source: {data}/trainA/0.png is gone",
        f"  source: {data}/trainA/7.png is new",
        f"  target: {data}/trainB/0.png is gone",
        f"  target: {data}/trainB/3.png had {size} bytes, has {(data / 'trainB' / '3.png').stat().st_size}",
        f"  target: {data}/trainB/7.png is new",
        "Put them back, name another folder, or give --allow_changed_data, which goes on with what is there now"]
    assert _contents(tmp_path) == before


def test_more_than_five_differences_are_counted(begun, tmp_path):
    begun()
    for number in range(3):
        for domain in ("trainA", "trainB"):
            (tmp_path / "data" / domain / f"{number}.png").unlink()
    with pytest.raises(InputError, match=r"\(6 differences\):\n(  .* is gone\n){5}  and 1 more\n"):
        begun.settle()


def test_allowed_changes_keep_the_steps_of_an_epoch_and_are_recorded(begun, tmp_path):
    begun()
    for domain in ("trainA", "trainB"):
        for number in (3, 4):
            (tmp_path / "data" / domain / f"{number}.png").unlink()
    run = begun.again(allow_changed_data=True)
    assert len(run.stream.domains[0]) == 4 and run.stream.steps_per_epoch() == 2
    assert run.steps_per_epoch == 3
    run_inputs.write(run.folder, run.inputs)
    assert begun.again().steps_per_epoch == 3


def test_a_damaged_record_is_named(begun, tmp_path):
    begun()
    for text in ("{", "[]", json.dumps({"pictures": {"source": [1]}, "runs": {}, "steps_per_epoch": 1})):
        (tmp_path / "run" / "inputs.json").write_text(text)
        with pytest.raises(InputError, match="inputs.json: not the record of a run's inputs"):
            begun.settle()


@pytest.fixture
def teacher(tmp_path, tiny_settings):
    """A run with the checkpoint of step 0, and how to write one of another step, with other weights."""
    method = build_method(tiny_settings(**QUICK))
    method.compile()

    def save(step: int) -> None:
        for weight in method.ema_generator.weights:
            weight.assign_add(0.01 * np.ones(weight.shape))
        method.step.assign(step)
        method.save(tmp_path / "teacher")

    save(0)
    return save


def test_a_teacher_that_trains_on_stays_the_one_of_the_beginning(begun, teacher, tmp_path):
    flags = {"method": "distill", "teacher": str(tmp_path / "teacher")}
    first = begun(**flags)
    assert first.method.settings.distill.teacher == f"{tmp_path}/teacher@0"
    teacher(5)
    again = begun.again(**flags)
    assert again.method.settings.distill.teacher == f"{tmp_path}/teacher@0"
    assert again.settings.distill.teacher == str(tmp_path / "teacher")
    picture = {"source": np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)}
    expected = first.method._target(picture).numpy()
    np.testing.assert_array_equal(again.method._target(picture).numpy(), expected)
    newest = build_method(again.settings)._target(picture).numpy()
    assert np.abs(newest - expected).max() > 1e-3


def test_a_teacher_whose_checkpoint_is_gone_or_other_is_refused(begun, teacher, tmp_path):
    flags = {"method": "distill", "teacher": str(tmp_path / "teacher")}
    begun(**flags)
    folder = tmp_path / "teacher" / "checkpoints" / "step_0000000000"
    shutil.rmtree(folder)
    teacher(0)
    with pytest.raises(InputError, match="--teacher=.*teacher: its checkpoint of step 0 has other weights"):
        begun.settle(**flags)
    shutil.rmtree(folder)
    teacher(5)
    with pytest.raises(InputError, match=r"--teacher=.*teacher: its checkpoint of step 0 is gone, found \[5\]"):
        begun.settle(**flags)
    assert begun.settle(**flags, allow_changed_data=True).runs["teacher"].step == 5


def test_a_step_of_a_run_can_be_named(teacher, tmp_path):
    teacher(5)
    run = tmp_path / "teacher"
    assert run_and_step(run) == (run, None) and run_and_step(f"{run}@5") == (run, 5)
    assert Translator(run).step == 5 and Translator(f"{run}@0").step == 0
    with pytest.raises(InputError, match="teacher@4 must name a step with a checkpoint, found 0, 5"):
        Translator(f"{run}@4")
    with pytest.raises(InputError, match="--weights must be ema or last with --run=DIR@STEP, found best"):
        Translator(f"{run}@0", weights="best")
    (tmp_path / "teacher@5").mkdir()
    assert run_and_step(f"{run}@5") == (tmp_path / "teacher@5", None)
