"""A folder of clear photographs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# For clear_photographs.py, which tests of this folder share.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Folder of nine clear photographs."""
    from clear_photographs import save_photographs

    return save_photographs(tmp_path / "clear")
