"""The Python files below a root, their imports, and the labels that these lead to."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cut_tf.common.errors import InputError

LOCK = "requirements_lock.txt"
TESTS = "tests"
# Read by every test.
OPTIONS = "pyproject.toml"
# The group of all files of the root.
ROOT_FILES = "root_files"
# Folders of the root without Python files.
_OTHER_FOLDERS = ("docs", "saved_models")
# Packages on PyPI with another name than their module.
_PACKAGES = {"PIL": "pillow", "absl": "absl_py", "skimage": "scikit_image", "yaml": "pyyaml",
             "tensorflow_serving": "tensorflow_serving_api", "grpc": "grpcio", "google": "protobuf"}
# What a package imports without declaring it: TensorFlow for tf.summary, TensorFlow Datasets to prepare a dataset,
# build without isolation for setup.py.
_UNDECLARED = {"tensorflow": ("tensorboard",), "tensorflow_datasets": ("importlib_resources",),
               "build": ("setuptools", "wheel")}
# Imported only beside TensorFlow 2.15, which is not that of the lock, or with extras that the lock leaves out.
_NOT_LOCKED = {"tensorflow_addons", "apache_beam", "gradio", "selenium", "starlette", "brisque", "cv2"}
# Python 3.9 has no list of it.
_STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", None) or {*sys.builtin_module_names, *(
    path.name.split(".")[0] for folder in ("", "lib-dynload")
    for path in Path(sysconfig.get_path("stdlib"), folder).glob("*"))}


class SourceTree:
    """The Python files below a root, by what they are called in imports and in labels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = sorted({path.parent.name for path in root.glob("*/__init__.py")} | {TESTS})
        self.files = sorted(PurePosixPath(path.relative_to(root).as_posix()) for folder in self.folders
                            for path in (root / folder).rglob("*.py") if not _is_of_bazel(path))
        self.parsed = {file: ast.parse((root / file).read_text(encoding="utf-8")) for file in self.files}
        self.root_files = {path.name for path in root.iterdir() if path.is_file()} | {"BUILD"}
        self.other_folders = [name for name in _OTHER_FOLDERS if (root / name).is_dir()]
        self.locked = {re.sub(r"[-.]", "_", name.lower()) for name in
                       re.findall(r"^([\w.-]+)(?:\[.*\])?==", (root / LOCK).read_text(encoding="utf-8"), re.MULTILINE)}
        self.packages = sorted({self.home(file) for file in self.files})
        # Labels that each library imports or names, and that the one for a whole folder of the root stands for.
        self.needs = self._needs_of_libraries()
        self._reached: dict[str, set[str]] = {}

    def home(self, file: PurePosixPath) -> PurePosixPath:
        """The folder whose BUILD file declares a file: for tests their own folder, else one of at most two levels."""
        return file.parent if is_test_code(file) else PurePosixPath(*file.parent.parts[:2])

    def files_of(self, folder: PurePosixPath) -> list[PurePosixPath]:
        """The files that a BUILD file declares."""
        return [file for file in self.files if self.home(file) == folder]

    def packages_below(self, folder: PurePosixPath) -> list[str]:
        """The folders below that have BUILD files, relative to it."""
        return [str(package.relative_to(folder)) for package in self.packages if folder in package.parents]

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
            if text in self.folders and (text != TESTS or is_test(file)):  # what tests share belongs to it
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
        labels |= {f"//:{text}" for text in texts.intersection(self.other_folders)}
        if TESTS in texts:  # what reads all tests also reads the files that they name
            labels |= {f"//:{name}" for name in (*self.other_folders, ROOT_FILES)}
        return labels | ({f"//:{ROOT_FILES}"} if texts & self.root_files - {OPTIONS} else set())

    def least(self, labels: set[str], given: set[str] = frozenset()) -> set[str]:
        """The labels that neither those given nor others of them need.

        Raises:
          InputError: if libraries need each other in a circle.
        """
        left = labels.difference(given, *(self._all_needs(label) for label in given))
        return left.difference(*(self._all_needs(label) for label in left))

    def modules(self, folder: PurePosixPath) -> dict[str, set[str]]:
        """What the libraries of a folder need, by their names."""
        names = {self.label(file) for file in self.files_of(folder) if not is_test(file)}
        return {name.rpartition(":")[2]: self.least(self.needs[name]) for name in sorted(names)}

    def _needs_of_libraries(self) -> dict[str, set[str]]:
        needs: dict[str, set[str]] = {}
        for file in self.files:
            if not is_test(file):
                needs.setdefault(self.label(file), set()).update(self.dependencies(file))
        wholes = {f"//{folder}:{folder}": {label for label in needs if re.match(f"//{folder}[:/]", label)}
                  for folder in self.folders}
        wholes[f"//{TESTS}:{TESTS}"] |= {label for file in self.files if is_test_code(file)
                                          for label in self.dependencies(file) if label.startswith("@")}
        return {label: found - {label} for label, found in {**needs, **wholes}.items()}

    def _all_needs(self, label: str, path: tuple[str, ...] = ()) -> set[str]:
        """Labels that a label needs, at once or through others."""
        if label in path:
            raise InputError(f"libraries must not need each other, found {' -> '.join((*path, label))}")
        if label not in self._reached:
            needs = self.needs.get(label, set())
            self._reached[label] = needs.union(*(self._all_needs(each, (*path, label)) for each in needs))
        return self._reached[label]

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
    return file.parts[0] == TESTS


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


def is_slow(tree: ast.Module) -> bool:
    """Whether every test of a file is marked as slow."""
    tests = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return bool(tests) and all(any(ast.unparse(mark) == "pytest.mark.slow" for mark in test.decorator_list)
                               for test in tests)


