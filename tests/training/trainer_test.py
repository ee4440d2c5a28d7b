"""What a run writes, and how it ends when something is wrong."""

import gc
import json
import logging
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.common.errors import InputError, NonFiniteError
from cut_tf.methods import build_method
from cut_tf.methods.cut import Draws
from cut_tf.metrics import DISTANCES
from cut_tf.metrics.distances import Distance
from cut_tf.settings import Settings
from cut_tf.training import callbacks, trainer


def _events(run):
    """{tag: number of events} and {tag: last value} of a run."""
    counts, values = {}, {}
    for path in (run / "events").iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                counts[value.tag] = counts.get(value.tag, 0) + 1
                if value.tensor.dtype == tf.float32.as_datatype_enum and not value.tensor.tensor_shape.dim:
                    values[value.tag] = float(tf.make_ndarray(value.tensor))
    return counts, values


@pytest.fixture
def folder_dataset(tmp_path):
    """trainA, trainB and paired testA, testB of 40x44 noise pictures."""
    rng = np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for index in range(3):
            Image.fromarray(rng.integers(0, 256, (40, 44, 3), np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "data"


def _settings(tiny_settings, run, **overrides):
    return tiny_settings(**{"run": str(run), "preprocess": "crop", "batch_size": 1, "steps_per_epoch": 3,
                            "log_steps": 1, "image_steps": 3, "eval_steps": 2, "checkpoint_steps": 4,
                            "generator_blocks": 0, "nce_layers": "0,4,8", "discriminator_layers": 1, **overrides})


def test_a_run_that_another_process_trains_is_left_alone(tiny_settings, tmp_path):
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run"))
    writing = tmp_path / "run" / "checkpoints" / ".step_0000000004.99.tmp"
    writing.mkdir(parents=True)
    other = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX);"
         "print('has it', flush=True); sys.stdin.read()", str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(InputError, match=f"^--run={tmp_path / 'run'} must be trained by one process at a time, "
                                             "found another one at work"):
            run.train(verbose=0)
        assert writing.is_dir()
        other.stdin.close()
    assert run.train(verbose=0).finished and not writing.exists()


def test_a_run_that_another_process_has_trained_meanwhile_is_left_alone(tiny_settings, tmp_path):
    first, second, other = (trainer.Run(_quick(tiny_settings, tmp_path / "run", **values))
                            for values in ({}, {}, {"learning_rate": 0.01}))
    assert first.train(verbose=0).step == 6
    with pytest.raises(InputError, match="must be trained by one process at a time, found step 6 of one that ended"):
        second.train(verbose=0)
    with pytest.raises(InputError, match="holds a run of other settings"):
        other.train(verbose=0)
    assert first.store.steps()[-1] == 6 and first.train(verbose=0).finished


@pytest.mark.parametrize("run, rule", [
    ("gs://bucket/run", "a folder of this machine, found gs://bucket/run"),
    ("runs/a[1]", "a path without . and ., with which TensorFlow cannot read what it writes, found runs/a.1"),
    ("runs/a\\b", "a path without . and ., with which TensorFlow cannot read what it writes, found runs/a.b")])
def test_folders_that_could_not_be_read_again_are_refused(tiny_settings, tmp_path, monkeypatch, run, rule):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^--run must be {rule}"):
        trainer.Run(_quick(tiny_settings, run))
    assert not list(tmp_path.iterdir())


# What a metric was measured with.
_WITH = {"test_images": 2, "test_pairs": True, "crop_border_px": 0, "feature_extractor": "inception"}


def test_the_last_step_may_be_the_best(tiny_settings, tmp_path):
    outcome = trainer.Run(_quick(tiny_settings, tmp_path / "run", eval_steps=100)).train(verbose=0)
    best = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
    assert best == {"step": 6, "metric": "psnr", "value": pytest.approx(outcome.metrics["ema"]["psnr"]),
                    "weights": "ema", "with": _WITH}


def _quick(tiny_settings, run, **overrides):
    """Of a method and a generator that are built in no time, for tests of what all have in common."""
    return _settings(tiny_settings, run, **{"method": "paired", "generator": "mobile", "generator_norm": "none",
                                            **overrides})


_LINE = r"epoch \d of 2, step \d of 6, [0-9.e-]+ s a step, \d+\.\d min left(?P<terms>: loss/generator \d\.\d{4})?"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_gets_one_line_an_epoch_and_a_terminal_a_bar(tmp_path, tiny_settings, caplog, capsys, monkeypatch,
                                                           terminal):
    caplog.set_level(logging.INFO, "cut_tf")
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run", image_steps=100, eval_steps=100))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    run.train()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith(".callbacks")]
    found = [re.fullmatch(_LINE, line) for line in lines]
    assert len(lines) == 2 and all(found), lines
    assert [line.split(",")[:2] for line in lines] == [["epoch 1 of 2", " step 3 of 6"], ["epoch 2 of 2",
                                                                                       " step 6 of 6"]]
    assert [match["terms"] is None for match in found] == [terminal] * 2
    assert ("3/3" in capsys.readouterr().out) == terminal


def test_run_folder(tmp_path, tiny_settings):
    settings = _settings(tiny_settings, tmp_path / "run", l1_identity_weight=5.0)
    run = trainer.Run(settings)
    outcome = run.train(verbose=0)
    assert (outcome.step, outcome.finished) == (6, True)
    assert set(outcome.metrics) == {"input", "raw", "ema"}
    folder = tmp_path / "run"
    assert Settings.from_json((folder / "settings.json").read_text(), "settings.json") == settings
    assert {path.name for path in folder.iterdir()} == {"settings.json", "inputs.json", "events", "checkpoints",
                                                        "comparison.png"}
    best = json.loads((folder / "checkpoints" / "best.json").read_text())
    assert best["metric"] == "psnr" and best["step"] in (2, 4, 6)
    assert json.loads((folder / "checkpoints" / "final.json").read_text()) == {"step": 6}

    counts, values = _events(folder)
    for tag in ("loss/generator", "loss/discriminator", "loss/gan", "loss/nce", "loss/nce_identity",
                "loss/l1_identity", "learning_rate/generator", "speed/step_sec", "speed/images_per_sec",
                "speed/input_wait_sec", "gradient_norm/generator", "metric/nce_accuracy/04_down1"):
        assert counts[tag] == 6, tag
    for tag in ("source_output_target", "generator/stem/kernel", "colour/output_mean_r", "alarm/copy",
                "alarm/collapse"):
        assert counts[tag] == 2, tag
    assert counts["eval_ema/psnr"] == counts["eval_raw/ssim"] == 3
    assert values["learning_rate/generator"] == pytest.approx(2e-4 * (1 - 1 / 2))
    assert values["eval_ema/psnr"] == pytest.approx(outcome.metrics["ema"]["psnr"], abs=1e-4)
    with Image.open(folder / "comparison.png") as picture:
        assert picture.size == (3 * 32, 2 * 32)
    text = trainer.summary(run, outcome)
    gain = outcome.metrics["ema"]["psnr"] - outcome.metrics["input"]["psnr"]
    assert f"gain {gain:+.2f} dB" in text and f"tensorboard --logdir={folder}" in text


def _named(kind, but=()):
    """All objects whose class has that in its name, but for some that were there before."""
    known = {id(each) for each in but}
    return [each for each in gc.get_objects() if kind in type(each).__name__ and id(each) not in known]


def test_no_thread_reads_ahead_of_a_run_that_was_stopped(tmp_path, tiny_settings, monkeypatch):
    """It could keep the process from ending: there Python stops threads where they are, and TensorFlow waits for them.
    """
    found = []

    def look(self, step):
        found.append(len(_named("OwnedIterator", before)))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(callbacks.NonFiniteStop, "at_step", look)
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run"))
    gc.collect()
    before = _named("OwnedIterator")  # of earlier tests
    gc.disable()  # which may or may not come in time by itself
    try:
        assert run.train(verbose=0).step == 1
        assert found[0] > 0 and not _named("OwnedIterator", before)
    finally:
        gc.enable()


def test_no_thread_reads_ahead_of_a_run_that_failed(tmp_path, tiny_settings, monkeypatch):
    """The error's traceback, which is printed at the end of the process, would keep it."""
    def fail(self, step):
        raise tf.errors.ResourceExhaustedError(None, None, "events.out.tfevents.1.v2; No space left on device")

    monkeypatch.setattr(callbacks.NonFiniteStop, "at_step", fail)
    gc.collect()
    before = _named("OwnedIterator")  # of earlier tests
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run"))
    with pytest.raises(InputError, match=f"^{tmp_path}/run/events: must be writable, found Resource.* No space"):
        run.train(verbose=0)
    assert not _named("OwnedIterator", before)


def test_no_iterator_stands_between_the_input_and_its_replica(tmp_path, tiny_settings, monkeypatch):
    """The thread of such an iterator would hold up the end of most runs, by up to a minute."""
    found = []

    def look(self, step):
        found.append([type(each).__name__ for each in _named("OwnedMultiDevice", before)])
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(callbacks.NonFiniteStop, "at_step", look)
    gc.collect()
    before = _named("OwnedMultiDevice")  # of earlier tests
    assert trainer.Run(_quick(tiny_settings, tmp_path / "run")).train(verbose=0).step == 1
    assert found == [[]]


def test_other_settings_are_refused_with_the_differences(tmp_path, tiny_settings):
    settings = _quick(tiny_settings, tmp_path / "run")
    trainer.Run(settings).train(verbose=0)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    other = settings.having(temperature=0.1, nce_weight=10.0)
    with pytest.raises(InputError) as error:
        trainer.Run(other)
    assert "--temperature: 0.07 against 0.1" in str(error.value)
    assert "--nce_weight: 1.0 against 10.0" in str(error.value)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()} == before
    # What cannot change the weights may change.
    free = settings.having(log_steps=7)
    assert trainer.Run(free).train(verbose=0).step == 6


