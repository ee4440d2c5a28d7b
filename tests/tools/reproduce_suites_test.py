"""The suites' rows, and how pictures of trained rows are measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from absl import flags
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.image_files import read_image, write_png
from cut_tf.methods import build_method
from cut_tf.metrics.features import feature_extractor
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator
from tools.benchmark import measuring
from tools.reproduce import __main__ as reproduce, report, rows as reproduce_rows, runs
from tools.reproduce.suites import SUITES, Row

MACHINE = {"cut_tf": "1", "CPU": "a, 2 cores"}


def _main(*arguments: str) -> int:
    values = flags.FlagValues()
    reproduce.define(values)
    return reproduce.main(values(["reproduce", *arguments]), values)


def _settings(suite: str, *common: str) -> dict[str, Settings]:
    """Settings of the rows that are trained, by name."""
    rows, _ = reproduce_rows.select_rows(suite, [], common)
    return {row.name: reproduce_rows.settings_of([*common, *row.flags]) for row in rows if row.trained}


# ---- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", sorted(SUITES))
@pytest.mark.parametrize("scenes", [True, False])
def test_every_row_has_possible_settings_of_its_own_and_the_papers_numbers(suite, scenes):
    base = SUITES[suite].bases[not scenes]
    common = command_line.with_flagfile_paths([f"--flagfile={base}"]) if base else []
    rows, same = reproduce_rows.select_rows(suite, [], common, "runs/teacher" if suite == "light" else "")
    assert not same or suite == "dehazing", same
    assert len({row.name for row in SUITES[suite].rows}) == len(SUITES[suite].rows)
    assert all(len(row.paper) in (0, len(SUITES[suite].paper)) for row in rows)


def test_no_row_is_there_twice():
    rows, same = reproduce_rows.select_rows("dehazing", [], ["--wpnce_roles=swapped", "--wpnce_scale=max1",
                                                             "--wpnce_form=split"])
    assert same == {"odcr_max1": "odcr"} and len(rows) == len(SUITES["dehazing"].rows) - 1
    rows, same = reproduce_rows.select_rows("dehazing", ["odcr_max1", "input"], [])
    assert same == {} and [row.name for row in rows] == ["input", "odcr_max1"]


def test_another_common_setting_makes_other_rows_the_same():
    rows, same = reproduce_rows.select_rows("dehazing", [], ["--wpnce_roles=swapped", "--wpnce_scale=softmax",
                                                             "--wpnce_form=split"])
    assert same == {"odcr_softmax": "odcr"} and "odcr_max1" in [row.name for row in rows]


def test_dehazing_rows_have_the_settings_that_their_names_say():
    settings = _settings("dehazing")
    assert {name for name in settings if settings[name].train.method == "cut"} == {"cut", "fastcut"}
    fast = settings["fastcut"]
    assert (fast.patch_nce.nce_weight, fast.patch_nce.nce_identity_weight) == (10.0, 0.0)
    assert fast.mirroring.flip_equivariance is True
    literal = settings["odcr_literal"].odcr
    assert (literal.wpnce_roles, literal.wpnce_scale, literal.wpnce_form) == ("printed", "softmax", "printed")
    assert {settings[name].odcr.wpnce_scale for name in settings} == {"softmax", "max1", "sigmoid", "normalise_after"}


def test_rows_of_the_ablation_of_cut():
    """Identity, negatives, where they come from, layers."""
    settings = _settings("ablation", "--nce_layers=0,4,9", "--nce_identity_weight=0", "--l1_identity_weight=7")
    losses = {name: found.patch_nce for name, found in settings.items()}
    assert {name: (loss.nce_identity_weight, loss.num_negatives, loss.negatives, loss.nce_layers)
            for name, loss in losses.items()} == {
        "cut": (1.0, 0, "internal", "0,4,9"), "no_identity": (0.0, 0, "internal", "0,4,9"),
        "no_identity_15": (0.0, 15, "internal", "0,4,9"), "no_identity_15_last": (0.0, 15, "internal", "9"),
        "last": (1.0, 0, "internal", "9"), "internal_external": (1.0, 0, "internal_external", "0,4,9"),
        "external": (1.0, 0, "external", "0,4,9"), "external_last": (1.0, 0, "external", "9")}
    assert {found.identity.l1_identity_weight for found in settings.values()} == {0.0}


def test_rows_of_the_ablation_of_aecr_net():
    """Mixup, deformable convolutions, weight and form of the regularization, positives and negatives."""
    settings = _settings("aecr-ablation", "--batch_size=6", "--contrastive_weight=0.1")
    assert {found.generator.generator for found in settings.values()} == {"aecrnet"}
    asked = ("aecr_mixup", "aecr_dfe", *(f"contrastive_{key}" for key in ("weight", "form", "positives", "negatives")))
    assert {name: tuple(found.flat()[key] for key in asked) for name, found in settings.items()} == {
        "base": (False, False, 0.0, "ratio", 1, 1), "mixup": (True, False, 0.0, "ratio", 1, 1),
        "dfe": (False, True, 0.0, "ratio", 1, 1), "dfe_mixup": (True, True, 0.0, "ratio", 1, 1),
        "positives": (True, True, 0.1, "positives", 1, 1), "full": (True, True, 0.1, "ratio", 1, 1),
        "rate_1_r": (True, True, 0.1, "ratio", 1, 6), "rate_r_1": (True, True, 0.1, "ratio", 6, 1),
        "rate_r_r": (True, True, 0.1, "ratio", 6, 6)}


def test_rows_of_the_light_generator():
    """Where each of them gets its target and its features from."""
    rows, _ = reproduce_rows.select_rows("light", [], [], "runs/gunet")
    settings = {row.name: reproduce_rows.settings_of(row.flags) for row in rows if row.trained}
    assert {name: (found.train.method, found.distill.teacher) for name, found in settings.items()} == {
        name: ("distill", "runs/gunet") if name == "distill" else ("paired", "") for name in settings}
    features = {name: found.contrastive for name, found in settings.items() if found.contrastive.contrastive_weight}
    assert {name: (found.contrastive_features, found.contrastive_form) for name, found in features.items()} == {
        "teacher": ("run:runs/gunet", "positives"), "hed": ("hed", "positives"), "hed_ratio": ("hed", "ratio")}


@pytest.mark.parametrize("suite, rows, teacher, finding", [
    ("light", [], "", "--teacher must be the folder of a run with rows distill, teacher of --suite=light, found ''"),
    ("light", ["paired", "hed"], "runs/a", "--teacher must be empty without rows that have one of --suite=light"),
    ("dehazing", [], "runs/a", "--teacher must be empty without rows that have one of --suite=dehazing")])
def test_a_teacher_belongs_to_rows_that_have_one(suite, rows, teacher, finding):
    with pytest.raises(InputError, match=finding):
        reproduce_rows.select_rows(suite, rows, [], teacher)


def test_a_suite_may_keep_all_its_checkpoints_and_lower_its_rate_from_the_start(tmp_path):
    assert runs.pace_flags(800)[1] == "--checkpoint_steps=100"
    assert runs.pace_flags(80, True)[-2:] == ["--checkpoint_steps=10", "--keep_checkpoints=8"]
    assert runs.run_flags(tmp_path, 80, 3, "scenes", 0)[-3:] == [
        "--steps_per_epoch=10", "--constant_epochs=0", "--decay_epochs=8"]


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_distances_and_the_papers_numbers():
    """FID: mean of 4 and 8, deviation sqrt(4 + 4) = 2.828."""
    common = {"machine": MACHINE, "steps": 8, "step_sec": 1.0, "peak_memory_mib": 100.0, "row": "cut"}
    results = [{**common, "seed": seed, "metrics": {"fid": fid, "kid": 0.5, "fid_best": fid - 1, "kid_best": 0.25}}
               for seed, fid in enumerate((4.0, 8.0))]
    rows = [Row("cut", "CUT", paper=("45.5", "56.4")), Row("gcgan", "GcGAN")]
    results.append({**results[0], "row": "gcgan"})
    assert report.table(rows, results, ("FID a", "FID b")).splitlines() == [
        "| method | seeds | FID | KID | FID, best | KID, best | steps | s/step | peak memory, MiB | paper: FID a | "
        "paper: FID b |", "|---|" + "---:|" * 10,
        "| CUT | 2 | 6.000 ± 2.828 | 0.50000 ± 0.00000 | 5.000 ± 2.828 | 0.25000 ± 0.00000 | 8 | 1.000 | 100 | 45.5 | "
        "56.4 |", "| GcGAN | 1 | 4.000 | 0.50000 | 3.000 | 0.25000 | 8 | 1.000 | 100 | – | – |"]


# ---- measuring -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory, tiny_settings) -> tuple[Path, Settings]:
    """A run with checkpoints of steps 0 and 5 of an untrained generator, and its settings."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(6):
            picture = rng.integers(0, 256, [32, 36, 3], np.uint8)
            write_png(folder / "data" / name / f"{index}.png", picture)
    settings = tiny_settings(method="paired", preprocess="crop", dataset=str(folder / "data"))
    run = folder / "run"
    method = build_method(settings)
    method.compile()
    method.save(run)
    means = method.ema_generator
    for weight in means.weights:
        weight.assign(weight * 1.5)
    method.step.assign(5)
    method.save(run)
    with tf.summary.create_file_writer(str(run / "events")).as_default():
        tf.summary.scalar("speed/step_sec", 0.25, step=1)
    return run, settings


