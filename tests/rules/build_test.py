"""The BUILD files declare what is there: every file once, a way to every import, no label that leads nowhere.

Looks at the targets on its own, not as tools/update_build writes them.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.rules.build_targets import FOLDERS, LIBRARIES, ROOT, absolute, file_of, read_targets

LOCK = ROOT / "requirements_lock.txt"
PYTHON = re.search(r"--python-version (\S+)", LOCK.read_text())[1]
PUBLIC = ["//visibility:public"]
OPTIONS = "//:pyproject.toml"
OTHER_FOLDERS = ("docs", "saved_models")
# Imported only beside TensorFlow 2.15, which is not that of the lock, or with extras that the lock leaves out.
NOT_LOCKED = {"tensorflow_addons", "apache_beam", "gradio", "selenium", "starlette", "brisque", "cv2"}


def _normalised(name: str) -> str:
    return re.sub(r"[-.]", "_", name.lower())


@functools.cache
def _label(path: Path) -> str:
    """Of a file: that of the next folder above that has a BUILD file."""
    package = next(folder for folder in path.parents if (folder / "BUILD").is_file())
    return f"//{package.relative_to(ROOT).as_posix()}:{path.relative_to(package).as_posix()}"


@functools.cache
def _locked() -> dict[str, str]:
    """Versions of the packages of the lock that are for its Python, here."""
    python = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
    lines = [Requirement(line.rstrip(" \\")) for line in LOCK.read_text().splitlines() if re.match(r"\w.*==", line)]
    return {_normalised(line.name): str(line.specifier)[2:] for line in lines
            if line.marker is None or line.marker.evaluate(python)}


@functools.cache
def _installed() -> dict[str, set[str]]:
    """Distributions by the names that they make importable."""
    found: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = _normalised(distribution.metadata["Name"])
        for line in (distribution.read_text("RECORD") or "").splitlines():
            found.setdefault(re.split("[/.,]", line)[0], set()).add(name)
    return found


@functools.cache
def _module_file(name: str, importer: Path) -> Path | None:
    """The file of this repository that a dotted name, or the longest part of it, leads to."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for base in (ROOT, importer.parent) if importer.is_relative_to(ROOT / "tests") else (ROOT,):
            path = base.joinpath(*parts[:length])
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if candidate.is_file() and (base != ROOT or parts[0] in FOLDERS):
                    return candidate
    return None


@functools.cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports are not looked at"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


