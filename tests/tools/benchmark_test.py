"""The benchmark's commands at a size that takes seconds, and its arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import networks
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from cut_tf.training import distribution
from tools.benchmark import (
    input as benchmark_input,
    losses,
    measuring,
    naive as benchmark_naive,
    report,
    scaling,
    step as benchmark_step,
    translate,
)

ROOT = Path(__file__).parents[2]
TINY = {"size_px": 32, "ngf": 4, "ndf": 4, "generator_blocks": 1}
SMALL = ["--size_px=32", "--ngf=4", "--generator_blocks=1", "--repeats=3", "--json"]


def _benchmark(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "tools.benchmark", *words], cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=900)


def _rows(*words: str) -> list[dict]:
    done = _benchmark(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(name="here")
def _here(monkeypatch):
    """Rows are measured in this process, which has TensorFlow already."""
    monkeypatch.setattr(measuring, "in_own_process", lambda function, *arguments: function(*arguments))


# The README's test runs the same command; this one looks at its row.
@pytest.mark.slow
def test_train_step_as_a_program():
    row, = _rows("train_step", "--method=cut", "--precision=bfloat16", *SMALL)
    assert (row["name"], row["precision"], row["size_px"], row["batch_size"]) == ("cut", "bfloat16", 32, 1)
    assert 0 < row["least_sec"] <= row["median_sec"] <= row["most_sec"] and 0.1 < row["peak_gib"] < 4
    share = row["reference_gflop"] / row["median_sec"] / row["bfloat16_gflops"]
    assert row["ceiling_share"] == pytest.approx(share) and 0 < share < 1
    assert row["float32_gflops"] > 0 and row["memory_gb_per_sec"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(set(benchmark_step.CASES) - {"cut"}))
def test_every_other_method_has_a_row(here, case):
    size_px, blocks = (64, 6) if case == "sincut" else (32, 1)  # SinCUT compares features of its fourth stage
    row = benchmark_step.row(case, {"size_px": size_px, "ngf": 4, "ndf": 4, "batch_size": 2,
                                    "generator_blocks": blocks}, 1)
    assert row["reference_gflop"] > 0 and row["batch_size"] == 2


def test_moving_averages_are_compared():
    """Windows of two: 1.5, 2.5, 3.5 against 1.5, 3, 3.5."""
    found = losses.compare([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0], 2)
    assert found["largest_difference"] == pytest.approx(0.5 / 2.5)
    assert found["mean_difference"] == pytest.approx(0.2 / 3)
    assert found["mean"] == found["mean_float32"] == pytest.approx(2.5)


# The README's test runs the same command; this one looks at its rows.
@pytest.mark.slow
def test_losses_of_two_precisions(here):
    rows = {(row["run"], row["name"]): row for row in losses.rows("cut", "bfloat16", TINY, 2, 2)}
    for run in ("bfloat16", "control"):
        for name in ("generator", "nce", "discriminator"):
            row = rows[run, name]
            assert row["mean_float32"] > 0 and 0 < row["largest_difference"] < 0.05, (run, name)


def test_work_is_what_the_convolutions_multiply():
    """The paper's generator by hand: 2 k^2 C_in C_out H W for each convolution, at 256 px 128 GFLOP."""
    sizes = [(7, 3, 64, 256), (3, 64, 128, 256), (3, 128, 256, 128), *[(3, 256, 256, 64)] * 18, (3, 256, 128, 128),
             (3, 128, 64, 256), (7, 64, 3, 256)]
    expected = sum(2 * kernel**2 * before * after * side**2 for kernel, before, after, side in sizes) / 1e9
    generator = networks.build_generator(Settings.of())
    assert benchmark_step.forward_gflop(generator, [1, 256, 256, 3]) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(128, abs=1)


