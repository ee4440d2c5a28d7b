"""Writes the BUILD files from the Python files and their imports: python -m tools.update_build

A folder of the root with an `__init__.py` becomes one library per module, a folder below it one library, and every
module with `if __name__ == "__main__":` a binary as well. In `tests`, every `*_test.py` becomes a test and every other
module a library. Tests also get what their strings name: files of the root, whole folders, modules that they start.

--check writes nothing and fails if a BUILD file is not what would be written.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError

_CHECK = flags.DEFINE_bool("check", False, "write nothing; exit code 1 if a BUILD file is not up to date")

ROOT = Path(__file__).parents[2]
LOCK = "requirements_lock.txt"
_HEAD = "# Written by python -m tools.update_build."
_TESTS = "tests"
_DOCS = "docs"
_LOADS = {"py_binary": "@rules_python//python:defs.bzl", "py_library": "@rules_python//python:defs.bzl",
          "pytest_test": f"//{_TESTS}:pytest_test.bzl"}
# Packages on PyPI with another name than their module.
_PACKAGES = {"PIL": "pillow", "absl": "absl_py", "skimage": "scikit_image", "yaml": "pyyaml",
             "tensorflow_serving": "tensorflow_serving_api", "grpc": "grpcio", "google": "protobuf"}
# What a package imports without declaring it: TensorFlow for tf.summary, TensorFlow Datasets to prepare a dataset,
# build without isolation for setup.py.
_UNDECLARED = {"tensorflow": ("tensorboard",), "tensorflow_datasets": ("importlib_resources",),
               "build": ("setuptools", "wheel")}
# What setup.py reads, and what is read with it.
_SETUP = {"MANIFEST.in", "README.md"}
# Imported only beside TensorFlow 2.15, which is not that of the lock, or with extras that the lock leaves out.
_NOT_LOCKED = {"tensorflow_addons", "apache_beam", "gradio", "selenium", "starlette", "brisque", "cv2"}
# Python 3.9 has no list of it.
_STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", None) or {*sys.builtin_module_names, *(
    path.name.split(".")[0] for folder in ("", "lib-dynload")
    for path in Path(sysconfig.get_path("stdlib"), folder).glob("*"))}


class Glob(NamedTuple):
    """glob(), and labels added to it."""

    patterns: list[str]
    exclude: list[str]
    labels: list[str]


class Target(NamedTuple):
    """One call of a rule. Attributes are strings, True, sets of labels or a Glob; empty ones are left out."""

    rule: str
    name: str
    attributes: dict[str, object]


class Tree:
    """The Python files below a root, by what they are called in imports and in labels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = sorted({path.parent.name for path in root.glob("*/__init__.py")} | {_TESTS})
        self.files = sorted(PurePosixPath(path.relative_to(root).as_posix()) for folder in self.folders
                            for path in (root / folder).rglob("*.py") if not _is_of_bazel(path))
        self.parsed = {file: ast.parse((root / file).read_text(encoding="utf-8")) for file in self.files}
        self.root_files = {path.name for path in root.iterdir() if path.is_file()} | {"BUILD"}
        self.locked = {re.sub(r"[-.]", "_", name.lower()) for name in
                       re.findall(r"^([\w.-]+)(?:\[.*\])?==", (root / LOCK).read_text(encoding="utf-8"), re.MULTILINE)}

    def home(self, file: PurePosixPath) -> PurePosixPath:
        """The folder whose BUILD file declares a file: for tests their own folder, else one of at most two levels."""
        return file.parent if is_test_code(file) else PurePosixPath(*file.parent.parts[:2])

    def label(self, file: PurePosixPath) -> str:
        """The library or test that has a file in its srcs."""
        folder, name = self.home(file), file.stem
        if not is_test_code(file):
            if len(folder.parts) > 1:
                name = folder.name
            elif self.is_program(file):
                name = f"{file.stem}_lib"
            elif file.stem == "__init__":
                name = "package"
        return f"//{folder}:{name}"

    def is_program(self, file: PurePosixPath) -> bool:
        """Whether a module has a block for being run."""
        return any(isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
                   for node in self.parsed[file].body)

    def dependencies(self, file: PurePosixPath) -> set[str]:
        """Labels of all that a file imports. For tests, also of what they name and of every conftest.py above."""
        wished = set(_skipped_for(self.parsed[file]))
        missing = {name.split(".")[0] for name in wished if _package(name) not in self.locked} - set(self.folders)
        labels = {label for name in {*_imports(self.parsed[file], file), *wished}
                  if name.split(".")[0] not in missing for label in self._providers(name, file)}
        labels |= self._above(file, "__init__.py")
        if is_test(file) or file.name == "conftest.py":
            labels |= self._above(file, "conftest.py")
        for text in self._strings(file):
            if text in self.folders:
                labels.add(f"//{text}:{text}")
            elif "." in text and self._module(text) is not None:
                labels |= self._providers(text, file)
        if is_test_code(file):
            labels |= {label for name in _started(self.parsed[file]) if _package(name) in self.locked
                       for label in self._providers(name, file)}
        return labels - {self.label(file)}

    def data(self, file: PurePosixPath) -> set[str]:
        """Labels of the files that a test names."""
        texts = self._strings(file)
        labels = {f"//{text}:all_files" for text in texts.intersection(self.folders)}
        labels |= {f"//:{text}" for text in (texts | (_SETUP if "setup.py" in texts else set())) & self.root_files}
        return labels | {"//:docs" for text in texts if text == _DOCS}

    def all_data(self) -> set[str]:
        """Labels of the files that any test names."""
        return set().union(*(self.data(file) for file in self.files))

    def other_files(self, folder: PurePosixPath) -> Glob | None:
        """The files of a package that are neither Python nor about Bazel nor in packages of their own."""
        packages = {self.home(file) for file in self.files} - {folder, *folder.parents}
        patterns, names = set(), set()
        for path in (self.root / folder).rglob("*"):
            inner = PurePosixPath(path.relative_to(self.root / folder).as_posix())
            ignored = path.suffix in (".py", ".pyc", ".bzl") or path.name == "BUILD" or _is_of_bazel(path) or any(
                part.startswith(".") for part in inner.parts)
            if not path.is_file() or ignored or packages.intersection((folder / inner).parents):
                continue
            if len(inner.parts) > 1:
                patterns.add(f"{inner.parts[0]}/**")
            elif not is_test_code(folder / inner):  # there, Bazel puts what it makes of a test beside it
                names.add(inner.name)
        return Glob(sorted(patterns), [], sorted(names)) if patterns or names else None

    def _above(self, file: PurePosixPath, name: str) -> set[str]:
        return {self.label(folder / name) for folder in file.parents if folder / name in self.parsed}

    def _strings(self, file: PurePosixPath) -> set[str]:
        """The strings in a test; what strings of other modules name is not read there."""
        return {node.value for node in ast.walk(self.parsed[file]) if is_test_code(file)
                and isinstance(node, ast.Constant) and isinstance(node.value, str)}

    def _module(self, name: str) -> PurePosixPath | None:
        path = name.replace(".", "/")
        return next((file for file in (PurePosixPath(f"{path}.py"), PurePosixPath(path, "__init__.py"))
                     if file in self.parsed), None)

    def _providers(self, name: str, importer: PurePosixPath) -> set[str]:
        """Labels of what provides a dotted name.

        Raises:
          InputError: if neither a file nor a locked package does.
        """
        top = name.split(".")[0]
        if is_test_code(importer) and importer.parent / f"{top}.py" in self.parsed:
            return {self.label(importer.parent / f"{top}.py")}
        while "." in name and top in self.folders and self._module(name) is None:
            name = name.rpartition(".")[0]
        module = self._module(name)
        if module is not None:
            # Public names of a whole package are loaded when they are used; its own modules import one by one.
            return {f"//{top}:{top}" if name == top and importer.parts[0] != top else self.label(module)}
        package = _package(name)
        if package in self.locked:
            return {f"@pypi//{each}" for each in (package, *_UNDECLARED.get(package, ())) if each in self.locked}
        if top not in _STANDARD_LIBRARY and top not in _NOT_LOCKED:
            raise InputError(f"imports must be of files here or of packages in {LOCK}, found {name} in {importer}")
        return set()


