"""The quickstart as the README promises it: at least 2 dB with the EMA weights, for three seeds."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quickstart_gains_two_decibels(tmp_path, seed):
    start = time.time()
    result = subprocess.run(
        [sys.executable, "-m", "cut_tf.train", "--flagfile=cut_tf/flagfiles/quickstart.flags",
         f"--run={tmp_path / 'run'}", f"--seed={seed}"], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr[-3000:]
    gain = float(re.search(r"ema .* gain ([+-][\d.]+) dB", result.stdout).group(1))
    print(f"seed {seed}: {gain:+.2f} dB in {time.time() - start:.0f} s")
    assert gain >= 2.0
