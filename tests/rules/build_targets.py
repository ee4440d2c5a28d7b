"""The targets of the BUILD files, read without Bazel.

BUILD and .bzl files are Starlark, and all that these use of it is Python. So they are run, with rules that only note
how they are called. Bazel itself reads them in tests/project/bazel_test.py.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
FOLDERS = ("cut_tf", "tools", "tests")
LIBRARIES = ("py_library", "py_test")
_RULES = (*LIBRARIES, "py_binary")
_OWN_RULES = ("filegroup", "alias")
_RULES_PYTHON = "@rules_python//python:defs.bzl"
_START = "//tests:pytest_main.py"
_GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}


def file_of(label: str) -> Path:
    """The path of a file's label."""
    return ROOT / label[2:].replace(":", "/").lstrip("/")


def absolute(label: str, package: str) -> str:
    """The whole of a label that is written in a package."""
    if label.startswith("@"):
        return label
    if label.startswith(":"):
        return f"//{package}{label}"
    if not label.startswith("//"):
        return f"//{package}:{label}"
    return label if ":" in label else f"{label}:{label.rpartition('/')[2]}"


def _matching(names: list[str], patterns: list[str]) -> set[str]:
    texts = ["".join(_GLOB.get(part) or re.escape(part) for part in re.findall(r"\*\*/|\*+|[^*]+", pattern))
             for pattern in patterns]
    return {name for name in names for text in texts if re.fullmatch(text, name)}


def _files_of_package(folder: Path) -> list[str]:
    """The files below a folder up to where other BUILD files are, as glob() sees them."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not (name.startswith(".") or Path(here, name, "BUILD").exists())]
        found += [Path(here, name).relative_to(folder).as_posix() for name in files]
    return sorted(found)


def _calls(folder: Path) -> list[tuple[str, dict]]:
    """The rules that a BUILD file and its macros call, by name, with their attributes."""
    calls: list[tuple[str, dict]] = []
    present = _files_of_package(folder)
    package = "" if folder == ROOT else folder.relative_to(ROOT).as_posix()

    def rule(name):
        return lambda **attributes: calls.append((name, attributes))

    def glob(include, exclude=(), allow_empty=False):
        found = sorted(_matching(present, include) - _matching(present, exclude))
        assert found or allow_empty, f"{folder}: nothing matches {include}"
        return found

    native = {"glob": glob, "package_name": lambda: package, "package": rule("package"),
              "exports_files": lambda files: calls.append(("exports_files", {"name": "", "srcs": files})),
              **{name: rule(name) for name in _OWN_RULES}}

    def run(path: Path, scope: dict) -> dict:
        def load(label, *wished):
            assert label.startswith("//") or label == _RULES_PYTHON, label
            known = {name: rule(name) for name in _RULES} if label.startswith("@") else run(
                file_of(label), {"native": SimpleNamespace(**native)})
            scope.update({name: known[name] for name in wished})

        scope["load"] = load
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), scope)
        return scope

    run(folder / "BUILD", dict(native))
    return calls


@functools.cache
def read_targets() -> dict[str, dict]:
    """Every target by its label; labels in it are absolute. Exported files are targets as well."""
    found: dict[str, dict] = {}
    for path in [ROOT / "BUILD", *(path for name in FOLDERS for path in (ROOT / name).rglob("BUILD"))]:
        package = path.parent.relative_to(ROOT).as_posix().replace(".", "")
        visibility = None
        for rule, values in _calls(path.parent):
            visibility = values.get("default_visibility", visibility)
            values = {"visibility": visibility, **values, "rule": rule}
            for name in ("srcs", "data", "deps"):
                values[name] = [absolute(label, package) for label in values.get(name, [])]
            if rule == "exports_files":
                found.update({label: {"rule": "file"} for label in values["srcs"]})
            elif rule != "package":
                values["deps"] += [absolute(values["actual"], package)] if rule == "alias" else []
                label = f"//{package}:{values['name']}"
                assert label not in found, f"two targets are called {label}"
                found[label] = values
    for test in (target for target in found.values() if target["rule"] == "py_test"):
        assert test["main"] == _START
        test["srcs"].remove(_START)
    return found