def _is_of_bazel(path: Path) -> bool:
    """Whether a file starts a test that Bazel runs, or belongs to the environment that Bazel makes for it."""
    return path.name.endswith("_stage2_bootstrap.py") or any(
        parent.name.startswith("_") and parent.name.endswith(".venv") for parent in path.parents)


def is_test_code(file: PurePosixPath) -> bool:
    """Whether a file is a test or something that tests share."""
    return file.parts[0] == _TESTS


def is_test(file: PurePosixPath) -> bool:
    """Whether pytest finds tests in a file."""
    return is_test_code(file) and file.stem.endswith("_test")


def _imports(tree: ast.Module, file: PurePosixPath) -> Iterator[str]:
    """Dotted names of all that is imported, at any depth: of modules, and of names in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = file.parts[:-node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _skipped_for(tree: ast.Module) -> Iterator[str]:
    """Modules without which a test is skipped."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
            yield ast.literal_eval(node.args[0])


def _started(tree: ast.Module) -> Iterator[str]:
    """Modules started as [..., "-m", module, ...]."""
    for node in ast.walk(tree):
        words = [getattr(item, "value", None) for item in node.elts] if isinstance(node, ast.List) else []
        yield from (str(module) for option, module in zip(words, words[1:]) if option == "-m")


def _package(module: str) -> str:
    """The package on PyPI that provides a dotted name."""
    top = module.split(".")[0]
    return _PACKAGES.get(top, top.lower())


