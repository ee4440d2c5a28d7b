"""Recomputes recorded numbers of the official PyTorch code with our networks, losses and training step.

    python -m tools.check_parity --vectors=DIR

Every .npz file of DIR gets one row: largest absolute and relative error, tolerance, and ok, FAIL or not built.
Relative errors are relative to the array's largest magnitude. Exit code 1 if a row fails or DIR has no vectors.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from cut_tf import command_line

_VECTORS = flags.DEFINE_string("vectors", None, "folder of .npz files", required=True)


def main(_: list[str]) -> None:
    folder = Path(_VECTORS.value)
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        sys.exit(f"error: --vectors must be a folder with .npz files, found none in {folder}")
    command_line.start_tensorflow()
    from cut_tf import devices
    from tools.check_parity import checks

    devices.set_up(tf32=False)
    print(f"{'file':34s} {'n':>5s} {'abs error':>10s} {'rel error':>10s}  tolerance                      status")
    rows = []
    for path in paths:
        rows.append(checks.check_file(path))
        print(rows[-1].line(), flush=True)
    sys.exit(any(row.status == "FAIL" for row in rows))


if __name__ == "__main__":
    command_line.run(main)
