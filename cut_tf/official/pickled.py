"""Reads pickles as data: a machine for the few operations that a saved state dict is made of.

Python's own unpickler imports and calls what a file names, and makes room for what a file announces before it has read
it. This one calls the functions that it is given, and nothing else; it keeps what the bytes themselves hold. Operations
come from `pickletools`, which only takes bytes apart.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Of a state dict with a thousand weights: 35,000 operations in 100 KB.
MOST_BYTES = 2**22
_MOST_OPERATIONS = 2**16
# Sizes and the magic number of legacy files fit in 80 bits. Arithmetic with longer numbers could take for ever.
_MOST_BITS = 80


class PickleError(ValueError):
    """The pickle is damaged, or holds what no state dict holds. The message is the reason."""


class Name(NamedTuple):
    """A global that the pickle names. It is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Functions = Mapping[tuple[str, str], Callable[..., object]]


def read_pickle(stream: io.BytesIO, functions: Functions, persistent: Callable[[object], object]) -> object:
    """The object of the pickle that begins where `stream` stands; leaves it standing behind the pickle.

    Args:
      stream: of at most a few MiB.
      functions: (module, name) to what is called for it, with the pickled arguments.
      persistent: called for references to what is outside of the pickle, with the pickled reference.

    Returns:
      None, bool, int, float, str, bytes, list, tuple, dict, `Name`, or what `functions` and `persistent` return.

    Raises:
      PickleError: if it is damaged, too long, or needs anything else.
    """
    machine = _Machine(functions, persistent)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= _MOST_OPERATIONS:
                raise PickleError(f"its pickle has more than {_MOST_OPERATIONS} operations")
            if operation.name == "STOP":
                return machine.result()
            machine.take(operation.name, argument)
    except PickleError:
        raise
    except (ValueError, OverflowError, AttributeError) as error:  # of pickletools, for bytes that are no operations
        raise PickleError(f"its pickle is damaged: {error}") from error
    except IndexError as error:
        raise PickleError("its pickle is damaged: it takes more than it has put down") from error
    raise PickleError("its pickle is damaged: it has no end")


class _Machine:
    """What is on the stack, and what each operation does to it."""

    def __init__(self, functions: Functions, persistent: Callable[[object], object]) -> None:
        self._functions, self._persistent = functions, persistent
        self._stack: list[object] = []
        # Stacks below the marks.
        self._below: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def take(self, name: str, argument: object) -> None:
        """One operation."""
        if name in _VALUES:
            self._stack.append(_VALUES[name](argument))
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _FIXED_TUPLES:
            self._stack.append(tuple(self._take_last(_FIXED_TUPLES[name])))
        elif name not in _IGNORED:
            act = _ACTIONS.get(name)
            if act is None:
                raise PickleError(f"its pickle uses {name}, which no state dict does")
            act(self, argument)

    def result(self) -> object:
        if len(self._stack) != 1 or self._below:
            raise PickleError("its pickle is damaged: it leaves more than one object")
        return self._stack[0]

    def _take_last(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise IndexError
        taken = self._stack[len(self._stack) - count:]
        del self._stack[len(self._stack) - count:]
        return taken

    def _mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _take_to_mark(self) -> list[object]:
        taken, self._stack = self._stack, self._below.pop()
        return taken

    def _tuple(self, _: object) -> None:
        taken = self._take_to_mark()
        self._stack.append(tuple(taken))

    def _list(self, _: object) -> None:
        taken = self._take_to_mark()
        self._stack.append(list(taken))

    def _dict(self, _: object) -> None:
        taken = self._take_to_mark()
        self._stack.append({})
        self._set_items(taken)

    def _append(self, _: object) -> None:
        self._append_all([self._stack.pop()])

    def _appends(self, _: object) -> None:
        self._append_all(self._take_to_mark())

    def _append_all(self, taken: list[object]) -> None:
        if not isinstance(self._stack[-1], list):
            raise PickleError("its pickle is damaged: it appends to what is no list")
        self._stack[-1].extend(taken)

    def _set_item(self, _: object) -> None:
        self._set_items(self._take_last(2))

    def _set_many(self, _: object) -> None:
        self._set_items(self._take_to_mark())

    def _set_items(self, taken: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(taken) % 2:
            raise PickleError("its pickle is damaged: it sets items of what is no dict")
        for key, value in zip(taken[0::2], taken[1::2]):
            # Of nested tuples, for example, a hash can take for ever.
            if not isinstance(key, str):
                raise PickleError(f"its pickle has a dict with a key that is no text but {type(key).__name__}")
            target[key] = value

    def _remember(self, index: object) -> None:
        self._memo[index] = self._stack[-1]

    def _remember_next(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _recall(self, index: object) -> None:
        if index not in self._memo:
            raise PickleError("its pickle is damaged: it recalls what it never kept")
        self._stack.append(self._memo[index])

    def _pop(self, _: object) -> None:
        self._stack.pop()

    def _global(self, argument: object) -> None:
        self._stack.append(Name(*argument.split(" ", 1)))

    def _stack_global(self, _: object) -> None:
        module, name = self._take_last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("its pickle is damaged: the name of a global is no text")
        self._stack.append(Name(module, name))

    def _call(self, _: object) -> None:
        function, arguments = self._take_last(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise PickleError("its pickle is damaged: it calls what is no function")
        known = self._functions.get(function)
        if known is None:
            raise PickleError(f"it asks for {_shown(function)}, which is no part of a state dict; nothing was executed")
        try:
            self._stack.append(known(*arguments))
        except TypeError as error:
            raise PickleError(f"its pickle is damaged: {_shown(function)} takes other arguments") from error

    def _set_state(self, _: object) -> None:
        """Attributes of a state dict, such as the versions of its modules, are of no use here."""
        target, state = self._take_last(2)
        if not isinstance(target, dict) or not isinstance(state, (dict, tuple)):
            raise PickleError("its pickle sets attributes of what is no dict; nothing was executed")
        self._stack.append(target)

    def _refer(self, _: object) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def _shown(name: Name) -> str:
    """A name from a file, fit for a message."""
    text = str(name)
    return repr(text if len(text) <= 80 else f"{text[:80]}...")[1:-1]


def _number(value: object) -> int:
    if abs(value).bit_length() > _MOST_BITS:
        raise PickleError("its pickle has a number of more than 80 bits")
    return value


def _same(value: object) -> object:
    return value


_VALUES: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG"), _number),
    **dict.fromkeys(("BINFLOAT", "FLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING",
                     "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _same)}
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list, "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple}
_FIXED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = ("PROTO", "FRAME")
_ACTIONS: dict[str, Callable[[_Machine, object], None]] = {
    "MARK": _Machine._mark, "TUPLE": _Machine._tuple, "LIST": _Machine._list, "DICT": _Machine._dict,
    "APPEND": _Machine._append, "APPENDS": _Machine._appends, "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_many, "PUT": _Machine._remember, "BINPUT": _Machine._remember,
    "LONG_BINPUT": _Machine._remember, "MEMOIZE": _Machine._remember_next, "GET": _Machine._recall,
    "BINGET": _Machine._recall, "LONG_BINGET": _Machine._recall, "POP": _Machine._pop, "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global, "REDUCE": _Machine._call, "BUILD": _Machine._set_state,
    "BINPERSID": _Machine._refer}