def _is_slow(tree: ast.Module) -> bool:
    """Whether every test of a file is marked as slow."""
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return bool(tests) and all(any(ast.unparse(mark) == "pytest.mark.slow" for mark in test.decorator_list)
                               for test in tests)


def _file_groups(tree: Tree, folder: PurePosixPath) -> Iterator[Target]:
    others = tree.other_files(folder)
    if others:
        yield Target("filegroup", "package_data", {"srcs": others})
    below = {tree.home(file) for file in tree.files if folder in tree.home(file).parents}
    labels = {f"//{child}:all_files" for child in below if not below.intersection(child.parents)}
    if str(folder) == _TESTS:
        # A test that reads all tests also reads the files that they name.
        labels |= {label for label in tree.all_data() if label.startswith("//:")}
    yield Target("filegroup", "all_files", {"srcs": Glob(["**"], ["**/__pycache__/**"], sorted(labels))})


def _code(tree: Tree, folder: PurePosixPath) -> Iterator[Target]:
    """Libraries, tests and binaries of a folder."""
    files, has_others = [file for file in tree.files if tree.home(file) == folder], tree.other_files(folder) is not None
    sources: dict[str, list[PurePosixPath]] = {}
    for file in files:
        sources.setdefault(tree.label(file), []).append(file)
    for label, members in sources.items():
        data = set().union(*(tree.data(file) for file in members))
        if has_others and (is_test_code(members[0]) or folder / "__init__.py" in members):
            data.add(f"//{folder}:package_data")
        yield Target("pytest_test" if is_test(members[0]) else "py_library", label.rpartition(":")[2], {
            "srcs": {str(file.relative_to(folder)) for file in members}, "data": data,
            "slow": is_test(members[0]) and _is_slow(tree.parsed[members[0]]),
            "deps": set().union(*(tree.dependencies(file) for file in members)) - {label}})
    for file in files:
        if tree.is_program(file) and not is_test_code(file):
            name = f"{folder.name}_bin" if file.stem in ("__main__", folder.name) else file.stem
            yield Target("py_binary", name, {"srcs": {file.name}, "main": file.name, "deps": {tree.label(file)}})


