"""The text of a BUILD file, as buildifier formats it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_HEAD = "# Written by python -m tools.update_build."
_LOADS = {"py_library": "@rules_python//python:defs.bzl", "pytest_folder": "//tests:pytest_test.bzl",
          "python_folder": "//tools:python.bzl", "python_root": "//tools:python.bzl"}


class Glob(NamedTuple):
    """glob() of a pattern."""

    pattern: str


class Call(NamedTuple):
    """One call in a BUILD file. Empty arguments are left out; one without a name has the name ""."""

    function: str
    arguments: dict[str, str | bool | list[str] | set[str] | dict[str, set[str]] | Glob]


def render(calls: Sequence[Call], folder: str = "") -> str:
    """The text of the BUILD file of a folder; "" is the root."""
    loaded = {call.function: _LOADS[call.function] for call in calls if call.function in _LOADS}
    loads = [f'load("{file}", "{function}")' for function, file in sorted(
        loaded.items(), key=lambda load: (load[1].startswith("//"), load[1]))]
    return "\n\n".join([_HEAD, *(["\n".join(loads)] if loads else []), *(_call(call, folder) for call in calls)]) + "\n"


def _call(call: Call, folder: str) -> str:
    """A single argument begins in the line of the call, several have lines of their own."""
    given = {name: value for name, value in call.arguments.items() if value}
    indent = "    " if len(given) > 1 else ""
    arguments = [f"{name} = {_value(value, folder, indent)}" if name else _value(value, folder, indent)
                 for name, value in given.items()]
    if len(arguments) < 2:
        return f"{call.function}({''.join(arguments)})"
    return "\n".join([f"{call.function}(", *(f"    {argument}," for argument in arguments), ")"])


def _value(value: object, folder: str, indent: str) -> str:
    if isinstance(value, str):
        return _quoted(_short(value, folder))
    if isinstance(value, Glob):
        return f"glob([{_quoted(value.pattern)}])"
    if isinstance(value, dict):
        lines = [f"{indent}    {_quoted(name)}: {_value(each, folder, indent + '    ')},\n"
                 for name, each in value.items()]
        return f"{{\n{''.join(lines)}{indent}}}"
    return str(value) if isinstance(value, bool) else _list(value, folder, indent)


def _list(labels: Iterable[str], folder: str, indent: str) -> str:
    """Own targets first, then those of the repository, then packages from PyPI."""
    items = sorted((_short(label, folder) for label in labels), key=lambda item: (
        item.startswith("@"), item.startswith("//"), re.split("[:.]", item)))
    if len(items) < 2:
        return f"[{''.join(map(_quoted, items))}]"
    return "[\n" + "".join(f"{indent}    {_quoted(item)},\n" for item in items) + f"{indent}]"


def _short(label: str, folder: str) -> str:
    package, _, name = label.partition(":")
    if package == f"//{folder}":
        return f":{name}"
    return package if package.rpartition("/")[2] == name else label


def _quoted(text: str) -> str:
    return f'"{text}"'
