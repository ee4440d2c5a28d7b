"""Bazel loads, builds and tests the repository where neither its registry nor PyPI is reached.

For a Bazel that reads WORKSPACE, as Debian's bazel-bootstrap does: rules_python becomes Bazel's own rules, the packages
of the lock become empty libraries, and tests run on the Python of this test. A newer one reads MODULE.bazel and has all
it needs where there is a network: bazel test //tests/...
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("cut_tf", "tools", "tests", "docs", "saved_models")
FIRST_WITH_MODULES = 7
TIMEOUT_SEC = 900
RULES = {
    "rules_python/python": ("py_binary", "py_library", "py_test"),
    "rules_cc/cc": ("cc_binary", "cc_library", "cc_test", "cc_toolchain", "cc_toolchain_suite"),
    "rules_java/java": ("java_binary", "java_import", "java_library", "java_runtime", "java_toolchain"),
}
TOOLCHAIN = """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(name = "runtime", interpreter_path = "{python}", python_version = "PY3")
py_runtime_pair(name = "pair", py3_runtime = ":runtime")
toolchain(name = "toolchain", toolchain = ":pair", toolchain_type = "@bazel_tools//tools/python:toolchain_type")
"""
TOOLCHAIN_FLAG = "--extra_toolchains=@rules_python//:toolchain"
LIBRARY = 'py_library(name = "{name}", visibility = ["//visibility:public"])\n'


def _write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_repositories(folder: Path) -> list[str]:
    """Stand-ins for all repositories that would be downloaded; returns the flags that put them in place."""
    for path, rules in RULES.items():
        _write(folder / path / "defs.bzl", "".join(f"{rule} = native.{rule}\n" for rule in rules))
        _write(folder / path / "BUILD")
    _write(folder / "rules_python" / "BUILD", TOOLCHAIN.format(python=sys.executable))
    _write(folder / "remote_coverage_tools" / "BUILD", LIBRARY.format(name="coverage_report_generator"))
    for name in re.findall(r"^([\w.-]+).*==", (ROOT / "requirements_lock.txt").read_text(), re.MULTILINE):
        name = re.sub(r"[-.]", "_", name.lower())
        _write(folder / "pypi" / name / "BUILD", LIBRARY.format(name=name))
    repositories = sorted(folder.iterdir())
    for repository in repositories:
        _write(repository / "WORKSPACE")
    return [f"--override_repository={repository.name}={repository}" for repository in repositories]


@pytest.fixture(scope="module")
def bazel(tmp_path_factory):
    """bazel(command, *arguments) -> what it printed, in a copy of the repository."""
    if shutil.which("bazel") is None:
        pytest.skip("no bazel on the PATH (Debian: apt-get install bazel-bootstrap)")
    version = subprocess.run(["bazel", "--version"], cwd=tmp_path_factory.mktemp("empty"), text=True,
                             capture_output=True, timeout=TIMEOUT_SEC).stdout.strip()
    major = re.match(r"bazel (\d+)\.", version)
    if major and int(major[1]) >= FIRST_WITH_MODULES:
        pytest.skip(f"{version} reads MODULE.bazel; where there is a network, run: bazel test //tests/...")
    folder = tmp_path_factory.mktemp("bazel")
    clone = folder / "clone"
    clone.mkdir()
    _write(clone / "WORKSPACE", 'workspace(name = "cut_tf")\n')
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, clone)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc*"))
    overrides = _write_repositories(folder / "repositories")

    def run(command: str, *arguments: str) -> str:
        done = subprocess.run(
            ["bazel", f"--output_user_root={folder / 'output'}", "--batch", command,
             *overrides, *([] if command == "query" else [TOOLCHAIN_FLAG]), *arguments],
            cwd=clone, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_SEC)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    return run


@pytest.mark.slow
def test_every_label_leads_somewhere(bazel):
    found = bazel("query", "deps(//...)", "--output=label")
    for label in ("//cut_tf:train", "//tests/project:readme_test", "@pypi//tensorflow:tensorflow"):
        assert label in found.splitlines()


@pytest.mark.slow
def test_everything_builds(bazel):
    assert "Build completed successfully" in bazel("build", "//...")


@pytest.mark.slow
def test_tests_run(bazel):
    printed = bazel("test", "//tests/common/...", "//tests/layers/...", "//tests/losses/...", "//tests/rules/...",
                    "//tests/tools:update_build_test", "--local_test_jobs=1")
    assert re.search(r"Executed \d+ out of \d+ tests: \d+ tests pass\.", printed), printed[-5000:]
