"""The examples of docs/architecture.md, run as they are written there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import warm_process

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
TINY = ["--run=run", "--steps_per_epoch=2", "--constant_epochs=1", "--decay_epochs=0", "--ngf=4", "--ndf=4",
        "--discriminator_layers=1", "--preprocess=crop", "--crop_size_px=32", "--batch_size=2"]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(code, encoding="utf-8")
    return folder


def _run(folder: Path, modules: str, main: str, *arguments: str) -> str:
    code = f"import sys\nsys.path.insert(0, '')\nimport {modules}\nfrom {main} import run\nrun()"
    done = warm_process.run(["-c", code, *arguments], folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_every_example_is_a_file(folder):
    assert {path.stem for path in folder.glob("*.py")} == {"brightness", "colour_curve", "stripes", "mae", "npz"}
    assert len(re.findall("```python", PAGE)) == 5


def test_the_toy_method_is_short():
    (code,) = re.findall(r"```python\n(# brightness\.py\n.*?)```", PAGE, re.DOTALL)
    assert code.count("\n") <= 40


def test_method_generator_and_dataset_train_and_the_format_exports(folder):
    printed = _run(folder, "brightness, colour_curve, stripes", "cut_tf.train", "--method=brightness",
                   "--generator=colour_curve", "--dataset=stripes:40", *TINY)
    assert "step 2 of 2" in printed and "--dataset=stripes:40" in printed
    exported = _run(folder, "brightness, colour_curve, stripes, npz", "cut_tf.export.__main__", "--run=run",
                    "--format=npz", "--output=weights")
    assert "written: weights/weights.npz" in exported
    with np.load(folder / "weights" / "weights.npz") as weights:
        assert {name: weights[name].shape for name in weights} == {
            "features/kernel": (1, 1, 3, 4), "features/bias": (4,), "colours/kernel": (1, 1, 4, 3),
            "colours/bias": (3,)}


def test_the_metric_is_in_the_report(folder):
    for name, level in (("one", 10), ("other", 17)):
        (folder / name).mkdir()
        Image.new("RGB", (16, 16), (level, level, level)).save(folder / name / "a.png")
    table = _run(folder, "mae", "cut_tf.evaluate", "--pred=one", "--target=other")
    assert re.search(r"^MAE +7\.00 ", table, re.MULTILINE)