def test_a_folder_with_other_files_is_refused(tmp_path, tiny_settings):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="--run must be a new or empty folder"):
        trainer.Run(_settings(tiny_settings, tmp_path))
    with pytest.raises(InputError, match="--run must name the folder"):
        trainer.Run(_settings(tiny_settings, ""))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_settings_file_is_named(tmp_path, tiny_settings):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match="settings.json: not the settings of a cut_tf run"):
        trainer.Run(_settings(tiny_settings, tmp_path))


def test_non_finite_loss_stops_and_saves_nothing_new(tmp_path, tiny_settings):
    settings = _settings(tiny_settings, tmp_path / "run", learning_rate=1e30, checkpoint_steps=1)
    with pytest.raises(NonFiniteError) as error:
        trainer.Run(settings).train(verbose=0)
    match = re.match(r"step (\d): not finite: .*loss/(gan|generator|discriminator)", str(error.value))
    assert match, error.value
    saved = [int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step_*")]
    assert saved == list(range(1, int(match.group(1))))


def test_non_finite_gradient_names_network_and_layer(tmp_path, tiny_settings, monkeypatch):
    run = trainer.Run(_settings(tiny_settings, tmp_path / "run"))

    @tf.custom_gradient
    def finite_with_a_bad_slope(output):
        return tf.reduce_sum(output), lambda slope: tf.fill(tf.shape(output), slope * float("nan"))

    def terms(self, outputs, seen):
        return {"loss/gan": finite_with_a_bad_slope(outputs[0])}

    monkeypatch.setattr(type(run.method), "_generator_terms", terms)
    with pytest.raises(NonFiniteError, match=r"step 1: not finite: gradient of generator/stem/kernel\."):
        run.train(verbose=0)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_truncated_picture_is_named_and_nothing_is_lost(tmp_path, tiny_settings, folder_dataset):
    bad = folder_dataset / "trainA" / "1.png"
    bad.write_bytes(bad.read_bytes()[:2000])
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run", dataset=str(folder_dataset), cache_mb=0))
    with pytest.raises(InputError, match=r"step \d: .*trainA/1.png"):
        run.train(verbose=0)


def test_paired_folder_is_evaluated_and_unpaired_is_not(tmp_path, tiny_settings, folder_dataset):
    outcome = trainer.Run(_quick(tiny_settings, tmp_path / "a", dataset=str(folder_dataset))).train(verbose=0)
    assert outcome.metrics["input"]["psnr"] > 0
    (folder_dataset / "testB" / "2.png").rename(folder_dataset / "testB" / "x.png")
    outcome = trainer.Run(_quick(tiny_settings, tmp_path / "b", dataset=str(folder_dataset))).train(verbose=0)
    assert outcome.metrics == {}
    counts, _ = _events(tmp_path / "b")
    assert counts["source_output_identity"] == 2 and "eval_ema/psnr" not in counts


def test_distances_of_unpaired_test_pictures_choose_the_best(tmp_path, tiny_settings, folder_dataset, monkeypatch):
    (folder_dataset / "testB" / "2.png").rename(folder_dataset / "testB" / "x.png")
    values, measured = iter([9, 8, 6, 7, 7, 5, 3, 2, 1]), []

    def given(outputs, targets):
        measured.append((outputs.count, targets.count))
        return Distance(float(next(values)), 0.0)

    monkeypatch.setitem(DISTANCES, "kid", given)
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run", dataset=str(folder_dataset), test_images=3,
                             distribution_metric="kid", best_metric="kid", feature_extractor="random"))
    test_set = run._test_set()
    _, evaluator, _ = run._observers(test_set)
    for step in (2, 4, 6):
        evaluator.at_step(step)
    # Raw weights and running means: 9, 8; 6, 7; 7, 5. At the end the inputs, and both again.
    assert run.store.marked("best") == {"step": 6, "metric": "kid", "value": 5.0, "weights": "ema",
                                        "with": {**_WITH, "test_images": 3, "feature_extractor": "random"}}
    metrics = run._final_metrics(test_set, evaluator)
    assert metrics == {"input": {"kid": 3.0}, "raw": {"kid": 2.0}, "ema": {"kid": 1.0}}
    assert measured == [(3, 3)] * 9
    evaluator._writer.flush()
    counts, events = _events(tmp_path / "run")
    assert {name: count for name, count in counts.items() if name.startswith("eval_")} == {
        "eval_raw/kid": 3, "eval_ema/kid": 3} and events["eval_raw/kid"] == 7.0
    assert not (tmp_path / "run" / "comparison.png").exists()
    text = trainer.summary(run, trainer.Outcome(6, True, metrics))
    assert "3 test pictures, first 3 used" in text and "input  KID 3" in text and "comparison" not in text


