"""What translates in the demo: generators by the name shown, each loaded when it is first used."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cut_tf.baselines import BASELINES
from cut_tf.common.errors import InputError
from cut_tf.common.images import Translate
from cut_tf.translators.shipped import shipped_models

Loaders = dict[str, Callable[[], Translate]]

_WARM_UP_PX = 64


class Models:
    """Several generators behind one call, safe for users at the same time.

    Args:
      loaders: by the name shown. The first is what the page starts with.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Translate]]) -> None:
        self._loaders = dict(loaders)
        self._loaded: dict[str, Translate] = {}
        # One network uses all cores already, and a second one would count in the seconds of the first.
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names shown, in their order."""
        return list(self._loaders)

    def load(self, name: str) -> None:
        """Loads a generator and translates a small picture, so that the next one takes no longer than those after it.

        Raises:
          InputError: if there is no such name, or the generator cannot be loaded.
        """
        with self._lock:
            self._load(name)

    def _load(self, name: str) -> Translate:
        if name not in self._loaders:
            raise InputError(f"the model must be one of {', '.join(self._loaders)}, found {name!r}")
        if name not in self._loaded:
            translate = self._loaders[name]()
            translate(np.zeros([_WARM_UP_PX, _WARM_UP_PX, 3], np.uint8), "picture")
            self._loaded[name] = translate
        return self._loaded[name]

    def translate(self, name: str, picture: np.ndarray, where: str) -> tuple[np.ndarray, float]:
        """Translates a picture.

        Args:
          name: of the generator.
          picture: uint8 [H, W, 3].
          where: the picture's name, for messages.

        Returns:
          uint8 [H, W, 3], and the seconds that the generator took; waiting and loading are not counted.

        Raises:
          InputError: as for `load`, or if the generator does not take this picture.
        """
        with self._lock:
            translate = self._load(name)
            start = time.perf_counter()
            output = translate(picture, where)
            return output, time.perf_counter() - start


def given(saved_models: Sequence[str], runs: Sequence[str], tflites: Sequence[str], weights: str = "") -> Loaders:
    """Generators that flags name.

    Args:
      saved_models: folders of SavedModels.
      runs: folders of runs.
      tflites: .tflite files.
      weights: of the runs, as of `Translator`.
    """
    found: Loaders = {}
    for path in saved_models:
        _add(found, _folder_name(path), _saved_model(path))
    for path in runs:
        _add(found, f"run {_folder_name(path)}", _run(path, weights))
    for path in tflites:
        _add(found, Path(path).name, _tflite(path))
    return found


def in_the_box() -> Loaders:
    """The models that cut_tf brings along, in all their forms that can be run here."""
    found: Loaders = {}
    for name, folder in shipped_models().items():
        found[f"{name} (in the box)"] = _saved_model(folder)
        if importlib.util.find_spec("ai_edge_litert"):
            found.update({path.name: _tflite(path) for path in sorted(folder.glob("*.tflite"))})
    return found


def offered(chosen: Loaders, box: Loaders) -> Models:
    """What the demo offers: what flags name, of which all is loaded now, then what is in the box, then the baselines.

    Raises:
      InputError: if what flags name cannot be loaded, or there is nothing but baselines.
    """
    loaders = dict(chosen)
    for name, loader in box.items():
        _add(loaders, name, loader)
    if not loaders:
        raise InputError("one of --saved_model, --run and --tflite must say what translates, found none, and the model "
                         "in the box is not there")
    for name in BASELINES:
        _add(loaders, f"{name}, no network", lambda name=name: _baseline(name))  # each with its own name
    models = Models(loaders)
    for name in chosen or models.names[:1]:
        models.load(name)
    return models


def _add(loaders: Loaders, name: str, loader: Callable[[], Translate]) -> None:
    """Adds a generator. If the name is taken, it gets a number."""
    count = 1
    unique = name
    while unique in loaders:
        count += 1
        unique = f"{name} ({count})"
    loaders[unique] = loader


def _folder_name(path: str) -> str:
    """A folder's name; for a numbered version of a model, the model's and the number."""
    absolute = Path(os.path.abspath(path))
    return f"{absolute.parent.name}/{absolute.name}" if absolute.name.isdigit() else absolute.name


def _saved_model(path: str | Path) -> Callable[[], Translate]:
    def load() -> Translate:
        from cut_tf.translators.exported import SavedModelTranslator  # imports TensorFlow

        return SavedModelTranslator(path)

    return load


def _run(path: str, weights: str) -> Callable[[], Translate]:
    def load() -> Translate:
        from cut_tf.translators.run import Translator

        return Translator(path, weights)

    return load


def _tflite(path: str | Path) -> Callable[[], Translate]:
    def load() -> Translate:
        from cut_tf.translators.exported import TFLiteTranslator

        return TFLiteTranslator(path, threads=os.cpu_count() or 1, resize=True)

    return load


def _baseline(name: str) -> Translate:
    return lambda picture, _: BASELINES[name](picture)
