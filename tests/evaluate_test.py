"""The evaluation main: outputs and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from absl.testing import flagsaver

from cut_tf import evaluate
from cut_tf.data.image_files import write_png

_ROOT = Path(__file__).parents[1]


@pytest.fixture(name="folders")
def _folders(tmp_path) -> tuple[Path, Path]:
    """One pair whose mean squared difference is 255^2 / 100, so its PSNR is 20 dB."""
    for name, level in (("pred", 100), ("target", 100 + 51)):
        (tmp_path / name).mkdir()
        image = np.full((12, 16, 3), 100, np.uint8)
        image[:, :4] = level
        write_png(tmp_path / name / "a.png", image)
    return tmp_path / "pred", tmp_path / "target"


def test_as_a_program(folders, tmp_path):
    pred, target = folders
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "cut_tf.evaluate", f"--pred={pred}/", f"--target={target}"],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["PSNR", "dB", "20.000", "0.000", "1", "higher"]
    assert done.stdout.splitlines()[4].split() == ["MSE", "650.2", "0.0", "1", "lower"]
    assert f"Pillow {PIL.__version__}" in done.stdout and "no crop" in done.stdout
    assert json.loads((tmp_path / "pred.metrics.json").read_text())["psnr"]["mean"] == pytest.approx(20, abs=1e-4)
    assert (tmp_path / "pred.metrics.csv").read_text().startswith(
        "name,width,height,psnr,ssim,ciede2000,mse\na.png,16,12,20.0")
    assert sorted(os.listdir(tmp_path)) == ["pred", "pred.metrics.csv", "pred.metrics.json", "target"]


def _main(capsys, *arguments: str, **values: str) -> tuple[int, str]:
    """Exit code and stderr of the main with these flags."""
    given = {"pred": "", "target": "", "input": "", "csv": "", "json": "", **values}
    for name in given:
        given[name] = str(given[name])
    given["target_border_px"] = int(values.get("target_border_px", 0))
    if not evaluate.flags.FLAGS.is_parsed():
        evaluate.flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given):
        code = evaluate.main(["evaluate", *arguments])
    return code, capsys.readouterr().err


def test_own_output_names(folders, tmp_path, capsys):
    pred, target = folders
    assert _main(capsys, pred=pred, target=target, csv=tmp_path / "x.csv", json=tmp_path / "y.json") == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["pred", "target", "x.csv", "y.json"]


def test_inputs_instead_of_targets_and_beside_them(folders, tmp_path, capsys):
    pred, other = folders
    for values, first in (({"input": other}, "dark_channel_input"), ({"input": other, "target": other}, "psnr")):
        assert _main(capsys, pred=pred, csv=tmp_path / "x.csv", json=tmp_path / "y.json", **values) == (0, "")
        header = (tmp_path / "x.csv").read_text().splitlines()[0]
        assert header.startswith(f"name,width,height,{first},") and header.endswith(",colourfulness_output")
        gain = json.loads((tmp_path / "y.json").read_text())["contrast_gain"]
        assert gain == {"mean": 0.0, "std": 0.0, "count": 1}  # the prediction is flat, the other picture is not


def test_a_border_of_the_targets(folders, tmp_path, capsys):
    pred, target = folders
    write_png(target / "a.png", np.full((14, 18, 3), 100, np.uint8))
    assert _main(capsys, pred=pred, target=target, target_border_px="1") == (0, "")
    code, message = _main(capsys, pred=pred, target=target)
    assert code == 2 and "must have the size of its target, found a.png 16x12 with a.png 18x14" in message


def test_bad_input_is_told_in_one_line(folders, tmp_path, capsys):
    pred, _ = folders
    code, message = _main(capsys, pred=pred, target=tmp_path / "nowhere")
    assert code == 2 and message.startswith(f"error: {tmp_path / 'nowhere'}: must be a folder with images")
    assert message.count("\n") == 1 and message.endswith("found no such folder\n")
    assert _main(capsys, pred=pred) == (2, "error: --target or --input must be a folder, found neither\n")
    assert _main(capsys) == (2, "error: --pred must be a folder, found ''\n")
    assert _main(capsys, "left", "over", pred=pred)[1] == "error: everything must be given as a flag, found left over\n"
