"""setup.py on every Python version, and what is in the wheel and the sdist."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import cut_tf

ROOT = Path(__file__).parents[2]
NEEDED = ["cut_tf/__init__.py", "cut_tf/py.typed", "cut_tf/flagfiles/quickstart.flags", "cut_tf/methods/cut.py",
          "cut_tf/export/__main__.py"]
FOLDERS = ["cut_tf", "tools", "tests", "saved_models", "docs"]


def _setup_under(version: tuple[int, int]) -> subprocess.CompletedProcess:
    """setup.py as a Python of that version would run it, up to the call of setuptools."""
    script = (f"import setuptools, sys; sys.version_info = ({version[0]}, {version[1]}, 0, 'final', 0); "
              "setuptools.setup = lambda **arguments: print(arguments['name']); __file__ = 'setup.py'; "
              "exec(compile(open('setup.py').read(), 'setup.py', 'exec'))")
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=900)


@pytest.mark.parametrize("version", [(3, 8), (3, 14)])
def test_other_pythons_are_refused_with_advice(version):
    done = _setup_under(version)
    assert done.returncode == 1
    assert "Python 3.10 to 3.13 (pip install .)" in done.stderr
    assert "Python 3.9 to 3.11 (pip install '.[addons]')" in done.stderr
    assert f"this is Python {version[0]}.{version[1]}" in done.stderr


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 13)])
def test_supported_pythons_are_not_refused(version):
    done = _setup_under(version)
    assert (done.returncode, done.stdout) == (0, "cut_tf\n"), done.stderr


def test_the_extra_for_gpus_brings_cudas_libraries_for_the_same_tensorflow():
    script = ("import json, setuptools; setuptools.setup = lambda **arguments: print(json.dumps(arguments)); "
              "__file__ = 'setup.py'; exec(compile(open('setup.py').read(), 'setup.py', 'exec'))")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=900)
    arguments = json.loads(done.stdout)
    plain, = (text for text in arguments["install_requires"] if re.match("tensorflow[<>=]", text))
    with_cuda, = arguments["extras_require"]["gpu"]
    assert with_cuda == plain.replace("tensorflow", "tensorflow[and-cuda]")
    assert "and-cuda" in importlib.metadata.metadata("tensorflow").get_all("Provides-Extra")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with a wheel and an sdist, built from a copy without network."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
        elif path.name in FOLDERS:
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc*"))
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir",
                           str(folder / "dist"), str(source)], text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "dist"


def test_wheel_has_flagfiles_type_marker_and_nothing_else(built):
    wheel = next(built.glob("*.whl"))
    assert wheel.name == f"cut_tf-{cut_tf.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert set(NEEDED) <= set(names)
    flagfiles = {path.name for path in (ROOT / "cut_tf" / "flagfiles").glob("*.flags")}
    assert {Path(name).name for name in names if name.endswith(".flags")} == flagfiles
    models = ROOT / "saved_models"
    tracked = {path.relative_to(models).as_posix() for card in models.glob("*/MODEL_CARD.md")
               for path in card.parent.rglob("*") if path.is_file()}
    assert {name.partition("saved_models/")[2] for name in names if "saved_models/" in name} == tracked
    assert {name.split("/")[0] for name in names} == {"cut_tf", f"cut_tf-{cut_tf.__version__}.dist-info"}


def test_sdist_can_be_built_and_tested(built):
    with tarfile.open(built / f"cut_tf-{cut_tf.__version__}.tar.gz") as sdist:
        names = {name.split("/", 1)[-1] for name in sdist.getnames()}
    assert {*NEEDED, "setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
            "tests/conftest.py", "tools/live_page/page/live.js", "tools/live_page/package-lock.json",
            "tests/testdata/golden/cut_step1.npz", "tools/check_parity/__main__.py"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_runs_from_any_folder(built, tmp_path):
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target),
                    str(next(built.glob("*.whl")))], check=True, timeout=900)
    environment = {**os.environ, "PYTHONPATH": str(target), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-m", "cut_tf.train", "--flagfile=quickstart", "--dry_run"], text=True,
                          cwd=elsewhere, env=environment, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert '"scenes_images": 200' in done.stdout and list(elsewhere.iterdir()) == []
    Image.new("RGB", (64, 48), (180, 190, 200)).save(elsewhere / "photo.png")
    done = subprocess.run([sys.executable, "-m", "cut_tf.translate", "--model=dehaze_mobile", "--input=photo.png",
                           "--output=clear"], text=True, cwd=elsewhere, env=environment, capture_output=True,
                          timeout=900)
    assert done.returncode == 0, done.stderr
    assert Image.open(elsewhere / "clear" / "photo.png").size == (64, 48)


def test_the_version_stands_in_one_place():
    pattern = re.compile(rf"\b{re.escape(cut_tf.__version__)}\b")
    for name in ("setup.py", "pyproject.toml", "CITATION.cff", "MODULE.bazel", "BUILD"):
        assert not pattern.search((ROOT / name).read_text(encoding="utf-8")), name
    assert f"## {cut_tf.__version__} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
