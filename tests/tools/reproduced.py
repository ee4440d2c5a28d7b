"""What the tests of `tools.reproduce` share."""

from __future__ import annotations

from pathlib import Path

# A suite of tiny runs.
TINY = [f"--set={item}" for item in (
    "scenes_images=4", "scenes_size_px=32", "crop_size_px=24", "batch_size=1", "ngf=4", "ndf=4", "generator_blocks=1",
    "projector_width=8", "num_patches=8", "nce_layers=0,4,8", "test_images=2")]


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and its bytes."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*") if path.is_file()}
