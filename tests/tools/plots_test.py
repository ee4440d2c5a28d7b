"""Recorded results, and the pictures that are drawn from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.settings import Settings
from tests import warm_process
from tools.plots import record
from tools.plots.results import Evaluation, Latency, Load, MethodEvaluation, Share, read_rows, to_csv
from tools.reproduce import curves

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_rows_return_from_their_file(tmp_path):
    rows = [Evaluation(0, 50, "ema", 14.25), Evaluation(1, 50, "raw", -3.0)]
    (tmp_path / "x.csv").write_text(to_csv(rows))
    assert (tmp_path / "x.csv").read_text() == "seed,step,weights,psnr_db\n0,50,ema,14.2500\n1,50,raw,-3.0000\n"
    assert read_rows(tmp_path / "x.csv", Evaluation) == rows
    labelled = [MethodEvaluation("ODCR, as printed", 0, 50, 14.25)]
    (tmp_path / "x.csv").write_text(to_csv(labelled))
    assert read_rows(tmp_path / "x.csv", MethodEvaluation) == labelled


@pytest.mark.parametrize("text, found", [
    ("", "found 0 lines after ''"), ("method,percent\nCUT,1\n", "found 1 lines after 'method,percent'"),
    ("method,precision,percent\n", "found 0 lines"), ("method,precision,percent\nCUT,float32\n", "found 'CUT,float32'"),
    ("method,precision,percent\nCUT,float32,9\nCUT,float32,x\n", "line 3 must be .* found 'CUT,float32,x'"),
    ("method,precision,percent\nCUT,float32,nan\n", "not a finite number"),
])
def test_files_of_other_contents_are_refused(tmp_path, text, found):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=rf"x\.csv: .*{found}"):
        read_rows(tmp_path / "x.csv", Share)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\.csv: must be a readable CSV file, found: .*No such file"):
        read_rows(tmp_path / "x.csv", Share)


def test_figures_show_the_numbers():
    pytest.importorskip("matplotlib", reason="the extra plots (matplotlib) is not installed")
    from tools.plots import figures

    rows = [Evaluation(seed, step, weights, 10.0 + seed + step) for seed in (0, 2) for step in (1, 2)
            for weights in ("raw", "ema")] + [Evaluation(0, 0, "input", 8.0)]
    axes = figures.psnr_over_steps(rows).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(lines["running means (EMA)"].get_xydata(), [[1, 12], [2, 13]])
    np.testing.assert_allclose(lines["hazy input"].get_ydata(), [8, 8])
    assert [(band.min(0)[1], band.max(0)[1]) for band in
            (area.get_paths()[0].vertices for area in axes.collections)] == [(11, 14)] * 2
    with pytest.raises(InputError, match="same steps"):
        figures.psnr_over_steps(rows[:-2] + rows[-1:])

    curves = [MethodEvaluation(method, seed, step, level + seed + step)
              for method, level in (("CUT", 10.0), ("ODCR", 20.0)) for seed in (0, 2) for step in (1, 2)]
    hazy = MethodEvaluation("hazy", 0, 0, 8.0)
    axes = figures.psnr_of_methods([hazy, *curves], ["CUT", "CycleGAN", "ODCR"], "a net", "2 scenes").axes[0]
    assert axes.get_title() == "Without pairs, a net: mean and range of 2 seeds"
    assert axes.get_ylabel() == "PSNR on 2 scenes, dB"
    lines = {line.get_label(): line for line in axes.lines}
    alone = figures.psnr_of_methods(curves[4:], ["CUT", "CycleGAN", "ODCR"], "a net", "2 scenes").axes[0].lines[0]
    assert alone.get_label() == "ODCR" and alone.get_color() == lines["ODCR"].get_color()
    np.testing.assert_allclose(lines["ODCR"].get_xydata(), [[1, 22], [2, 23]])
    np.testing.assert_allclose(lines["hazy"].get_ydata(), [8, 8])
    with pytest.raises(InputError, match="same steps"):
        figures.psnr_of_methods(curves[:-1], ["CUT", "ODCR"], "a net", "2 scenes")

    axes = figures.shares_of_the_ceiling([Share("a", "float32", 90), Share("a", "bfloat16", 80),
                                          Share("b", "float32", 70)]).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [90, 70, 80]
    axes = figures.latency_against_psnr([Latency("int8", 256, 5.0, 4.0, 8.0, 0.4, 40.0)]).axes[0]
    bars, dots = axes.collections
    np.testing.assert_allclose(bars.get_segments(), [[[4, 40], [8, 40]]])
    np.testing.assert_allclose(dots.get_offsets(), [[5, 40]])
    axes = figures.latency_over_parallelism([Load("64", 1, 9, 0, 5.0, 20.0, 30.0, 40.0),
                                             Load("64", 4, 9, 1, 9.0, 60.0, 80.0, 100.0),
                                             Load("mixed", 1, 9, 0, 4.0, 30.0, 50.0, 50.0)]).axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"64x64 px": [[1, 1], [4, 3]], "both sizes in turns": [[1, 1.5]]}
    assert axes.collections[0].get_paths()[0].vertices.max(0).tolist() == [4, 5]


def test_all_pictures_are_drawn_from_the_results_of_the_documentation(tmp_path):
    pytest.importorskip("matplotlib", reason="pip install '.[plots]'")
    ended = warm_process.run(["-m", "tools.plots", f"--results={RESULTS}", "--output=pictures"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name in ("quickstart_psnr", "odcr_psnr", "odcr_light_psnr", "odcr_resnet_psnr", "odcr_photographs_psnr",
                 "odcr_photographs_resnet_psnr", "phones", "ceiling", "serving"):
        with Image.open(io.BytesIO((tmp_path / "pictures" / f"{name}.png").read_bytes())) as picture:
            assert picture.size == (1050, 570) and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_the_psnr_of_a_suite_is_recorded(tmp_path):
    """By label and seed, in the order of the suite; the weights that are not averaged are left out."""
    with pytest.raises(InputError, match="--results must be an output of tools.reproduce, found no plan in"):
        curves.evaluations_of_suite(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"asked": {"suite": "dehazing"}}))
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match="--results must have finished runs, found none in"):
        curves.evaluations_of_suite(tmp_path)
    for row, seed in (("odcr", 1), ("cut", 1), ("odcr", 0), ("input", None)):
        name = row if seed is None else f"{row}_seed{seed}"
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(
            {"row": row, "seed": seed, "metrics": {"psnr": 7.0}, "machine": {}}))
        if seed is not None:
            run = tmp_path / "runs" / name
            run.mkdir(parents=True)
            (run / "settings.json").write_text(Settings.of(seed=seed).to_json())
            with tf.summary.create_file_writer(str(run / "events")).as_default():
                tf.summary.scalar("eval_raw/psnr", 3.0, 8)
                tf.summary.scalar("eval_ema/psnr", 10.0 + seed, 8)
    found = curves.evaluations_of_suite(tmp_path)
    assert [row[1:] for row in found] == [(0, 0, 7.0), (1, 8, 11.0), (0, 8, 10.0), (1, 8, 11.0)]
    assert [row.method.split()[0] for row in found] == ["hazy", "CUT", "ODCR", "ODCR"]


def test_the_psnr_of_runs_is_recorded(tmp_path):
    settings = Settings.of(dataset="scenes", scenes_images=2, scenes_size_px=32, crop_size_px=32, preprocess="crop",
                           discriminator_layers=1, test_images=2, seed=5)
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text(settings.to_json())
    with pytest.raises(InputError, match="found no PSNR in the events of"):
        record.evaluations(run)
    with tf.summary.create_file_writer(str(run / "events")).as_default():
        for step, psnr in ((10, 12.0), (20, 13.0), (20, 14.0)):
            tf.summary.scalar("eval_ema/psnr", psnr, step)
            tf.summary.scalar("loss/generator", 1.0, step)
    (path,) = (run / "events").iterdir()
    with path.open("ab") as file:
        file.write(b"half a record of a process that was killed")
    hazy, *outputs = record.evaluations(run)
    assert outputs == [Evaluation(5, 10, "ema", 12.0), Evaluation(5, 20, "ema", 14.0)]
    assert hazy[:3] == (5, 0, "input") and 5 < hazy.psnr_db < 20
    with pytest.raises(InputError, match="--runs must be folders of runs, found no settings.json in"):
        record.evaluations(tmp_path)


@pytest.mark.parametrize("output", ["file", "file/sub"])
def test_an_output_that_is_no_folder_is_refused_before_anything_is_drawn(tmp_path, output):
    (tmp_path / "file").write_text("mine")
    ended = warm_process.run(["-m", "tools.plots", f"--results={RESULTS}", f"--output={output}"], tmp_path)
    assert ended.returncode == 2 and f"error: --output={output} must be a folder" in ended.stderr, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
