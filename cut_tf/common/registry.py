"""Tables of what can be named on the command line: one row holds all that the rest of the program needs to know.

A row names its code as text and loads it at first use. So a table can be read, for `--help` or a check of flags,
without importing TensorFlow.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from cut_tf.common.errors import InputError

Entry = TypeVar("Entry")


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry of a table.

    Attributes:
      home: "module:name" of the code, a class or a function.
      title: what it is, one line for people.
      uses: the settings that it reads, by name; "SECTION.*" stands for all of a section.
    """

    home: str
    title: str
    uses: tuple[str, ...] = ()

    def load(self) -> Any:
        """The code itself. Imports its module."""
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Calls the code: makes an object if it is a class."""
        return self.load()(*arguments, **keywords)


def lookup(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Returns `table[name]`.

    Args:
      table: name to row, e.g. `cut_tf.methods.METHODS`.
      name: the name asked for.
      kind: what the table holds, for the message; usually the flag's name.

    Raises:
      InputError: if the name is not in the table; the message lists the known names.
    """
    if name not in table:
        raise InputError(f"{kind} must be one of {', '.join(table)}, found {name!r}")
    return table[name]
