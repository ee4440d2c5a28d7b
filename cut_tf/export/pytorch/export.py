"""A run's networks as state dicts with the names of the official PyTorch code, in two file formats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

from cut_tf import networks
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.export.options import DEFAULTS, ExportOptions
from cut_tf.networks.heads.patch_projector import PatchProjector
from cut_tf.official.names import state_dict
from cut_tf.official.writing import pth_bytes, safetensors_bytes
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator

_LOG = logging.getLogger(__name__)
# Network of a run to its name in the official code's files, for training there.
_OTHERS = {"discriminator": "D", "projector": "F"}


def export_pytorch(translator: Translator, folder: Path, options: ExportOptions = DEFAULTS) -> Path:
    """Writes latest_net_G.pth, and D and F where the run has them as the official code does; .safetensors likewise.

    Args:
      translator: the trained generator.
      folder: made if it is not there; `checkpoints/NAME` of the official code takes the files.
      options: without sizes, which a state dict has none of.

    Returns:
      `folder`.

    Raises:
      InputError: if the official code has no such generator, a file is there already, or the disk refuses; nothing is
        written then.
    """
    if options.sizes:
        raise InputError(f"--size must not be given with --format=pytorch, which fixes no size, found "
                         f"{','.join(map(str, options.sizes))}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output must be a folder, found the file {folder}")
    found, files = _state_dicts(translator), {}
    for suffix, encode in ((".pth", pth_bytes), (".safetensors", safetensors_bytes)):
        try:
            files.update({f"latest_net_{name}{suffix}": encode(arrays) for name, arrays in found.items()})
        except ImportError:
            _LOG.warning("no .safetensors is written, which needs pip install 'cut_tf[weights]'")
    present = next((folder / name for name in files if (folder / name).exists()), None)
    if present is not None:
        raise InputError(f"--output={folder}: {present} is there already and is not replaced; remove it or name "
                         "another folder")
    _write(folder, files)
    _LOG.info("options of the official code for these files: %s", official_options(translator.settings, found))
    return folder


def _state_dicts(translator: Translator) -> dict[str, dict[str, np.ndarray]]:
    """By the name of the network in the official code."""
    settings = translator.settings
    try:
        found = {"G": state_dict(translator.generator, settings)}
    except TypeError as error:
        raise InputError("--format=pytorch must be for a run with --generator=resnet or stylegan2, which the official "
                         f"code has, found --generator={settings.generator.generator}") from error
    for name, short in _OTHERS.items():
        if not translator.has(name):
            continue
        network = _BUILDERS[name](settings, translator.generator)
        try:
            arrays = state_dict(network, settings)  # before the checkpoint is read: the names alone may be foreign
            translator.restore(network, name)
        except (TypeError, InputError) as error:
            _LOG.info("the %s is left out: %s", name, error)
            continue
        found[short] = arrays if not arrays else state_dict(network, settings)
    return found


def _projector(settings: Settings, generator: keras.Model) -> keras.Model:
    projector = settings.projector
    return PatchProjector(generator.feature_channels(settings.patch_nce.layers()), projector.projector_width,
                          use_mlp=projector.projector == "mlp")


_BUILDERS: dict[str, Callable[[Settings, keras.Model], keras.Model]] = {
    "discriminator": lambda settings, _: networks.build_discriminator(settings), "projector": _projector}


def official_options(settings: Settings, written: Iterable[str] = ("G",)) -> str:
    """Command line options with which the official code builds the same networks: those of G, D, F in `written`."""
    options = [_generator_options(settings)]
    if "D" in written:
        options.append(_discriminator_options(settings))
    if "F" in written:
        netf = (f"mlp_sample --netF_nc {settings.projector.projector_width}"
                if settings.projector.projector == "mlp" else "sample")
        options.append(f"--netF {netf} --nce_layers {','.join(map(str, settings.patch_nce.layers()))}")
    return " ".join(options)


def _discriminator_options(settings: Settings) -> str:
    ndf = f"--ndf {settings.discriminator.ndf}"
    if settings.discriminator.discriminator == "stylegan2":
        return f"--netD stylegan2 {ndf}"
    patchgan = settings.patchgan
    return f"--netD n_layers --n_layers_D {patchgan.discriminator_layers} {ndf} --normD {patchgan.discriminator_norm}"


def _generator_options(settings: Settings) -> str:
    generator, antialias = settings.generator, settings.antialias
    if generator.generator == "stylegan2":
        size = settings.stylegan2.stylegan2_size_px
        return (f"--netG stylegan2 --ngf {generator.ngf} --crop_size {size} --load_size {size} "
                f"--stylegan2_G_num_downsampling {settings.stylegan2.stylegan2_downsamplings}")
    options = [f"--netG resnet_{generator.generator_blocks}blocks", f"--ngf {generator.ngf}",
               f"--normG {generator.generator_norm}", "--no_dropout true"]
    options += [] if antialias.antialias_down else ["--no_antialias"]
    options += [] if antialias.antialias_up else ["--no_antialias_up"]
    return " ".join(options)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
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