@pytest.mark.slow
def test_a_step_of_cut_has_the_work_of_the_official_code():
    found = benchmark_step.reference_gflop("cut", build_method(benchmark_step.settings_of("cut", {})))
    assert found == pytest.approx(1420, rel=0.01)  # with the keys encoded again, as there
    found = benchmark_step.reference_gflop("fastcut", build_method(benchmark_step.settings_of("fastcut", {})))
    assert found == pytest.approx(760, rel=0.01)


@pytest.mark.slow
def test_stiefel_gives_the_share_of_the_step():
    step, constraint = _rows("stiefel", *SMALL)
    assert constraint["share_of_step"] == pytest.approx(constraint["median_sec"] / step["median_sec"])
    assert constraint["median_sec"] > 0


# The README's test runs the same command; this one looks at its rows.
@pytest.mark.slow
def test_tflite_measures_every_form_of_a_run(tmp_path, tiny_settings):
    pytest.importorskip("ai_edge_quantizer", reason="the extra mobile (ai-edge-quantizer) is not installed")
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    method.save(tmp_path / "run")
    rows = _rows("tflite", f"--run={tmp_path / 'run'}", "--sizes_px=32", "--repeats=2", "--json", "--noresnet")
    names = [row["name"] for row in rows]
    assert names == ["SavedModel", "TFLite, none", "TFLite, float16", "TFLite, dynamic", "TFLite, int8"]
    by_name = dict(zip(names, rows))
    for row in rows:
        assert 0 < row["least_sec"] <= row["median_sec"] <= row["most_sec"] and row["peak_mib"] > 0
        assert row["share"] == pytest.approx(row["median_sec"] / rows[0]["median_sec"])
    assert by_name["TFLite, float16"]["megabytes"] < by_name["TFLite, none"]["megabytes"]
    assert by_name["TFLite, none"]["psnr_db"] > 90 and 0 < by_name["TFLite, none"]["noise_gain"] < 3


REFUSED = {
    "speed": "the command must be one of train_step, scaling, losses, input, layers, stiefel, translate, tflite, "
             "serving, start, report, found speed",
    "train_step --method=pix2pix": "--method must be of cut, fastcut,",
    "train_step --precision=int8": "--precision must be of float32, bfloat16, float16, found int8",
    "scaling --method=cut,odcr": "--method must be one of them for this command, found cut,odcr",
    "scaling --sizes_px=64 --batches=1": "--sizes_px and --batches must be three numbers at least",
    "translate --sizes_px=large": "--sizes_px must be numbers such as 256,512, found 'large'",
    "translate --forms=onnx": "--forms must be of Keras float32,",
    "losses --steps=3 --window=4": "--window must be at most --steps, found 4 and 3",
    "input --images=nowhere": "--images must be a folder of .jpg files, found none in nowhere",
    "tflite": "--run must be the folder of a run, found ''",
    "tflite --run=nowhere --sizes_px=big": "--sizes_px must be numbers such as 256,512, found 'big'",
}


def test_refuses_bad_flags():
    """All in one process, since each takes seconds to start."""
    script = ("import sys\nfrom absl import flags\nfrom tools.benchmark import __main__ as benchmark\n"
              "for words in sys.argv[1:]:\n"
              "    flags.FLAGS.unparse_flags()\n"
              "    for flag in flags.FLAGS: flags.FLAGS[flag].unparse()\n"
              "    code = benchmark.main(flags.FLAGS(['benchmark', *words.split()]))\n"
              "    print(code, words, file=sys.stderr)\n")
    done = subprocess.run([sys.executable, "-c", script, *REFUSED], cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=900)
    told = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "2 ", "0 ", "1 "))]
    assert len(told) == 2 * len(REFUSED), done.stderr[-3000:]
    for (words, message), error, code in zip(REFUSED.items(), told[0::2], told[1::2]):
        assert code == f"2 {words}" and message in error, (words, error)