def test_a_larger_distance_is_no_better_and_pairs_keep_their_metrics(tmp_path, tiny_settings, monkeypatch):
    run = trainer.Run(_quick(tiny_settings, tmp_path / "run", distribution_metric="fid", best_metric="fid",
                             feature_extractor="random", ema_decay=0.0))
    store = run.store
    _, evaluator, _ = run._observers(run._test_set())
    for step, value in ((1, 5.0), (2, 7.0), (3, 5.0)):
        monkeypatch.setitem(DISTANCES, "fid", lambda *_, value=value: Distance(value, 0.0))
        evaluator.at_step(step)
    assert store.marked("best") == {"step": 1, "metric": "fid", "value": 5.0, "weights": "raw",
                                    "with": {**_WITH, "feature_extractor": "random"}}
    evaluator._settings = run.settings.having(best_metric="psnr")  # the same run goes on with another metric
    evaluator.at_step(4)
    best = store.marked("best")
    assert (best["step"], best["metric"]) == (4, "psnr") and best["value"] != 5.0
    measures = evaluator.evaluate()["raw"]
    assert set(measures) == {"psnr", "ssim", "fid"}
    assert trainer._scores({"psnr": 20.5, "ssim": 0.5, "fid": 12.345678}, {"psnr": 18.0}) == (
        "PSNR  20.50 dB   SSIM 0.5000   gain +2.50 dB   FID 12.346")


