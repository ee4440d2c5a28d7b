"""What the graph of a training step depends on, as one checksum: what `cut_tf.methods.stored_steps` calls its files by.

A key that lacks something would let a run train with the graph of another one. So it holds the whole source of the
package, and the constants of its modules as they are in memory. What it cannot hold is refused: code from outside, be
it a method, a network, a layer or a function in the place of one of the package's.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import platform
import sys
import sysconfig
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from cut_tf.methods.base import TranslationMethod

_PACKAGE = Path(__file__).parents[1]
# Settings of which no graph depends: where a run is, the weights that it begins with, where graphs are kept.
_NOT_IN_GRAPHS = ("run", "init_from", "step_cache")
# Modules that graphs are made with.
_TRACED = ("common", "compat", "layers", "losses", "methods", "networks")
# Whose classes networks and optimizers are made of. Their versions are in the key.
_KNOWN = ("cut_tf", "keras", "tensorflow_addons")
_INSTALLED = (_PACKAGE, *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")))
_FORMAT = 1


class UnsuitableError(Exception):
    """A step whose graph cannot be kept or used, and why."""


def key_of(method: TranslationMethod, specs: Sequence[tf.TensorSpec]) -> str:
    """A checksum of all that the graph of a method's step depends on.

    Args:
      method: compiled.
      specs: of the step's inputs.

    Raises:
      UnsuitableError: if code from outside takes part.
    """
    check_parts(method)
    settings = {name: value for name, value in method.settings.flat().items() if name not in _NOT_IN_GRAPHS}
    optimizers = {name: [type(optimizer).__name__, optimizer.get_config()]
                  for name, optimizer in method.optimizers_by_network.items()}
    environment = {name: value for name, value in os.environ.items() if name.startswith(("TF_", "XLA_"))
                   and name != "TF_CPP_MIN_LOG_LEVEL"}
    parts = [_FORMAT, tf.__version__, keras.__version__, sys.version, _processor(), environment, method.step.device,
             settings, optimizers, [str(spec) for spec in specs], source_checksum(), sorted(constants())]
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def _processor() -> str:
    """What TensorFlow's optimisations may depend on: instructions that the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def source_checksum() -> str:
    """A checksum of this package's source.

    Raises:
      UnsuitableError: if the source is not in files.
    """
    checksum = hashlib.sha256()
    files = sorted(_PACKAGE.rglob("*.py"))
    if Path(__file__) not in files:
        raise UnsuitableError("the package is not in files")
    for file in files:
        checksum.update(str(file.relative_to(_PACKAGE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return checksum.hexdigest()


def constants() -> Iterator[tuple[str, str]]:
    """Names and values of the constants, also those of classes, of all modules that graphs are made with.

    Raises:
      UnsuitableError: if something was replaced by code from outside.
    """
    for module in _loaded_modules():
        for name, value in vars(module).items():
            where = f"{module.__name__}.{name}"
            yield from _constant(where, value)
            if isinstance(value, type) and value.__module__.startswith("cut_tf."):
                for attribute, member in list(vars(value).items()):
                    yield from _constant(f"{where}.{attribute}", member)


def check_parts(method: TranslationMethod) -> None:
    """Raises UnsuitableError if method, networks, layers or optimizers are, or were given, code from outside."""
    parts = [method, *method.optimizers_by_network.values()]
    for network in method.networks.values():
        parts += network._flatten_layers(include_self=True, recursive=True)
    for part in parts:
        if type(part).__module__.partition(".")[0] not in _KNOWN:
            raise UnsuitableError(f"{type(part).__name__} is none of this package's")
        for name, value in vars(part).items():
            _check_not_replaced(f"{type(part).__name__}.{name}", value)


def _loaded_modules() -> list[types.ModuleType]:
    names = [f"cut_tf.{part}" for part in _TRACED]
    return [module for name, module in sorted(sys.modules.items())
            if module is not None and any(name == part or name.startswith(f"{part}.") for part in names)]


def _constant(where: str, value: object) -> Iterator[tuple[str, str]]:
    """(where, value) if it is a constant; nothing for code that was not replaced."""
    if isinstance(value, (bool, int, float, str, tuple)):
        if not where.rpartition(".")[2].startswith("__"):
            yield where, repr(value)
    else:
        _check_not_replaced(where, value)


def _check_not_replaced(where: str, value: object) -> None:
    """Raises UnsuitableError for a stand-in, and for code of neither this package nor an installed one."""
    if isinstance(value, property):
        value = value.fget
    while isinstance(value, functools.partial):
        value = value.func
    stand_in = type(value).__module__.startswith("unittest.")
    if callable(value) and not stand_in:
        value = inspect.unwrap(getattr(value, "__func__", value))
    if stand_in:
        file, module = "<unittest>", "__main__"
    elif isinstance(value, types.FunctionType):
        file, module = value.__code__.co_filename, value.__globals__.get("__name__")
    elif isinstance(value, type):
        module = value.__module__
        file = getattr(sys.modules.get(module), "__file__", None) or "<built in>"
    else:
        return
    # Python's own way to make functions of texts, such as those of data classes, has no file either.
    known = module != "__main__" if file.startswith("<") else any(root in Path(file).parents for root in _INSTALLED)
    if not known:
        raise UnsuitableError(f"{where} was replaced by code of {file}")
