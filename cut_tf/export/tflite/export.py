"""A generator as TFLite files for phones, each with a report, each as good as its gate says."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import numpy as np
import tensorflow as tf

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.export.options import DEFAULTS, ExportOptions, Size
from cut_tf.export.representative import ANY_SIDE_PX, psnr_db, representative_pictures
from cut_tf.export.tflite import report as tflite_report
from cut_tf.export.tflite.conversion import APPLIED, convert
from cut_tf.export.tflite.metadata import Description, with_metadata
from cut_tf.translators.exported import TFLiteTranslator, interpreter_class
from cut_tf.translators.run import Translator


def export_tflite(translator: Translator, folder: Path, options: ExportOptions = DEFAULTS) -> Path:
    """Writes `<folder name>_<HxW or any>_<quantize>.tflite` and a .json report of each size into `folder`.

    Args:
      translator: the trained generator.
      folder: made if it is not there.
      options: sizes, quantisation, representative pictures, licence.

    Returns:
      `folder`.

    Raises:
      InputError: if a file is there already, pictures or packages are missing, the generator cannot be converted, or a
        file misses the PSNR that its quantisation must keep (`options.allow_quality_loss`); nothing is written then.
    """
    folder = Path(os.path.abspath(folder))
    check_free(folder, options)
    files = build_files(translator, folder.name, options)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            replace_file(folder / name, data)
            written.append(folder / name)
    except (InputError, OSError) as error:
        for path in written:
            path.unlink()
        raise InputError(f"--output={folder} cannot be written: {error}") from error
    return folder


def check_free(folder: Path, options: ExportOptions) -> None:
    """Raises InputError if a file that `export_tflite` would write is there already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder, found the file {folder}")
    for name in file_names(Path(os.path.abspath(folder)).name, options):
        if (folder / name).exists():
            raise InputError(f"--output={folder}: {folder / name} is there already and is not replaced; remove it or "
                             "name another folder")


def file_names(name: str, options: ExportOptions) -> list[str]:
    """Names of the files that `build_files` makes: of each size a .tflite file and its .json report."""
    stems = [f"{name}_{size or 'any'}_{options.quantize}{'_unit' if options.unit_range else ''}"
             for size in options.sizes or (None,)]
    return [f"{stem}{suffix}" for stem in stems for suffix in (".tflite", ".json")]


def build_files(translator: Translator, name: str, options: ExportOptions) -> dict[str, bytes]:
    """The files of all sizes, by `file_names`: content of each, in the same order.

    Raises:
      InputError: as `export_tflite`, but for files.
    """
    interpreter_class()
    contents: list[bytes] = []
    try:
        for size in options.sizes or (None,):
            model, report = _build(translator, size, options)
            contents += [model, (json.dumps(report, indent=2) + "\n").encode()]
    except OSError as error:  # of the folder for temporary files
        raise InputError(f"the generator cannot be converted to TFLite: {error}") from error
    return dict(zip(file_names(name, options), contents))


def _build(translator: Translator, size: Size | None, options: ExportOptions) -> tuple[bytes, dict[str, object]]:
    pictures = representative_pictures(options.representative, size)
    ranges, gate = pictures[0::2], pictures[1::2]
    plain, model = convert(translator.generator, size, options.quantize, ranges, options.unit_range)
    described = with_metadata(model, _description(translator, options), options.unit_range)
    runner = TFLiteTranslator(described)
    outputs = [runner.translate_floats(picture) for picture in gate]
    psnr = psnr_db([np.asarray(translator.generator(picture, training=False), np.float32) for picture in gate], outputs)
    least_db = APPLIED[options.quantize].least_psnr_db
    if psnr < least_db and not options.allow_quality_loss:
        layers = tflite_report.costly_layers(plain, model, gate[0])
        raise InputError(
            f"--quantize={options.quantize}: PSNR against the generator must be at least {least_db:g} dB on "
            f"{len(gate)} pictures of {options.representative}, found {psnr:.1f} dB; most is lost in "
            f"{', '.join(layers) or 'no layer that both files have'}. --allow_quality_loss writes it all the same")
    values = "[0, 1]: level / 255" if options.unit_range else "[-1, 1]: (level - 127.5) / 127.5"
    report = {
        "input": {"shape": [1, *(size or (None, None)), 3], "type": "float32", "values": f"RGB in {values}"},
        "output": {"type": "float32", "values": f"RGB in {values}, of the input's size"},
        "runs_on": "CPU and GPU" if size else "CPU only: sizes that are known only at run time keep GPUs out",
        "method": translator.settings.train.method, "generator": translator.settings.generator.generator,
        "step": translator.step, "quantize": options.quantize, "bytes": len(described), "license": options.license,
        "psnr_db": round(psnr, 2), "least_psnr_db": least_db, "pictures": f"{len(gate)} of {options.representative}",
        "versions": {"cut_tf": cut_tf.__version__, "tensorflow": tf.__version__, "python": platform.python_version()},
        **tflite_report.operations(described, None if size else (ANY_SIDE_PX, ANY_SIDE_PX)),
        "compiled_model": tflite_report.compiled_model(described, gate, outputs) if size else {
            "largest_difference": None, "reason": "for files of one size"},
        "gpu_delegate": tflite_report.gpu_compatibility(described),
    }
    return described, report


def _description(translator: Translator, options: ExportOptions) -> Description:
    settings = translator.settings
    return Description("cut_tf", f"Image-to-image translation: {settings.generator.generator} generator trained by "
                       f"{settings.train.method} on {Path(settings.data.dataset).name or settings.data.dataset}, "
                       f"{translator.step} steps; quantisation {options.quantize}", str(translator.step),
                       options.license)