def test_a_distance_that_cannot_be_measured_is_refused_before_the_run(tmp_path, tiny_settings, folder_dataset):
    with pytest.raises(InputError, match=r"--best_metric must be psnr, ssim or --distribution_metric \(none\)"):
        trainer.Run(_settings(tiny_settings, tmp_path / "run", best_metric="kid"))
    given = {"distribution_metric": "fid", "feature_extractor": "random"}
    for values, message in (({"test_images": 1}, "--distribution_metric must be none unless .* --test_images=1"),
                            ({"feature_extractor": "nothing"}, "--feature_extractor must be inception, random, "),
                            ({"inception_weights": "x.h5"}, "--inception_weights must be empty unless")):
        with pytest.raises(InputError, match=message):
            trainer.Run(_settings(tiny_settings, tmp_path / "run", **{**given, **values}))
    shutil.rmtree(folder_dataset / "testA")
    shutil.rmtree(folder_dataset / "testB")
    with pytest.raises(InputError, match="--distribution_metric must be none unless .* found fid with 0 pictures"):
        trainer.Run(_settings(tiny_settings, tmp_path / "run", dataset=str(folder_dataset), **given))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_picture_size_none_trains_on_pictures_of_any_size(tmp_path, tiny_settings, folder_dataset):
    Image.new("RGB", (37, 61), (9, 99, 200)).save(folder_dataset / "trainA" / "0.png")
    settings = _settings(tiny_settings, tmp_path / "run", dataset=str(folder_dataset), preprocess="none", cache_mb=0,
                         decay_epochs=0)
    assert trainer.Run(settings).train(verbose=0).finished


