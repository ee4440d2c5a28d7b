"""A folder of small files, on this machine and behind a URL, for which TensorFlow's `ram://` stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from cut_tf.common import places

_NAMES = ("a.jpg", "b.png", "sub/a.jpg", "sub/deep/c.jpg", "sub/.hidden.jpg", "other/d[1].jpg")


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a folder; each file in it holds its own relative name."""
    root = str(tmp_path) if request.param == "local" else f"ram://{tmp_path.name}"
    for name in _NAMES:
        places.write_bytes(places.join(root, name), name.encode())
    return root
