"""Contrastive image-to-image translation and dehazing in TensorFlow and Keras.

    import cut_tf
    model = cut_tf.CUT(cut_tf.Settings())

Importing this package does no work: names are loaded when they are first used. As soon as Keras is imported, the
generators are registered with it by name, so that `keras.models.load_model` reads their .keras files.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys

__version__ = "0.2.0"

_HOMES = {
    "CUT": "cut_tf.methods.cut",
    "Translator": "cut_tf.translators.run",
    "TrainingStream": "cut_tf.data.pipeline",
    "open_dataset": "cut_tf.data",
    "build_method": "cut_tf.methods",
    "LinearDecay": "cut_tf.methods.optimizers",
    "Settings": "cut_tf.settings",
    "InputError": "cut_tf.common.errors",
    "NonFiniteError": "cut_tf.common.errors",
    "from_pretrained": "cut_tf.translators.pretrained",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cut_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_HOMES]


def _register_generators() -> None:
    # Bazel gives a target no more of the package than it asks for.
    if importlib.util.find_spec("cut_tf.networks") is not None:
        importlib.import_module("cut_tf.networks.registration").register_generators()


class _KerasWatch(importlib.abc.MetaPathFinder):
    """Finds nothing itself. Has the generators registered right after the first import of Keras."""

    _asks_others = False

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname != "keras" or self._asks_others:
            return None
        self._asks_others = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asks_others = False
        if spec is not None and spec.loader is not None:
            self._add_registration(spec.loader)
        return spec

    def _add_registration(self, loader: importlib.abc.Loader) -> None:
        execute = loader.exec_module

        def execute_and_register(module: object) -> None:
            execute(module)
            if self in sys.meta_path:  # who only looks for Keras, without importing it, leaves it there
                sys.meta_path.remove(self)
                _register_generators()

        loader.exec_module = execute_and_register


if "keras" in sys.modules:
    _register_generators()
else:
    sys.meta_path.insert(0, _KerasWatch())
