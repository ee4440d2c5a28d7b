"""Contrastive image-to-image translation and dehazing in TensorFlow and Keras.

    import cut_tf
    model = cut_tf.CUT(cut_tf.Settings())

Importing this package does no work: names are loaded when they are first used.
"""

from __future__ import annotations

import importlib

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
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cut_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_HOMES]