def _whole(tree: Tree, folder: str) -> Target:
    """A folder of the root as one library; of the tests, what they share and what they take from elsewhere."""
    files = [file for file in tree.files if file.parts[0] == folder]
    labels = {tree.label(file) for file in files if not is_test(file)}
    if folder == _TESTS:
        labels |= {label for file in files for label in tree.dependencies(file) if label.startswith("@")}
    return Target("py_library", folder, {"deps": labels})


def _short(label: str, folder: str) -> str:
    package, _, name = label.partition(":")
    if package == f"//{folder}":
        return f":{name}"
    return package if package.rpartition("/")[2] == name else label


def _quoted(text: str) -> str:
    return f'"{text}"'


def _list(labels: Iterable[str], folder: str, indent: str = "    ") -> str:
    """Own targets first, then those of the repository, then packages from PyPI."""
    items = sorted((_short(label, folder) for label in labels), key=lambda item: (
        item.startswith("@"), item.startswith("//"), re.split("[:.]", item)))
    if len(items) == 1:
        return f"[{_quoted(items[0])}]"
    return "[\n" + "".join(f"{indent}    {_quoted(item)},\n" for item in items) + f"{indent}]"


def _value(value: object, folder: str) -> str:
    """An attribute as buildifier writes it."""
    if isinstance(value, str):
        return _quoted(_short(value, folder))
    if isinstance(value, Glob):
        calls = [f"glob({_list(value.patterns, folder)})"] if value.patterns else []
        if value.exclude:
            calls = [f"glob(\n        {_list(value.patterns, folder)},\n"
                     f"        exclude = {_list(value.exclude, folder)},\n    )"]
        return " + ".join([*calls, *([_list(value.labels, folder)] if value.labels else [])])
    return _list(value, folder) if isinstance(value, set) else str(value)


def _render(targets: Sequence[Target], folder: str = "", exported: Iterable[str] = ()) -> str:
    """The text of a BUILD file."""
    used = sorted({target.rule for target in targets} & set(_LOADS))
    loads = [f'load("{file}", {", ".join(_quoted(rule) for rule in used if _LOADS[rule] == file)})'
             for file in sorted({_LOADS[rule] for rule in used}, reverse=True)]
    parts = [_HEAD, *(["\n".join(loads)] if loads else [])]
    visibility = 'default_visibility = ["//visibility:public"]'
    parts.append(f"package(\n    default_testonly = True,\n    {visibility},\n)" if folder.split("/")[0] == _TESTS
                 else f"package({visibility})")
    if exported:
        parts.append(f"exports_files({_list(exported, folder, '')})")
    for target in targets:
        lines = [f"    {name} = {_value(value, folder)},\n" for name, value in
                 {"name": target.name, **target.attributes}.items() if value]
        parts.append(f"{target.rule}(\n{''.join(lines)})")
    return "\n\n".join(parts) + "\n"


def build_files(root: Path = ROOT) -> dict[Path, str]:
    """The right texts of the BUILD files, by their paths.

    Raises:
      InputError: if an import leads neither to a file nor to a package of the lock.
    """
    tree = Tree(root)
    data = tree.all_data()
    targets = [Target("alias", folder, {"actual": f"//{folder}:{folder}"}) for folder in tree.folders
               if folder != _TESTS]
    if "//:docs" in data:
        targets.append(Target("filegroup", "docs", {"srcs": Glob([f"{_DOCS}/**"], [], [])}))
    texts = {root / "BUILD": _render(targets, exported=[name for name in tree.root_files if f"//:{name}" in data])}
    for folder in sorted({tree.home(file) for file in tree.files}):
        targets = [*_file_groups(tree, folder), *_code(tree, folder)]
        if len(folder.parts) == 1:
            targets.append(_whole(tree, folder.name))
        # The tests of other folders run through them.
        runners = [file.name for file in tree.files if tree.home(file) == folder and is_test_code(file)
                   and tree.is_program(file)]
        texts[root / folder / "BUILD"] = _render(targets, str(folder), runners)
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
