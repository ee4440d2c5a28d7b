"""BUILD lists one target per package and per test, with the files that are there and the imports they make."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _targets() -> dict[str, dict]:
    """BUILD is Starlark, whose calls with keyword arguments are Python syntax."""
    targets = {}
    for node in ast.parse((ROOT / "BUILD").read_text(encoding="utf-8")).body:
        call = node.value
        if isinstance(call, ast.Call) and call.func.id.startswith("py_"):
            values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords
                      if keyword.arg in ("name", "srcs", "deps", "main")}
            values["rule"] = call.func.id
            assert values["name"] not in targets, f"two targets are called {values['name']}"
            targets[values["name"]] = values
    return targets


def _imported_files(path: Path) -> set[str]:
    """Files of this repository that a file imports directly."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ("cut_tf", "tools"):
                base = ROOT / name.replace(".", "/")
                for candidate in (base.with_suffix(".py"), base / "__init__.py"):
                    if candidate.is_file():
                        found.add(candidate.relative_to(ROOT).as_posix())
    return found


def test_every_source_is_in_exactly_one_target():
    listed = [source for target in _targets().values() for source in target["srcs"] if source.endswith(".py")]
    present = [path.relative_to(ROOT).as_posix() for folder in ("cut_tf", "tools", "tests")
               for path in (ROOT / folder).rglob("*.py")]
    assert sorted(listed) == sorted(present)


def test_every_test_is_a_test_target():
    tests = {source for target in _targets().values() if target["rule"] == "py_test" for source in target["srcs"]}
    assert tests == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*_test.py")}


def test_dependencies_are_those_of_the_imports():
    targets = _targets()
    home = {source: name for name, target in targets.items() for source in target["srcs"]}
    for name, target in targets.items():
        needed = set()
        for source in target["srcs"]:
            if source.endswith(".py"):
                needed |= {home[file] for file in _imported_files(ROOT / source)} - {name}
        assert {dep.removeprefix(":") for dep in target.get("deps", []) if dep.startswith(":")} >= needed, (
            f"{name} lacks {needed - {dep.removeprefix(':') for dep in target.get('deps', [])}}")
