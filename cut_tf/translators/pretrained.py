"""Trained generators as Keras models: of the shipped models by name, of runs, of exports.

A SavedModel that cut_tf.export writes has a JSON file of what its generator is made of. With it and the variables
beside it the Keras model can be made again, on either stack.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cut_tf import compat
from cut_tf.checkpoints import run_and_step
from cut_tf.common import registry
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.networks import GENERATORS
from cut_tf.networks.generators.base import Generator
from cut_tf.networks.keras_files import SUFFIX, load_keras_file
from cut_tf.translators.exported import newest_version
from cut_tf.translators.run import Translator
from cut_tf.translators.shipped import shipped_models

# In a SavedModel. TF Serving reads only its own files there.
_DESCRIPTION = Path("assets.extra", "cut_tf_generator.json")
# Name under which a SavedModel's variables are stored, by place.
_VARIABLE = "_weights/{place}/.ATTRIBUTES/VARIABLE_VALUE"


def from_pretrained(name_or_path: str | Path) -> Generator:
    """A trained generator as a Keras model: call it, `predict`, `translate` pictures, `save` or train it further.

    Args:
      name_or_path: a shipped model, such as dehaze_mobile; or the path of a run (DIR, DIR@STEP), of a SavedModel or a
        folder of its versions, of a hub folder, or of a .keras file. A folder of that name goes first.

    Returns:
      float32 [B, H, W, 3] in [-1, 1] to the same, any H and W of at least 16. Of a run, the running means of its
      weights.

    Raises:
      InputError: if it is none of these.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX:
        return load_keras_file(path)
    if (run_and_step(path)[0] / "settings.json").is_file():
        return Translator(path).generator
    shipped = shipped_models()
    if not path.is_dir() and str(name_or_path) not in shipped:
        raise InputError(f"from_pretrained must be given a model ({', '.join(shipped)}) or the path of a run, a "
                         f"SavedModel or a .keras file, found {str(name_or_path)!r}")
    return _of_saved_model(newest_version(path if path.is_dir() else shipped[str(name_or_path)], "from_pretrained"))


def write_description(saved_model: Path, generator: keras.Model) -> None:
    """Adds to a SavedModel, whose `_weights` are `generator.variables`, what `from_pretrained` needs.

    Raises:
      InputError: if the file cannot be written.
    """
    if not isinstance(generator, Generator):
        return
    names = {id(variable): name for name, variable in compat.named_weights(generator).items()}
    config = generator.get_config()
    description = {"generator": config["settings"]["generator"], "seed": config["seed"], "dtype": config["dtype"],
                   "settings": config["settings"],
                   "weights": [names.get(id(compat.raw_variable(variable)), "") for variable in generator.variables]}
    path = saved_model / _DESCRIPTION
    path.parent.mkdir(exist_ok=True)
    replace_file(path, (json.dumps(description, indent=1) + "\n").encode())


def _of_saved_model(version: Path) -> Generator:
    path = version / _DESCRIPTION
    if not path.is_file():
        raise InputError(f"from_pretrained must be given a SavedModel that this version of cut_tf exported, found no "
                         f"{_DESCRIPTION.name} in {version}; cut_tf.translate --saved_model takes it all the same")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        row = registry.lookup(GENERATORS, found["generator"], "--generator")
        generator = row.load().from_config({"settings": found["settings"], "seed": found["seed"],
                                            "dtype": found["dtype"], "name": "generator"})
        stored = tf.train.load_checkpoint(str(version / "variables" / "variables"))
        own = compat.named_weights(generator)
        places = {name: place for place, name in enumerate(found["weights"]) if name}
        if set(places) != set(own):
            raise ValueError(f"weights are missing or unknown: {sorted(set(places) ^ set(own))[:3]}")
        for name, variable in own.items():
            variable.assign(stored.get_tensor(_VARIABLE.format(place=places[name])))
    except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise InputError(f"{path} must describe the generator of its SavedModel, found: {error}") from error
    return generator
