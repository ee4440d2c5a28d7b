"""A generator as a folder for Hugging Face and Kaggle: SavedModel, Keras, LiteRT, card, metadata, checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.data.domain import TranslationData
from cut_tf.data.image_files import write_image
from cut_tf.export.hub import texts
from cut_tf.export.hub.measured import Measured, measure
from cut_tf.export.options import DEFAULTS, ExportOptions
from cut_tf.export.representative import ANY_SIDE_PX, open_inputs
from cut_tf.export.saved_model.export import save_version
from cut_tf.export.saved_model.serving_files import model_name
from cut_tf.export.saved_model.warm_up import check_warm_up
from cut_tf.export.tflite.export import build_files, file_names
from cut_tf.networks.keras_files import SUFFIX, save_keras_file
from cut_tf.translators.exported import SavedModelTranslator
from cut_tf.translators.run import Translator

CHECKSUMS = "SHA256SUMS"


def export_hub(translator: Translator, folder: Path, options: ExportOptions = DEFAULTS) -> Path:
    """Writes the folder: all of it, or nothing.

    Args:
      translator: the trained generator.
      folder: made if it is not there; nothing in it is replaced. Its last part becomes the model's name.
      options: all of them.

    Returns:
      `folder`.

    Raises:
      InputError: if something that would be written is there already, the folder's name is no model name, and for the
        reasons of the formats saved_model and tflite.
    """
    folder = Path(os.path.abspath(folder))
    name = model_name(folder)
    check_warm_up(options.sizes, options.pixel_limit)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder, found the file {folder}")
    _check_free(folder, [*_fixed_names(name), *file_names(name, options)])
    pictures = open_inputs(options.representative, ANY_SIDE_PX)
    aside = folder.parent / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        (aside / name).mkdir(parents=True)
        _fill(translator, aside / name, options, pictures)
        _publish(aside / name, folder)
    except OSError as error:
        raise InputError(f"--output={folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _fixed_names(name: str) -> list[str]:
    return ["1", "README.md", "LICENSE", "examples", "metrics.json", "training_settings.json", "model-metadata.json",
            "model-instance-metadata.json", CHECKSUMS, f"{name}{SUFFIX}"]


def _check_free(folder: Path, names: list[str]) -> None:
    present = [name for name in names if os.path.lexists(folder / name)]
    if present:
        raise InputError(f"--output={folder} must not have {present[0]} yet, found that it has; name another folder")


def _fill(translator: Translator, folder: Path, options: ExportOptions, pictures: TranslationData) -> None:
    """Writes everything into an empty folder. Raises InputError or OSError."""
    name = folder.name
    version = save_version(translator, folder, options)
    litert = build_files(translator, name, options)
    for file, data in litert.items():
        (folder / file).write_bytes(data)
    if compat.KERAS_3:
        save_keras_file(translator.generator, folder / f"{name}{SUFFIX}")
    measured = measure(SavedModelTranslator(version), pictures, options.representative)
    facts = texts.Facts(name, translator.settings, translator.step, translator.generator.count_params(),
                        options.license, measured,
                        {file.replace(".json", ".tflite"): json.loads(data) for file, data in litert.items()
                         if file.endswith(".json")},
                        f"{name}{SUFFIX}" if compat.KERAS_3 else "", _write_examples(folder, measured))
    card = texts.card(facts)
    written = {"README.md": card, "LICENSE": texts.license_text(options.license) + "\n",
               "training_settings.json": translator.settings.to_json(), "metrics.json": _json(_metrics(measured)),
               # Kaggle shows the card without its head.
               "model-metadata.json": _json(texts.kaggle_model(facts, card.split("---\n", 2)[2])),
               "model-instance-metadata.json": _json(texts.kaggle_variation(facts))}
    for file, text in written.items():
        (folder / file).write_text(text, encoding="utf-8")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
            for path in paths]
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _metrics(measured: Measured) -> dict[str, object]:
    return {"pictures": measured.source, "pairs": measured.pairs,
            "means": {name: {"input": before, "output": after} for name, (before, after) in measured.metrics.items()}}


def _write_examples(folder: Path, measured: Measured) -> list[str]:
    (folder / "examples").mkdir()
    names = [f"examples/{number}.jpg" for number in range(1, len(measured.examples) + 1)]
    for name, picture in zip(names, measured.examples):
        write_image(folder / name, picture)
    return names


def _publish(filled: Path, folder: Path) -> None:
    """Moves all entries into place, and back again if one of them cannot be moved."""
    moved, is_new = [], not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for entry in sorted(filled.iterdir()):
            os.rename(entry, folder / entry.name)
            moved.append(entry)
    except OSError:
        for entry in moved:
            os.rename(folder / entry.name, entry)
        if is_new:
            folder.rmdir()
        raise
