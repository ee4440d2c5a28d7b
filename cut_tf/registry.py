"""Look a name up in a table, or say which names there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def lookup(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Returns `table[name]`.

    Args:
      table: name to entry, e.g. `cut_tf.methods.METHODS`.
      name: the name asked for.
      kind: what the table holds, for the message; usually the flag's name.

    Raises:
      ValueError: if the name is not in the table; the message lists the known names.
    """
    if name not in table:
        raise ValueError(f"{kind}: unknown name {name!r}; known: {', '.join(sorted(table))}")
    return table[name]
