"""Writes the BUILD files from the Python files and their imports: python -m tools.update_build

A folder of the root with an `__init__.py` becomes one library per module, a folder below it one library, and every
module with `if __name__ == "__main__":` a binary as well. In `tests`, every `*_test.py` becomes a test and every other
module a library. Tests also get what their strings name: files of the root, whole folders, modules that they start.

The macros in tools/python.bzl and tests/pytest_test.bzl find the files. The text holds only what these files need. A
label is left out where another label of the same list needs it too. All tests of a folder share one list.

--check writes nothing and fails if a BUILD file is not what would be written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from tools.update_build.build_text import Call, Glob, render
from tools.update_build.source_tree import OPTIONS, ROOT_FILES, TESTS, SourceTree, is_slow, is_test

_CHECK = flags.DEFINE_bool("check", False, "write nothing; exit code 1 if a BUILD file is not up to date")

ROOT = Path(__file__).parents[2]
_PUBLIC = {"//visibility:public"}
_START = "pytest_main"
# tests/pytest_test.bzl gives these to each test.
_OF_ALL_TESTS = {f"//{TESTS}:conftest", f"//{TESTS}:{_START}"}


def _of_root(tree: SourceTree) -> Iterator[Call]:
    yield Call("package", {"default_visibility": _PUBLIC})
    yield Call("exports_files", {"": [OPTIONS]})
    for folder in tree.folders:
        if folder != TESTS:
            yield Call("alias", {"name": folder, "actual": f"//{folder}:{folder}"})
    for name, pattern in [(ROOT_FILES, "*"), *((name, f"{name}/**") for name in tree.other_folders)]:
        yield Call("filegroup", {"name": name, "srcs": Glob(pattern)})


def _of_package(tree: SourceTree, folder: PurePosixPath) -> Iterator[Call]:
    if len(folder.parts) == 1:
        yield Call("python_root", {"folders": tree.packages_below(folder), "modules": tree.modules(folder)})
        return
    programs = [file.stem for file in tree.files_of(folder) if tree.is_program(file)]
    deps, = tree.modules(folder).values()
    yield Call("python_folder", {"programs": [name for name in programs if name != "__main__"], "deps": deps})


def _of_tests(tree: SourceTree, folder: PurePosixPath) -> Iterator[Call]:
    files, modules, is_root = tree.files_of(folder), tree.modules(folder), len(folder.parts) == 1
    tests = [file for file in files if is_test(file)]
    if is_root:
        yield Call("exports_files", {"": [f"{_START}.py"]})
    yield Call("pytest_folder", {
        "data": set().union(*(tree.data(file) for file in files)),
        "folders": tree.packages_below(folder) if is_root else [],
        "modules": modules,
        "slow": [file.stem for file in tests if is_slow(tree.parsed[file])],
        "deps": tree.least(set().union(*(tree.dependencies(file) for file in tests)),
                           given=_OF_ALL_TESTS | {f"//{folder}:{name}" for name in modules})})
    if is_root:
        deps = tree.least(tree.needs[f"//{TESTS}:{TESTS}"])
        yield Call("py_library", {"name": TESTS, "testonly": True, "visibility": _PUBLIC, "deps": deps})


def build_files(root: Path = ROOT) -> dict[Path, str]:
    """The right texts of the BUILD files, by their paths.

    Raises:
      InputError: if an import leads neither to a file nor to a package of the lock, or libraries need each other.
    """
    tree = SourceTree(root)
    texts = {root / "BUILD": render(list(_of_root(tree)))}
    for folder in tree.packages:
        calls = (_of_tests if folder.parts[0] == TESTS else _of_package)(tree, folder)
        texts[root / folder / "BUILD"] = render(list(calls), str(folder))
    return texts


def out_of_date(root: Path = ROOT) -> dict[Path, str]:
    """BUILD files that are out of date, with their right text; an empty text if the file must be removed.

    Raises:
      InputError: as build_files does.
    """
    expected = build_files(root)
    folders = {path.relative_to(root).parts[0] for path in expected} - {"BUILD"}
    paths = {*expected, *(path for folder in folders for path in (root / folder).rglob("BUILD"))}
    found = {path: path.read_text(encoding="utf-8") for path in paths if path.is_file()}
    return {path: expected.get(path, "") for path in sorted(paths) if expected.get(path) != found.get(path)}


def main(argv: Sequence[str]) -> int:
    """Exit code 0, 1 if --check finds BUILD files out of date, 2 for a bad argument or import."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        changes = out_of_date(ROOT)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, text in changes.items():
        if _CHECK.value:
            print(f"{path.relative_to(ROOT)} is not up to date")
        elif text:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")
        else:
            path.unlink()
            print(f"{path.relative_to(ROOT)} removed")
    return 1 if changes and _CHECK.value else 0


if __name__ == "__main__":
    command_line.run(main)