def test_tables_for_the_readme():
    """Every number at its place, of made-up rows."""
    step = {"name": "cut", "size_px": 256, "batch_size": 1, "precision": "float32", "recompute_blocks": False,
            "median_sec": 3.014, "least_sec": 2.9, "most_sec": 3.251, "images_per_sec": 0.3318, "peak_gib": 2.4567,
            "reference_gflop": 1422.3, "ceiling_share": 1.1234, "ceiling_gflops": 420.4}
    assert list(report.steps([step, {**step, "recompute_blocks": True}]))[2:] == [
        "| cut, 256 px, batch 1 | float32 | 3.01 (2.90 to 3.25) | 0.33 | 2.46 | 1,422 | 112 % of 420 GFLOP/s |",
        "| cut, 256 px, batch 1, `--recompute_blocks` | float32 | 3.01 (2.90 to 3.25) | 0.33 | 2.46 | 1,422 | "
        "112 % of 420 GFLOP/s |"]
    naive = [{"name": "blur up", "form": form, "precision": precision, "shape": [1, 8, 8, 4], "median_sec": seconds,
              "share_of_naive": 0.5} for form, precision, seconds in (
                  ("ours", "float32", 0.001), ("naive", "float32", 0.002), ("ours", "bfloat16", 0.003),
                  ("naive", "bfloat16", 0.004))]
    deformable = [{"name": name, "pass": step, "precision": "float32", "shape": [1, 4, 4, 8], "median_sec": seconds}
                  for name, step, seconds in (("convolution", "forward", 1), ("deformable", "forward", 1),
                                              ("convolution", "forward+backward", 0.005),
                                              ("deformable", "forward+backward", 0.0123))]
    assert list(report.layers(naive + deformable)) == [
        "| layer | float32: ours, naive, ms | bfloat16: ours, naive, ms | naive form |", "|---|---|---|---|",
        "| blur up, 1x8x8x4 | 1.0, 2.0 | 3.0, 4.0 | zeros between pixels, depthwise convolution |",
        "| deformable, 1x4x4x8 | 12.3, 5.0 |  | an ordinary convolution of the same shape |"]
    translated = [{"name": "Keras float32", "size_px": size_px, "median_sec": size_px / 1000, "peak_mib": 1234.4,
                   "ceiling_share": share} for size_px, share in ((512, 0.7), (256, 0.8))]
    assert list(report.translations(translated)) == [
        "| form | 256 px: ms, peak MiB | 512 px: ms, peak MiB | share of the ceiling |", "|---|---|---|---|",
        "| Keras float32 | 256, 1,234 | 512, 1,234 | 70 to 80 % |"]


def test_the_report_names_every_naive_form():
    assert set(report.NAIVE) == {*benchmark_naive.PAIRS, *benchmark_naive.CONSTRAINTS, "deformable"}


def test_growth_is_fitted():
    """Time 3 s per megapixel to the power 1.02, memory 0.5 GiB + 2 GiB per megapixel."""
    rows = [{"size_px": size, "batch_size": batch, "median_sec": 3 * (size**2 * batch / 1e6) ** 1.02,
             "peak_gib": 0.5 + 2 * size**2 * batch / 1e6} for size, batch in ((128, 1), (256, 1), (128, 8), (512, 1))]
    found = scaling.fit(rows)
    assert found["time_exponent"] == pytest.approx(1.02)
    assert found["memory_start_gib"] == pytest.approx(0.5)
    assert found["memory_gib_per_megapixel"] == pytest.approx(2) and found["memory_linear_r2"] == pytest.approx(1)


def test_input_measures_every_way_to_read_and_the_wait(here, monkeypatch):
    devices = distribution.Devices(tf.distribute.get_strategy(), worker=0, workers=1)
    monkeypatch.setattr(distribution, "set_up", lambda settings: devices)
    rows = list(benchmark_input.rows("", "paired", {**TINY, "load_size_px": 48}, 2, 1))
    assert [row["name"] for row in rows] == ["Pillow, one by one", "pipeline, not cached", "pipeline, cached",
                                             "paired step"]
    assert rows[0]["times_pillow"] == pytest.approx(1) and all(row["images_per_sec"] > 0 for row in rows[:3])
    assert 0 <= rows[3]["wait_share"] < 1
    assert all(benchmark_input.line(row) for row in rows)


