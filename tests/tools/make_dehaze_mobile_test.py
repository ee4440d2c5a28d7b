"""The command that makes the model in the box, on a few tiny pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator
from tests import warm_process

ROOT = Path(__file__).parents[2]
_TINY = ["--constant_epochs=1", "--decay_epochs=0", "--steps_per_epoch=1", "--scenes_images=2", "--scenes_size_px=32",
         "--crop_size_px=32", "--batch_size=2", "--test_images=1", "--ngf=4", "--generator_blocks=1"]


# The README's test runs the same command; this one looks at what it wrote.
@pytest.mark.slow
def test_makes_saved_model_twins_and_card(tmp_path):
    pytest.importorskip("ai_edge_quantizer", reason="the extra mobile (ai-edge-quantizer) is not installed")
    rng = np.random.default_rng(0)
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            Image.fromarray(rng.integers(0, 200, [40, 40, 3], np.uint8)).save(tmp_path / folder / f"{number}.png")
    output = tmp_path / "models" / "dehaze"
    done = subprocess.run(
        [sys.executable, "-m", "tools.make_dehaze_mobile", f"--photographs={tmp_path / 'train'}",
         f"--val_photographs={tmp_path / 'val'}", f"--run={tmp_path / 'run'}", f"--output={output}", "--license=CC0",
         *(f"--train_flag={flag}" for flag in _TINY)],
        cwd=ROOT, text=True, capture_output=True, timeout=900, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in output.iterdir()} == {
        "1", "MODEL_CARD.md", *(f"dehaze_{form}.{suffix}" for suffix in ("tflite", "json") for form in (
            "256x256_float16", "256x256_int8", "256x256_dynamic", "any_float16"))}
    card = (output / "MODEL_CARD.md").read_text()
    assert "1 steps, method `paired`, seed 0" in card and card.rstrip().endswith("CC0")
    assert "| scenes (48) | output | " in card and "| hazed photographs (2) | input | " in card
    again = subprocess.run(
        [sys.executable, "-m", "tools.make_dehaze_mobile", "--measure_only", f"--photographs={tmp_path / 'train'}",
         f"--val_photographs={tmp_path / 'val'}", f"--output={output}"],
        cwd=ROOT, text=True, capture_output=True, timeout=900, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert again.returncode == 0, again.stderr[-3000:]
    assert "`1/` as a\nSavedModel" in card
    rows = [line for line in again.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 8 and all(f"\n{row}\n" in card for row in rows), again.stdout
    assert (output / "1" / "assets.extra" / "tf_serving_warmup_requests").is_file()
    picture = rng.integers(0, 256, [30, 50, 3], np.uint8)
    found = TFLiteTranslator(output / "dehaze_any_float16.tflite")(picture).astype(int)
    assert np.abs(found - SavedModelTranslator(output)(picture)).max() <= 2


def test_files_that_are_there_are_refused_before_the_training(tmp_path):
    there = tmp_path / "model" / "model_any_float16.tflite"
    there.parent.mkdir()
    there.write_bytes(b"earlier")
    done = warm_process.run(["-m", "tools.make_dehaze_mobile", f"--photographs={tmp_path}",
                             f"--val_photographs={tmp_path}", f"--run={tmp_path / 'run'}",
                             f"--output={tmp_path / 'model'}"], ROOT)
    assert done.returncode == 2 and f"error: --output={tmp_path / 'model'}: {there} is there already" in done.stderr
    assert there.read_bytes() == b"earlier" and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_failed_training_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tools.make_dehaze_mobile", f"--photographs={tmp_path}", f"--val_photographs={tmp_path}",
         f"--run={tmp_path / 'run'}", f"--output={tmp_path / 'model'}"],
        cwd=ROOT, text=True, capture_output=True, timeout=900, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.returncode == 2 and f"error: --run={tmp_path / 'run'}: the training failed" in done.stderr
    assert not (tmp_path / "model").exists()
