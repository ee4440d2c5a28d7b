"""The quickstart as the docs promise it: at least 5 dB and 0.1 of SSIM with the EMA weights, for three seeds."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quickstart_gains_five_decibels_and_keeps_textures(tmp_path, seed):
    start = time.time()
    result = subprocess.run(
        [sys.executable, "-m", "cut_tf.train", "--flagfile=cut_tf/flagfiles/quickstart.flags",
         f"--run={tmp_path / 'run'}", f"--seed={seed}"], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr[-3000:]
    gain = float(re.search(r"ema .* gain ([+-][\d.]+) dB", result.stdout).group(1))
    before, after = (float(re.search(rf"{name} .* SSIM ([\d.]+)", result.stdout).group(1)) for name in ("input", "ema"))
    print(f"seed {seed}: {gain:+.2f} dB, SSIM {before:.3f} to {after:.3f} in {time.time() - start:.0f} s")
    assert gain >= 5.0 and after >= before + 0.1