@pytest.mark.slow
def test_scaling_has_a_row_per_size_and_batch_a_fit_and_two_replicas(here, monkeypatch):
    monkeypatch.setattr(scaling, "_replicated", lambda *arguments: measuring.timing_of([2.0, 1.0, 3.0]))
    rows = list(scaling.rows("paired", [32, 48], [1, 2], TINY, 1))
    assert [row["name"] for row in rows] == ["paired"] * 3 + ["fit", "paired, replicas 1", "paired, replicas 2"]
    assert [(row["size_px"], row["batch_size"]) for row in rows[:3]] == [(32, 1), (48, 1), (32, 2)]
    assert rows[-1]["overhead"] == 0 and rows[-1]["median_sec"] == 2
    assert all(scaling.line(row) for row in rows)


@pytest.mark.slow
def test_translate_compiles_once_for_all_sizes(here):
    rows = list(translate.rows(["Keras float32", "SavedModel float32"], [32, 48], TINY, 1, 1))
    assert [(row["name"].split()[0], row["size_px"], row["traces"]) for row in rows] == [
        ("Keras", 32, 1), ("Keras", 48, 1), ("SavedModel", 32, None), ("SavedModel", 48, None)]
    assert all(row["gflop"] > 0 and translate.line(row) for row in rows)


@pytest.mark.parametrize("name", [*benchmark_naive.PAIRS, *benchmark_naive.CONSTRAINTS])
def test_naive_forms_compute_the_same(name):
    pair = {**benchmark_naive.PAIRS, **benchmark_naive.CONSTRAINTS}[name]
    shape = [2, 16, 16] if name == "PatchNCE" else [32, 8] if name == "Stiefel step" else pair.shape(32, 2, 4)
    inputs = tf.random.stateless_normal(shape, [0, 0])
    np.testing.assert_allclose(pair.ours(inputs), pair.naive(inputs), rtol=1e-4, atol=1e-5)
    if name in benchmark_naive.HALF_PRECISION:
        half = tf.cast(inputs, tf.bfloat16)
        assert pair.ours(half).dtype == pair.naive(half).dtype == tf.bfloat16


def test_layers_are_timed_in_turns(here, monkeypatch):
    monkeypatch.setattr(benchmark_naive, "PAIRS", {"blur up": benchmark_naive.PAIRS["blur up"]})
    monkeypatch.setattr(benchmark_naive, "CONSTRAINTS", {})
    rows = list(benchmark_naive.rows(32, 1, 4, "bfloat16", 1))
    assert [(row["name"], row["form"], row["precision"]) for row in rows] == [
        ("blur up", "ours", "bfloat16"), ("blur up", "naive", "bfloat16")]
    assert rows[1]["share_of_naive"] == 1 and all(benchmark_naive.line(row) for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("words, names", [
    (["scaling", "--sizes_px=32,48", "--batches=1,2"], ["cut"] * 3 + ["fit", "cut, replicas 1", "cut, replicas 2"]),
    (["translate", "--sizes_px=32,48"], [form for form in translate.FORMS for _ in range(2)]),
    (["layers"], [name for name in (*benchmark_naive.PAIRS, *benchmark_naive.CONSTRAINTS) for _ in range(2)]
     + ["convolution"] * 2 + ["deformable"] * 2),
])
def test_every_command_has_its_rows(words, names):
    small = [flag for flag in SMALL if not (words[0] == "translate" and flag.startswith("--size_px"))]
    rows = _rows(*words, *small)
    assert [row["name"] for row in rows] == names
    if words[0] == "translate":
        assert {row["traces"] for row in rows} == {1, None}
