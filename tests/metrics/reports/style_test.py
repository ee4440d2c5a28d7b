"""The table of the style distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.metrics.reports import style
from tests import warm_process


@pytest.fixture(name="pictures")
def _pictures(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 100, (40, 50, 3), dtype=np.uint8)
    paths = {}
    for name, picture in (("input", source), ("output", source + 100), ("target", source[::-1, ::-1] + 120),
                          ("small", source[:20]), ("other", source[:, :40])):
        paths[name] = tmp_path / f"{name}.png"
        Image.fromarray(np.ascontiguousarray(picture)).save(paths[name])
    return paths


def test_the_table(pictures):
    report = style.report(*(pictures[name] for name in ("input", "output", "target")))
    head, colour, *textures, luminance, edges = report.splitlines()
    assert head.split() == ["distance", "to", "the", "target", "input", "output"]
    before, after = map(float, colour.split()[-2:])
    # A grey shift by d projects to d |x + y + z| of a unit vector, sqrt(3) d / 2 in the mean: by 120 and by 20 levels.
    assert before == pytest.approx(120 * np.sqrt(3) / 2, rel=0.1)
    assert after == pytest.approx(20 * np.sqrt(3) / 2, rel=0.1)
    assert [line.split()[2] for line in textures] == ["1/1", "1/2", "1/4"]
    assert all(float(value) < 2 for line in textures[:2] for value in line.split()[-2:])
    assert 0 < float(luminance.split()[-1]) < 1 and float(edges.split()[-1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("names, message", [
    (("input", "other", "target"), "--output must have the size of --input, found 40x40 and 50x40"),
    (("input", "output", "small"), "small.png: sides must be at least 28 px, found 50x20"),
])
def test_pictures_that_cannot_be_compared_are_refused(pictures, names, message):
    with pytest.raises(InputError, match=message):
        style.report(*(pictures[name] for name in names))


def test_the_command_takes_flags_only(tmp_path):
    given = ["--input=a", "--output=b", "--target=c", "d", "e"]
    ended = warm_process.run(["-m", "tools.style_distance", *given], tmp_path)
    assert ended.returncode == 2 and "error: arguments must be flags, found d e" in ended.stderr, ended.stderr
