"""Official weight files as the folder of a run, which translate, export, evaluate and training take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras

from cut_tf import compat, networks
from cut_tf.checkpoints import IMPORTED, SETTINGS, CheckpointStore, write_settings
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file, whole_folder
from cut_tf.networks.heads.patch_projector import PatchProjector
from cut_tf.official import architectures
from cut_tf.official.architectures import Found
from cut_tf.official.names import load
from cut_tf.official.weight_files import read_weights
from cut_tf.settings import Settings

# Flag of cut_tf.import_weights to the network of a run that its file holds.
NETWORKS = {"input": "generator", "discriminator": "discriminator", "projector": "projector",
            "backward_generator": "backward_generator", "backward_discriminator": "backward_discriminator"}
# The official default of --nce_layers by generator.
_LAYERS = {"resnet": "0,4,8,12,16", "stylegan2": "0,2,4"}
# The official test command resizes to it, with its defaults.
_TEST_SIZE_PX = 256


class Imported(NamedTuple):
    """What was found in the files.

    Attributes:
      settings: of the run.
      notes: for people.
    """

    settings: Settings
    notes: tuple[str, ...]


def import_run(files: Mapping[str, Path], folder: Path, nce_layers: str = "") -> Imported:
    """Writes the folder of a run at step 0 with the weights of official files.

    Args:
      files: by the names of NETWORKS' networks; at least that of the generator. A backward generator or discriminator
        must be like its counterpart.
      folder: new or empty.
      nce_layers: the features that a projector was trained on, if they are not the official default's.

    Raises:
      InputError: naming the file and the reason, if a file cannot be read or is of another network, if files do not fit
        together, or the folder is not empty or cannot be written; nothing is written then.
    """
    places.check_tensorflow_can_read(folder, "--output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output must be a new or empty folder, found other files in {folder}")
    weights = {name: read_weights(path) for name, path in files.items()}
    found = _infer(files, weights)
    settings = _settings(found, nce_layers)
    made = {}
    for name in files:
        if name != "projector":
            build = networks.build_generator if name.endswith("generator") else networks.build_discriminator
            made[name] = build(settings)
            load(made[name], found[name].learned(weights[name]), "")
    if "projector" in files:
        settings, made["projector"] = _projector(files["projector"], weights["projector"], settings, made["generator"],
                                                 nce_layers)
    _write(folder, settings, made, files)
    return Imported(settings, sum((entry.notes for entry in found.values()), ()))


def _infer(files: Mapping[str, Path], weights: Mapping[str, Mapping]) -> dict[str, Found]:
    """What every file but the projector's holds."""
    found, size_px = {}, 0
    for name in files:
        if name.endswith("discriminator"):
            found[name] = architectures.infer_discriminator(files[name], weights[name])
            size_px = found[name].values.get("stylegan2_size_px", 0)
    for name in files:
        if name.endswith("generator"):
            found[name] = architectures.infer_generator(files[name], weights[name], size_px)
    for name, entry in found.items():
        for other, its in found.items():
            for setting in entry.values.keys() & its.values.keys():
                if entry.values[setting] != its.values[setting]:
                    raise InputError(f"{files[other]}: must fit {files[name]}, whose --{setting} is "
                                     f"{entry.values[setting]}, found {its.values[setting]}")
    return found


def _settings(found: Mapping[str, Found], nce_layers: str) -> Settings:
    values = {key: value for entry in found.values() for key, value in entry.values.items()}
    generator = values["generator"]
    plain = generator == "resnet" and not (values["antialias_down"] or values["antialias_up"])
    method = "sincut" if generator == "stylegan2" else "cyclegan" if plain else "cut"
    crop = values.get("stylegan2_size_px", _TEST_SIZE_PX)
    if values.get("discriminator") == "patch":
        crop = max(crop, 3 * 2 ** values["discriminator_layers"])
    return Settings.of(**values, method=method, dataset="unknown", ema_decay=0.0, odd_sizes="official",
                       load_size_px=crop, crop_size_px=crop, nce_layers=nce_layers or _LAYERS[generator])


def _projector(path: Path, weights: Mapping, settings: Settings, generator: keras.Model,
               nce_layers: str) -> tuple[Settings, PatchProjector]:
    """The settings with those of the projector, and the projector."""
    found, channels = architectures.infer_projector(path, weights)
    settings = settings.having(**found.values)
    layers = settings.patch_nce.layers()
    advice = "give --nce_layers, the stages of the generator that it was trained on"
    try:
        generator.check_layers(layers)
    except InputError as error:
        raise InputError(f"{path}: {error}; {advice}") from error
    if channels and generator.feature_channels(layers) != channels:
        raise InputError(f"{path}: its features must have the channels {_text(generator.feature_channels(layers))} of "
                         f"--nce_layers={settings.patch_nce.nce_layers}, found {_text(channels)}"
                         + ("" if nce_layers else f"; {advice}"))
    projector = PatchProjector(generator.feature_channels(layers), settings.projector.projector_width,
                               use_mlp=bool(channels))
    load(projector, found.learned(weights), "")
    # A projector tells CUT's generator from CycleGAN's, which it may otherwise equal.
    method = "cut" if settings.train.method == "cyclegan" else settings.train.method
    return settings.having(method=method), projector


def _text(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def _write(folder: Path, settings: Settings, made: Mapping[str, keras.Model], files: Mapping[str, Path]) -> None:
    record = {name: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
              for name, path in files.items()}
    state = {f"{name}/{key}": variable for name, network in made.items()
             for key, variable in compat.named_weights(network).items()}
    try:
        with whole_folder(folder, SETTINGS) as aside:
            write_settings(aside, settings)
            CheckpointStore(aside, keep=1).save(state, 0, settings)
            replace_file(aside / IMPORTED, (json.dumps(record, indent=2) + "\n").encode())
    except (InputError, OSError) as error:
        raise InputError(f"--output={folder} cannot be written: {error}") from error
