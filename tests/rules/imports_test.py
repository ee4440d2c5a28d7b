"""Every line has its room: which module may import which, sizes, and who may read flags."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cut_tf"
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- rooms -->\n", "<!-- end of rooms -->\n"
# Open to all. They import nothing but each other.
COMMON = {"cut_tf", "common", "settings", "compat", "devices", "pretrained"}
# Room: what it knows, and the rooms that it may import besides itself and COMMON.
ROOMS = {
    "layers": ("tensors: single layers, and their fast forms", set()),
    "losses": ("tensors: losses as pure functions", set()),
    "networks": ("generators, discriminators, and the heads that only training needs", {"layers"}),
    "checkpoints": ("what is on disk of a run", set()),
    "methods": ("one training step: networks, losses, optimizers", {
        "networks", "layers", "losses", "checkpoints", "translators"}),
    "data": ("pictures, pairs, crops, haze", set()),
    "metrics": ("numbers that compare pictures, and their reports", {"data", "translators", "translators.exported"}),
    "baselines": ("dehazing without training", {"data"}),
    "translators": ("the generator of a run at work on pictures, never a method", {
        "networks", "layers", "data", "checkpoints"}),
    "translators.exported": ("SavedModels and .tflite files at work on pictures, no network", set()),
    "translators.pretrained": ("Keras models again, of runs and of exports", {
        "networks", "checkpoints", "translators", "translators.exported"}),
    "official": ("weight files, names and architectures of the official PyTorch code", {
        "networks", "layers", "checkpoints"}),
    "export": ("a generator, and what servers, phones and hubs take", {
        "networks", "layers", "data", "metrics", "official", "translators", "translators.exported",
        "translators.pretrained"}),
    "batch": ("pictures by the million: plans, records, pipelines", {
        "baselines", "checkpoints", "data", "metrics", "translators", "translators.exported"}),
    "demo": ("a page for the browser, with Gradio", {
        "baselines", "data", "export", "translators", "translators.exported"}),
    "training": ("runs: devices, steps, logging, results", {
        "methods", "data", "metrics", "translators", "checkpoints"}),
    "flags": ("flags and settings, the tables of methods, networks, datasets and metrics", {
        "methods", "networks", "data", "metrics", "command_line"}),
    "command_line": ("what all commands share", set()),
    "client": ("a server, and pictures", {"data"}),
}
ALLOWED = {room: allowed for room, (_, allowed) in ROOMS.items()}
MAINS = {"train", "translate", "evaluate", "import_weights", "__main__"}
MODULES = sorted(path.relative_to(ROOT).as_posix() for folder in ("cut_tf", "tools") for path in
                 (ROOT / folder).rglob("*.py"))


def _room(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1:
        return "cut_tf"
    inner = ".".join(parts[1:3])
    return inner if inner in ALLOWED else parts[1]


def _imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "cut_tf" else {
                node.module}
    return names


def _table() -> str:
    """The rooms, in Markdown."""
    lines = ["| room | knows | may import |", "|---|---|---|",
             f"| {', '.join(f'`{name}`' for name in sorted(COMMON - {'cut_tf'}))} | errors, tables, settings, files, "
             "devices, the stack | each other |"]
    lines += [f"| `{room}` | {knows} | {', '.join(f'`{name}`' for name in sorted(allowed))} |"
              for room, (knows, allowed) in ROOMS.items()]
    lines.append(f"| {', '.join(f'`{name}`' for name in sorted(MAINS))} | the command line | all |")
    return "\n".join(lines) + "\n"


def _page_with_table() -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    return before + _BEGIN + _table() + _END + rest.partition(_END)[2]


def test_the_architecture_page_has_this_table():
    assert PAGE.read_text(encoding="utf-8") == _page_with_table(), "python -m tests.rules.imports_test writes it"


# Mains may import everything.
@pytest.mark.parametrize("module", [module for module in MODULES
                                    if module.startswith("cut_tf/") and Path(module).stem not in MAINS])
def test_imports_only_go_where_they_may(module):
    room = _room(module.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    allowed = COMMON | {room} | ALLOWED.get(room, set())
    assert room in COMMON or room in ALLOWED, f"{module} is in no known room"
    for name in _imports(ROOT / module):
        if name.split(".")[0] == "cut_tf":
            assert _room(name) in allowed, f"{module} imports {name}"
        assert name.split(".")[0] not in ("tools", "tests"), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_only_mains_and_flags_read_flags(module):
    reads = any(name.startswith("absl") for name in _imports(ROOT / module)) and "flags" in {
        alias.name for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "absl" for alias in node.names}
    may = module.startswith("tools/") or Path(module).stem in MAINS | {"flags", "command_line"}
    assert may or not reads, f"{module} reads flags"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module):
    text = (ROOT / module).read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{module} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{module}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES)
def test_public_names_have_docstrings(module):
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{module} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and node.name != "main":
            assert ast.get_docstring(node), f"{module}: {node.name} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_have_type_hints(module):
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg,
                         node.args.kwarg]
            bare = [argument.arg for argument in arguments
                    if argument and not argument.annotation and argument.arg not in ("self", "cls")]
            assert not bare, f"{module}:{node.lineno} {node.name}: no type for {', '.join(bare)}"
            assert node.returns is not None, f"{module}:{node.lineno} {node.name}: no type of what it returns"


def test_importing_the_package_does_no_work():
    names = _imports(PACKAGE / "__init__.py")
    assert names == {"__future__", "importlib", "importlib.abc", "importlib.util", "sys"}
    loaded = "import sys, cut_tf; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, text=True, capture_output=True, check=True)
    assert not {"keras", "tensorflow", "numpy", "absl", "PIL"} & set(done.stdout.split())


def test_a_part_of_the_package_is_imported_beside_keras(tmp_path):
    (tmp_path / "cut_tf").mkdir()
    (tmp_path / "cut_tf" / "__init__.py").write_bytes((PACKAGE / "__init__.py").read_bytes())
    (tmp_path / "keras.py").touch()
    for code in ("import keras, cut_tf", "import cut_tf, keras"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=300,
                              env={**os.environ, "PYTHONPATH": str(tmp_path)})
        assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_loaded():
    import cut_tf

    for name in dir(cut_tf):
        assert getattr(cut_tf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cut_tf.nothing


if __name__ == "__main__":
    PAGE.write_text(_page_with_table(), encoding="utf-8")