@pytest.mark.slow
def test_xla_takes_the_same_step_given_the_same_draws(tmp_path, tiny_settings):
    batch = {name: tf.random.stateless_uniform([2, 32, 32, 3], [seed, 0], -1.0, 1.0)
             for seed, name in enumerate(("source", "target"))}
    ids = [tf.range(0, 160, 10) % 64 for _ in range(4)]
    draws = Draws(tf.constant(True), ids, ids)
    results = []
    for xla in (False, True):
        method = build_method(tiny_settings(flip_equivariance=True))
        method.compile()
        terms = tf.function(method.train_step, jit_compile=xla)(batch, draws)
        results.append({name: float(value) for name, value in terms.items()})
    assert results[1] == pytest.approx(results[0], rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_a_run_with_xla(tmp_path, tiny_settings):
    outcome = trainer.Run(_settings(tiny_settings, tmp_path / "run", xla=True)).train(verbose=0)
    assert outcome.finished and np.isfinite(outcome.metrics["ema"]["psnr"])


def test_unknown_method_and_dataset(tmp_path, tiny_settings):
    with pytest.raises(InputError, match="--method must be one of cut, sincut, .* found 'cutt'"):
        trainer.Run(_settings(tiny_settings, tmp_path / "run", method="cutt"))
    with pytest.raises(InputError, match="--dataset must be a folder with trainA and trainB"):
        trainer.Run(_settings(tiny_settings, tmp_path / "run", dataset=str(tmp_path / "nowhere")))
    assert not (tmp_path / "run").exists()