@functools.cache
def _texts_and_slow(path: Path) -> tuple[set[str], bool]:
    """The strings in a test file, and whether all its tests are marked as slow."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    tests = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    slow = [any(ast.unparse(mark) == "pytest.mark.slow" for mark in test.decorator_list) for test in tests]
    return texts, bool(slow) and all(slow)


@functools.cache
def _optional(path: Path) -> set[str]:
    """Modules without which a test is skipped."""
    return NOT_LOCKED | (set(re.findall(r'importorskip\("(\w+)', path.read_text(encoding="utf-8"))) - set(_locked()))


@functools.cache
def _groups() -> dict[str, str]:
    """Labels of the groups of files, by what tests name."""
    return {**{path.name: "//:root_files" for path in ROOT.iterdir() if path.is_file()}, "pyproject.toml": OPTIONS,
            **{name: f"//:{name}" for name in OTHER_FOLDERS}, **{name: f"//{name}:all_files" for name in FOLDERS}}


def _reachable(label: str, targets: dict[str, dict]) -> set[str]:
    seen, left = set(), [label]
    while left:
        current = left.pop()
        if current not in seen:
            seen.add(current)
            left += targets.get(current, {}).get("deps", [])
    return seen


def _missing_dependencies(label: str, targets: dict[str, dict]) -> Iterator[str]:
    """What the sources of a target import, and it does not reach."""
    homes = {source: home for home, target in targets.items() if target["rule"] in LIBRARIES
             for source in target["srcs"]}
    reached = _reachable(label, targets)
    for source in targets[label]["srcs"]:
        path = file_of(source)
        for name in _imports(path):
            top = name.split(".")[0]
            file = _module_file(name, path)
            if file is not None:
                home = homes.get(_label(file), _label(file))
                # The package loads names when they are used. Only the whole of it has them all.
                if home == f"//{top}:package" and not path.is_relative_to(ROOT / top):
                    home = f"//{top}:{top}"
                if home not in reached:
                    yield f"{label}: {source} imports {name}, so it needs {home}"
            elif top in _optional(path):
                continue
            elif top in _installed():
                if not reached & {f"@pypi//{package}" for package in _installed()[top]}:
                    yield f"{label}: {source} imports {name}, so it needs one of {sorted(_installed()[top])}"
            elif importlib.util.find_spec(top) is None:
                yield f"{label}: {source} imports {name}, which is not there"


def _unreachable_packages(label: str, targets: dict[str, dict]) -> Iterator[str]:
    """What runs before a module is imported, or before a test: __init__.py and conftest.py above it."""
    reached = {source for each in _reachable(label, targets) for source in targets.get(each, {}).get("srcs", [])}
    for source in targets[label]["srcs"]:
        folders = [folder for folder in file_of(source).parents if folder.is_relative_to(ROOT) and folder != ROOT]
        names = ["__init__.py", *(["conftest.py"] if targets[label]["rule"] == "py_test" else [])]
        for path in (folder / name for folder in folders for name in names):
            if path.is_file() and _label(path) not in reached:
                yield f"{label} does not reach {path.relative_to(ROOT)}"


def _wrong_test(label: str, target: dict) -> Iterator[str]:
    """Files that a test names and does not get, and whether it is run by default."""
    for source in target["srcs"]:
        texts, slow = _texts_and_slow(file_of(source))
        for text in sorted(texts & set(_groups())):
            if _groups()[text] not in target["data"]:
                yield f"{label} names {text}, so it needs {_groups()[text]} as data"
        if target["args"][:2] != ["-m", "slow" if slow else "'not slow'"] or target["tags"] != ["manual"] * slow:
            yield f"{label} must be manual if all its tests are slow, and only then"


def _wrong_sources(targets: dict[str, dict]) -> Iterator[str]:
    # Bazel puts an environment and a start beside a test that it runs.
    present = {_label(path) for name in FOLDERS for path in (ROOT / name).rglob("*.py")
               if not re.search(r"_stage2_bootstrap\.py$|/_[^/]*\.venv/", path.as_posix())}
    listed = [source for target in targets.values() if target["rule"] in LIBRARIES for source in target["srcs"]]
    yield from (f"{source} is in no library" for source in sorted(present - set(listed)))
    yield from (f"{source} is in several libraries" for source in sorted(set(listed)) if listed.count(source) > 1)
    tests = {source for target in targets.values() if target["rule"] == "py_test" for source in target["srcs"]}
    yield from (f"{source} is a test or is declared as one, not both" for source in sorted(
        tests ^ {source for source in present if source.endswith("_test.py")}))
    mains = {_label(path) for name in ("cut_tf", "tools") for path in (ROOT / name).rglob("*.py")
             if "\nif __name__ ==" in path.read_text(encoding="utf-8")}
    binaries = {absolute(target["main"], label[2:].partition(":")[0]): target for label, target in targets.items()
                if target["rule"] == "py_binary"}
    yield from (f"{main} is a program or is declared as one, not both" for main in sorted(mains ^ set(binaries)))
    for main, target in binaries.items():
        if not any(main in targets.get(dep, {}).get("srcs", []) for dep in target["deps"]):
            yield f"{main}: the binary does not depend on the library that can be imported"


def _problems(targets: dict[str, dict]) -> list[str]:
    """All that is wrong with the BUILD files, in words."""
    found, locked = list(_wrong_sources(targets)), _locked()
    for label, target in targets.items():
        for other in [other for name in ("srcs", "data", "deps") for other in target.get(name, [])]:
            if other.startswith("@pypi//"):
                exists = other.rpartition("/")[2] in locked
            else:
                # A file of another package must be exported.
                exists = other in targets or (
                    file_of(other).is_file() and other.startswith(label.partition(":")[0] + ":"))
            found += [] if exists else [f"{label}: there is no {other}"]
        if label in {dep for own in target.get("deps", []) for dep in _reachable(own, targets)}:
            found.append(f"{label} depends on itself")
        if target["rule"] != "file" and (target["visibility"] != PUBLIC or (
                label.startswith("//tests") and not target.get("testonly", target["rule"] == "py_test"))):
            found.append(f"{label} must be public, and only for tests if it is below //tests")
        if target["rule"] in LIBRARIES:
            found += [*_missing_dependencies(label, targets), *_unreachable_packages(label, targets)]
        if target["rule"] == "py_test":
            found += _wrong_test(label, target)
    return found


def test_build_files_declare_what_is_there():
    assert _problems(read_targets()) == []


@pytest.mark.parametrize("attribute, label, value, problem", [
    ("deps", "//cut_tf:compat", "@pypi//numpy", "imports numpy"),
    ("deps", "//cut_tf/translators:translators", "//cut_tf/networks:networks", "needs //cut_tf/networks:networks"),
    ("data", "//tests/project:bazel_test", "//:root_files", "names requirements_lock.txt, so it needs //:root_files"),
    ("data", "//tests:command_line_test", "//tools:all_files", "names tools, so it needs //tools:all_files"),
    ("tags", "//tests/project:bazel_test", "manual", "//tests/project:bazel_test must be manual"),
    ("visibility", "//cut_tf:compat", "//visibility:public", "//cut_tf:compat must be public"),
    ("deps", "//cut_tf:compat", "//cut_tf:package", "//cut_tf:compat does not reach cut_tf/__init__.py"),
    ("deps", "//tests/methods:cut_test", "//tests/methods:conftest", "does not reach tests/methods/conftest.py"),
    ("deps", "//cut_tf:train", "//cut_tf:train_lib", "does not depend on the library"),
    ("deps", "//tests/methods:cut_test", "//tests/methods:method_steps", "imports method_steps"),
    ("srcs", "//cut_tf:devices", "//cut_tf:devices.py", "//cut_tf:devices.py is in no library"),
    ("srcs", "//tests:flags_test", "//tests:flags_test.py", "//tests:flags_test.py is a test or is declared"),
], ids=str)
def test_what_is_missing_is_found(attribute, label, value, problem):
    targets = copy.deepcopy(read_targets())
    targets[label][attribute].remove(value)
    found = _problems(targets)
    assert any(problem in each for each in found), found


def test_every_dependency_of_a_library_is_needed():
    targets = read_targets()
    libraries = {label: target for label, target in targets.items() if target["rule"] == "py_library"
                 and target["srcs"] and not label.startswith("//tests")}
    assert len(libraries) > 40
    for label, target in libraries.items():
        # TensorFlow and TensorFlow Datasets import these two without asking for them.
        for dep in set(target["deps"]) - {"@pypi//tensorboard", "@pypi//importlib_resources"}:
            less = {**targets, label: {**target, "deps": [other for other in target["deps"] if other != dep]}}
            assert [*_missing_dependencies(label, less), *_unreachable_packages(label, less)], f"{label} without {dep}"


@pytest.mark.parametrize("attribute, label, value, problem", [
    ("deps", "//cut_tf:compat", "@pypi//nothing", "there is no @pypi//nothing"),
    ("deps", "//cut_tf:compat", "//cut_tf:nothing", "there is no //cut_tf:nothing"),
    ("data", "//tests:flags_test", "//:.gitignore", "there is no //:.gitignore"),
    ("deps", "//cut_tf:compat", "//cut_tf/networks:networks", "//cut_tf:compat depends on itself"),
    ("srcs", "//cut_tf:compat", "//cut_tf:devices.py", "//cut_tf:devices.py is in several libraries"),
], ids=str)
def test_what_is_too_much_is_found(attribute, label, value, problem):
    targets = copy.deepcopy(read_targets())
    targets[label][attribute].append(value)
    found = _problems(targets)
    assert any(problem in each for each in found), found


def _required() -> list[Requirement]:
    """What setup.py asks for, on the Python of the lock, for running and testing."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    names = {node.targets[0].id: node.value for node in tree.body
             if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    call = next(node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
                and ast.unparse(node.value.func) == "setup")
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = {key.value: value for key, value in zip(arguments["extras_require"].keys,
                                                     arguments["extras_require"].values)}
    texts = []
    for value in (*arguments["install_requires"].elts, *extras["test"].elts):
        texts += ast.literal_eval(names[value.value.id]) if isinstance(value, ast.Starred) else [value.value]
    requirements = [Requirement(text) for text in texts]
    return [each for each in requirements if each.marker is None or each.marker.evaluate({"python_version": PYTHON})]


def test_the_lock_has_what_setup_asks_for():
    requirements = _required()
    assert len(requirements) > 10
    for requirement in requirements:
        assert requirement.specifier.contains(_locked()[_normalised(requirement.name)]), requirement


def test_the_lock_has_hashes_and_no_address():
    text = LOCK.read_text()
    entries = re.split(r"^(?=\w.*==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= len(_locked()) > 30
    for entry in entries:
        assert "--hash=sha256:" in entry, entry
    for line in text.splitlines():
        assert line.startswith("#") or not re.search("://|^-", line), line


def test_the_module_uses_the_lock_on_its_python():
    calls = [node.value for node in ast.parse((ROOT / "MODULE.bazel").read_text(encoding="utf-8")).body
             if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    arguments = {ast.unparse(call.func): {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                 for call in calls}
    assert arguments["pip.parse"] == {"hub_name": "pypi", "python_version": PYTHON,
                                      "requirements_lock": "//:requirements_lock.txt"}
    assert arguments["python.toolchain"]["python_version"] == PYTHON
    assert "version" not in arguments["module"], "the version is in cut_tf/__init__.py alone"
