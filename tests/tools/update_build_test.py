"""BUILD files of a made-up tree, and those of this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cut_tf.common.errors import InputError
from tools.update_build import __main__ as update_build

ROOT = Path(__file__).parents[2]
# The BUILD files of this repository are about all files in these.
FOLDERS = ("cut_tf", "tools", "tests")
FILES = {
    "requirements_lock.txt": "numpy==2.0.0 \\\n    --hash=sha256:00\npillow==11.0.0\nabsl-py==2.1.0\npytest==8.0.0\n",
    "guide.txt": "",
    "docs/guide.md": "",
    "animals/__init__.py": "",
    "animals/names.txt": "",
    "animals/sounds/loud.txt": "",
    "animals/bird.py": "from animals import fish\nimport PIL.Image\n",
    "animals/fish.py": "import os\n\n\ndef swim():\n    import numpy as np\n    return np\n",
    "animals/feed.py": 'from absl import app\nfrom animals.zoo import gate\nif __name__ == "__main__":\n    gate\n',
    "animals/zoo/__init__.py": "",
    "animals/zoo/gate.py": "from animals.fish import swim\nimport tensorflow_addons\n",
    "animals/zoo/__main__.py": 'from . import gate\nif __name__ == "__main__":\n    gate\n',
    "animals/zoo/keeper.py": 'if __name__ == "__main__":\n    pass\n',
    "tests/conftest.py": "import pytest\n",
    "tests/zoo/helpers.py": "import numpy\npytest.importorskip('wool.soft')\npytest.importorskip('PIL')\nimport wool\n",
    "tests/zoo/samples/food.csv": "",
    "tests/zoo/gate_test.py": "import animals, helpers\nfrom animals import fish\npytest.importorskip('animals.zoo')\n",
    "tests/zoo/feed_test.py": "import pytest\n@pytest.mark.slow\ndef test_it():\n    'animals.feed', 'guide.txt'\n",
}
ROOT_BUILD = '''# Written by python -m tools.update_build.

package(default_visibility = ["//visibility:public"])

exports_files(["pyproject.toml"])

alias(
    name = "animals",
    actual = "//animals",
)

filegroup(
    name = "root_files",
    srcs = glob(["*"]),
)

filegroup(
    name = "docs",
    srcs = glob(["docs/**"]),
)
'''
# animals/feed.py: zoo brings :fish and :package along. bird.py: fish brings numpy.
ANIMALS_BUILD = '''# Written by python -m tools.update_build.

load("//tools:python.bzl", "python_root")

python_root(
    folders = ["zoo"],
    modules = {
        "bird": [
            ":fish",
            "@pypi//pillow",
        ],
        "feed_lib": [
            "//animals/zoo",
            "@pypi//absl_py",
        ],
        "fish": [
            ":package",
            "@pypi//numpy",
        ],
        "package": [],
    },
)
'''
ZOO_BUILD = '''# Written by python -m tools.update_build.

load("//tools:python.bzl", "python_folder")

python_folder(
    programs = ["keeper"],
    deps = ["//animals:fish"],
)
'''
TESTS_BUILD = '''# Written by python -m tools.update_build.

load("@rules_python//python:defs.bzl", "py_library")
load("//tests:pytest_test.bzl", "pytest_folder")

exports_files(["pytest_main.py"])

pytest_folder(
    folders = ["zoo"],
    modules = {
        "conftest": ["@pypi//pytest"],
    },
)

py_library(
    name = "tests",
    testonly = True,
    visibility = ["//visibility:public"],
    deps = [
        ":conftest",
        "//tests/zoo:helpers",
    ],
)
'''
ZOO_TESTS_BUILD = '''# Written by python -m tools.update_build.

load("//tests:pytest_test.bzl", "pytest_folder")

pytest_folder(
    data = ["//:root_files"],
    modules = {
        "helpers": [
            "@pypi//numpy",
            "@pypi//pillow",
        ],
    },
    slow = ["feed_test"],
    deps = ["//animals"],
)
'''


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _write(tree: Path) -> None:
    for path, text in update_build.build_files(tree).items():
        path.write_text(text)


def test_build_files_are_those_recorded(tree):
    _write(tree)
    assert (tree / "BUILD").read_text() == ROOT_BUILD
    assert (tree / "animals/BUILD").read_text() == ANIMALS_BUILD
    assert (tree / "animals/zoo/BUILD").read_text() == ZOO_BUILD
    assert (tree / "tests/BUILD").read_text() == TESTS_BUILD
    assert (tree / "tests/zoo/BUILD").read_text() == ZOO_TESTS_BUILD
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("BUILD")) == [
        "BUILD", "animals/BUILD", "animals/zoo/BUILD", "tests/BUILD", "tests/zoo/BUILD"]


def test_tests_get_the_groups_of_files_that_they_name(tree):
    (tree / "tests/zoo/feed_test.py").write_text("'docs', 'pyproject.toml', 'animals'\n")
    (tree / "pyproject.toml").touch()  # every test has it
    _write(tree)
    assert '    data = [\n        "//:docs",\n        "//animals:all_files",\n    ],\n' in (
        tree / "tests/zoo/BUILD").read_text()
    (tree / "tests/zoo/feed_test.py").write_text("'tests'\n")
    _write(tree)
    text = (tree / "tests/zoo/BUILD").read_text()
    for label in ("//:docs", "//:root_files", "//tests:all_files", "//tests"):
        assert f'"{label}"' in text, "who reads the tests reads what they name"


def test_libraries_in_a_circle_are_refused(tree):
    (tree / "animals/fish.py").write_text("import animals.bird\n")
    with pytest.raises(InputError, match="need each other, found //animals:fish -> //animals:bird -> //animals:fish"):
        update_build.build_files(tree)


def test_only_changes_are_out_of_date(tree):
    _write(tree)
    assert update_build.out_of_date(tree) == {}
    (tree / "animals/fish.py").write_text("import absl\n")
    assert list(update_build.out_of_date(tree)) == [tree / "animals/BUILD"]
    _write(tree)
    assert '        "fish": [\n            ":package",\n            "@pypi//absl_py",\n        ],\n' in (
        tree / "animals/BUILD").read_text()


def test_a_build_file_without_python_files_must_go(tree):
    _write(tree)
    (tree / "animals/sounds/BUILD").write_text("")
    assert update_build.out_of_date(tree) == {tree / "animals/sounds/BUILD": ""}


def test_an_import_of_nothing_known_is_refused(tree):
    (tree / "animals/bird.py").write_text("import feathers.soft\n")
    with pytest.raises(InputError, match=r"found feathers\.soft in animals/bird\.py"):
        update_build.build_files(tree)


def test_build_files_of_this_repository_are_up_to_date():
    done = subprocess.run([sys.executable, "-m", "tools.update_build", "--check"], cwd=ROOT, text=True,
                          capture_output=True, timeout=900)
    assert done.returncode == 0, f"run python -m tools.update_build\n{done.stdout}{done.stderr}"


def test_what_bazel_puts_beside_a_test_changes_nothing(tree):
    _write(tree)
    for name in ("gate_test", "gate_test_stage2_bootstrap.py", "_gate_test.venv/lib/site.py", "_gate_test.venv/bin/x"):
        path = tree / "tests" / "zoo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert update_build.out_of_date(tree) == {}


@pytest.fixture
def run(tree, monkeypatch, capsys):
    """run(check) -> (exit code, what was printed), for the made-up tree."""
    monkeypatch.setattr(update_build, "ROOT", tree)

    def run(check: bool = False) -> tuple[int, str]:
        monkeypatch.setattr(update_build, "_CHECK", SimpleNamespace(value=check))
        return update_build.main(["update_build"]), capsys.readouterr().out

    return run


def test_check_names_what_is_out_of_date_and_writes_nothing(tree, run):
    assert run() == (0, "BUILD written\nanimals/BUILD written\nanimals/zoo/BUILD written\ntests/BUILD written\n"
                        "tests/zoo/BUILD written\n")
    assert run(check=True) == (0, "")
    (tree / "animals/sounds/BUILD").write_text("")
    (tree / "animals/zoo/BUILD").write_text("")
    assert run(check=True) == (1, "animals/sounds/BUILD is not up to date\nanimals/zoo/BUILD is not up to date\n")
    assert (tree / "animals/zoo/BUILD").read_text() == ""
    assert run() == (0, "animals/sounds/BUILD removed\nanimals/zoo/BUILD written\n")
    assert not (tree / "animals/sounds/BUILD").exists() and run(check=True) == (0, "")
