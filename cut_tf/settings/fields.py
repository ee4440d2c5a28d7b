"""What all settings classes are made of: fields that carry their flag's help text, and the checks of their values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cut_tf.common.errors import InputError


def setting(default: Any, help_text: str, choices: tuple[str, ...] = (), free: bool = False,
            often: bool = False, kind: type | None = None, same_weights: bool = False) -> Any:
    """A dataclass field with what its flag and the resume check need.

    Args:
      default: default value; its type is the type of the flag. None stands for a value that is decided elsewhere.
      help_text: help of the flag.
      choices: the allowed values, if the setting is one of a few names.
      free: whether a run may be resumed with another value (true if it cannot change the trained weights).
      often: whether `--help` lists it, not `--helpfull` alone.
      kind: type of the flag, where the default is None.
      same_weights: of a network: whether a run that begins with another's weights (--init_from) may have another value.
    """
    return dataclasses.field(default=default, metadata={
        "help": help_text, "choices": choices, "free": free, "often": often, "kind": kind or type(default),
        "same_weights": same_weights})


def require(holds: bool, name: str, rule: str, found: Any) -> None:
    """Raises InputError, "--name must be rule, found ...", unless `holds`."""
    if not holds:
        raise InputError(f"--{name} must be {rule}, found {found!r}")


class Checked:
    """Base of the settings classes: the checks that follow from a field's default and choices."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            choices, kind = field.metadata["choices"], field.metadata["kind"]
            kinds = (float, int) if kind is float else (kind,)
            require(type(value) in kinds, field.name, f"of type {kinds[0].__name__}", value)
            require(not choices or value in choices, field.name, f"one of {', '.join(choices)}", value)
            if isinstance(value, float):
                require(math.isfinite(value), field.name, "a finite number", value)
            if isinstance(value, (int, float)):
                require(value >= 0, field.name, "zero or more", value)
        self._check()

    def _check(self) -> None:
        """Checks that concern single fields beyond type and choice, or several fields of the class together."""

    def _positive(self, *names: str) -> None:
        for name in names:
            require(getattr(self, name) > 0, name, "more than zero", getattr(self, name))