@pytest.fixture(name="found", scope="module")
def _found(run, tmp_path_factory) -> tuple[dict, Path]:
    """What is measured of that run, and the folder of its pictures."""
    pictures = tmp_path_factory.mktemp("pictures") / "new"
    return runs.evaluate("aecr", run[0], run[1], pictures,
                         runs.Asked("random", True)), pictures


def _outputs(run: tuple[Path, Settings]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    test, translate = open_dataset(run[1]), Translator(run[0], "ema")
    indices = range(len(test.test_source))
    return [translate(test.test_source.load(index)) for index in indices], [
        test.test_target.load(index) for index in indices]


def test_pairs_are_measured_with_the_last_running_means(run, found):
    result, pictures = found
    outputs, targets = _outputs(run)
    assert result["test_pictures"] == len(outputs) == 6
    assert result["metrics"]["psnr"] == pytest.approx(np.mean([
        peak_signal_noise_ratio(target, output, data_range=255) for output, target in zip(outputs, targets)]), abs=1e-3)
    assert result["step_sec"] == 0.25 and result["settings"]["train"]["method"] == "paired"
    np.testing.assert_array_equal(read_image(pictures / "2.png"), outputs[2])


def test_distances_are_those_of_each_checkpoint(run, found):
    """FID against its formula with SciPy's square root of a matrix."""
    result, _ = found
    outputs, targets = _outputs(run)
    extractor = feature_extractor("random")
    one, other = (np.concatenate(list(extractor.batches(pictures))) for pictures in (outputs, targets))
    covariances = [np.cov(features, rowvar=False) for features in (one, other)]
    # The product has no full rank: a small multiple of the unit matrix gives it a root, and changes little.
    unit = 1e-10 * np.eye(one.shape[1])
    root = scipy.linalg.sqrtm((covariances[0] + unit) @ (covariances[1] + unit)).real
    fid = np.sum((one.mean(0) - other.mean(0))**2) + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert result["metrics"]["fid"] == pytest.approx(fid, rel=1e-3)
    assert set(result["checkpoints"]) == {"0", "5"}
    assert result["checkpoints"]["5"]["fid"] == result["metrics"]["fid"]
    assert result["checkpoints"]["0"]["fid"] != pytest.approx(fid, rel=1e-3)
    best = min(("0", "5"), key=lambda step: result["checkpoints"][step]["fid"])
    assert result["metrics"]["fid_best"] == result["checkpoints"][best]["fid"]
    assert result["metrics"]["kid_best"] == result["checkpoints"][best]["kid"]
    assert result["feature_extractor"]["dimension"] == str(one.shape[1])


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(name="asked")
def _asked(monkeypatch) -> list:
    """Stand-ins for training and evaluation; what was asked for."""
    seen = []

    def evaluate(function, row, run, data, pictures, asked):
        seen.append((row, asked))
        pictures.mkdir(parents=True, exist_ok=True)
        for index in range(runs.PICTURES):
            Image.new("RGB", (16, 16)).save(pictures / f"{index}.png")
        return {"metrics": {"fid": 2.0, "kid": 0.5}, "machine": MACHINE, "test_pictures": 1, "step_sec": 0.5}

    monkeypatch.setattr(measuring, "in_own_process", evaluate)
    monkeypatch.setattr(runs, "train", lambda *arguments: runs.Trained(3.0, 500.0, 0))
    return seen


def _pictures(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (80, 80)).save(folder / name / f"{name}{index}.png")


def test_unpaired_pictures_are_compared_as_sets(asked, tmp_path, capsys):
    _pictures(tmp_path / "data", ("trainA", "trainB", "testA", "testB"))
    arguments = ["--suite=unpaired", f"--dataset={tmp_path / 'data'}", f"--output={tmp_path / 'out'}",
                 "--rows=input,gcgan", "--seeds=4", "--steps=8"]
    assert _main(*arguments) == 0
    assert asked == [(name, runs.Asked("random", True)) for name in ("input", "gcgan")]
    printed, text = capsys.readouterr().out, (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    line = "| GcGAN | 1 | 2.000 | 0.50000 | 8 | 0.500 | 500 | – | – | – |"
    assert line in printed and line in text and "Each method with the weights of its paper." in text
    assert _main(*arguments) == 0 and len(asked) == 2
    assert json.loads((tmp_path / "out" / "results" / "gcgan_seed4.json").read_text())["metrics"]["fid"] == 2.0


def test_unpaired_suites_need_test_pictures(tmp_path, capsys):
    _pictures(tmp_path / "data", ("trainA", "trainB"))
    assert _main("--suite=unpaired", f"--dataset={tmp_path / 'data'}", f"--output={tmp_path / 'out'}") == 2
    assert "--dataset must have test pictures of both domains" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_feature_extractor_that_is_none_is_told_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measuring, "in_own_process", lambda function, *arguments: function(*arguments))
    assert _main("--suite=ablation", f"--output={tmp_path / 'out'}", "--feature_extractor=nothing") == 2
    assert "--feature_extractor must be inception, random" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_row_that_is_not_in_the_suite_is_refused():
    with pytest.raises(InputError, match="--rows must be names out of input, base, mixup, .* with --suite=aecr-abl"):
        reproduce_rows.select_rows("aecr-ablation", ["cut"], [])


def test_a_row_gets_the_flags_that_it_reads():
    """Common flags need not concern every method; `cut_tf.train` refuses those that nothing reads."""
    common = ["--dataset=scenes", "--scenes_images=4", "--num_patches=16", "--noantialias_up", "--ngf=4"]
    assert reproduce_rows.read_flags([*common, "--method=cut"]) == [*common, "--method=cut"]
    assert reproduce_rows.read_flags([*common, "--method=paired", "--generator=mobile"]) == [
        "--dataset=scenes", "--scenes_images=4", "--ngf=4", "--method=paired", "--generator=mobile"]
