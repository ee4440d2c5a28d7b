"""A generator as a SavedModel, in the numbered folders that TF Serving watches."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cut_tf import networks
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.common.strength import FULL
from cut_tf.export.options import DEFAULT_PIXEL_LIMIT, DEFAULTS, HALF, ExportOptions
from cut_tf.export.representative import psnr_db, representative_pictures
from cut_tf.export.saved_model.encoded_images import blend_encoded, translate_encoded
from cut_tf.export.saved_model.serving_files import model_name, write_serving_files
from cut_tf.export.saved_model.warm_up import check_warm_up, write_warm_up
from cut_tf.layers import kernels
from cut_tf.layers.padding import crop_to, repeat_to
from cut_tf.translators.exported import is_version
from cut_tf.translators.pretrained import write_description
from cut_tf.translators.run import Translator

_LOG = logging.getLogger(__name__)
# Height and width of the pictures on which the export is compared with the generator; not all are multiples of 4.
_CHECKED_SIZES_PX = ((64, 64), (37, 50))
_MOST_LEVELS = 1
# PSNR of a model in bfloat16 against the generator in float32, as that of .tflite files with weights in int8.
_LEAST_BFLOAT16_DB = 45.0
# `on_cpu` of a ServingModule by --serve_on.
_ON_CPU = {"cpu": True, "gpu": False}


class ServingModule(tf.Module):
    """What is saved: the generator's weights and its signatures; no Keras, so both stacks can write and load it.

    Args:
      generator: float32 [B, H, W, 3] in [-1, 1] to the same.
      pixel_limit: greatest height times width of an encoded picture.
      on_cpu: whether it is made for servers with a CPU alone, which translate the pictures of a batch one by one; if
        None, it is if this machine has no GPU.
    """

    def __init__(self, generator: keras.Model, pixel_limit: int = DEFAULT_PIXEL_LIMIT,
                 on_cpu: bool | None = None) -> None:
        super().__init__(name="generator")
        # The variables alone are tracked: that makes the smallest graph.
        self._weights = list(generator.variables)
        self._call = generator.call
        self._pixel_limit = pixel_limit
        self._on_cpu = not kernels.on_gpu() if on_cpu is None else on_cpu

    def _translate(self, pixels: tf.Tensor) -> tf.Tensor:
        """float32 [B, H, W, 3] in [-1, 1] to the same, any H, W."""
        with kernels.fast_at_any_size(self._on_cpu):
            output = self._call(repeat_to(pixels, images.MIN_SIDE_PX), training=False)
        return crop_to(tf.cast(output, tf.float32), pixels)

    def _traced(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """`_translate` as a graph that all signatures call, so that the network is in the file once."""
        spec = tf.TensorSpec([1 if self._on_cpu else None, None, None, 3], tf.float32)
        translate = tf.function(self._translate, input_signature=[spec]).get_concrete_function()
        if not self._on_cpu:
            return translate

        def one_by_one(pixels: tf.Tensor) -> tf.Tensor:
            if pixels.shape[0] == 1:
                return translate(pixels)
            return tf.cond(tf.size(pixels) > 0, lambda: tf.map_fn(
                lambda one: translate(one[None])[0], pixels, parallel_iterations=1), lambda: pixels)

        return one_by_one

    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """The four ways to call the model.

        serving_default: `image_bytes`, string [B] of JPEG, PNG, BMP or GIF (first frame), sizes may differ, to
        `output_bytes`, string [B] of PNG. image: uint8 [B, H, W, 3] to the same, any H, W. image_float: float32 in
        [-1, 1] to the same. with_strength: like serving_default, with a second input `strength`, float32 [B] or [1] in
        [0, 1], see `common.strength`. Its default, 1, is in the signature, where TF Serving finds it for gRPC. Names of
        encoded pictures end in `_bytes`, which TF Serving's REST interface writes as base64.

        `strength` is no input of serving_default, since TF Serving's REST interface wants all inputs of a signature by
        name, those with a default too: requests of one unnamed picture would fail.
        """
        shape = [None, None, None, 3]
        translate_floats, full = self._traced(), tf.constant([FULL])

        def translate(pixels: tf.Tensor) -> tf.Tensor:
            return images.to_bytes(translate_floats(images.from_bytes(pixels)))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        def encoded(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"output_bytes": translate_encoded(image_bytes, translate, self._pixel_limit)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes"),
                                      tf.TensorSpec([None], tf.float32, "strength")])
        def with_strength(image_bytes: tf.Tensor, strength: tf.Tensor = full) -> dict[str, tf.Tensor]:
            return {"output_bytes": blend_encoded(image_bytes, strength, translate, self._pixel_limit)}

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, "image")])
        def image(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"image": translate(pixels)}

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "image")])
        def image_float(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"image": translate_floats(pixels)}

        # A concrete function has no defaults, so with_strength is given to tf.saved_model.save as it is.
        return {"serving_default": encoded.get_concrete_function(), "image": image.get_concrete_function(),
                "image_float": image_float.get_concrete_function(), "with_strength": with_strength}


def next_version(folder: Path) -> int:
    """One more than the largest number among the names in `folder`, or 1."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max([int(name) for name in names if is_version(name)], default=0) + 1


def export_saved_model(translator: Translator, folder: Path, options: ExportOptions = DEFAULTS) -> Path:
    """Writes the model's next version, and beside its folder what TF Serving needs (see `serving_files`).

    Args:
      translator: the trained generator.
      folder: of the model; made if it is not there. Its last part becomes the model's name.
      options: sizes of the warm-up pictures and pixel limit.

    Returns:
      The folder of the new version.

    Raises:
      InputError: for sizes that the model would refuse, if tensorflow-serving-api is missing and needed, if the
        folder's name is no model name, and for the reasons of `save_version`.
    """
    model_name(folder)
    check_warm_up(options.sizes, options.pixel_limit)
    return save_version(translator, folder, options, before_publishing=write_serving_files)


def save_version(translator: Translator, folder: Path, options: ExportOptions,
                 before_publishing: Callable[[Path], Callable[[], None]] | None = None) -> Path:
    """Writes `folder/<next version>`: aside first, compared with the generator, then renamed.

    Args:
      translator: the trained generator.
      folder: of the model; made if it is not there.
      options: sizes of the warm-up pictures, checked already, and pixel limit.
      before_publishing: called with `folder` just before the version appears. If it raises, no version appears. What it
        returns is called once the version is there.

    Returns:
      The folder of the new version.

    Raises:
      InputError: if the disk refuses, or the saved model draws other pictures, or in bfloat16 misses its gate; nothing
        is left in `folder`.
    """
    pictures = representative_pictures(options.representative, None)[1::2] if options.precision == HALF else []
    path = folder / str(next_version(folder))
    aside = folder / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        module = ServingModule(translator.generator, options.pixel_limit, _ON_CPU.get(options.serve_on))
        tf.saved_model.save(module, str(aside), signatures=module.signatures())
        levels = largest_difference(aside, translator)
        if levels > _MOST_LEVELS:
            raise InputError(f"--output={folder}: the exported model must draw the generator's pictures within "
                             f"{_MOST_LEVELS} level, found {levels} levels of difference; nothing was written")
        if pictures:
            _check_quality(aside, translator, pictures, options)
        write_description(aside, translator.generator)
        write_warm_up(aside, model_name(folder), options.sizes)
        announce = before_publishing(folder) if before_publishing is not None else None
        os.rename(aside, path)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"--output={folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if announce is not None:
        announce()
    sizes = " and ".join(f"{height}x{width}" for height, width in _CHECKED_SIZES_PX)
    _LOG.info("same pixels within %d level(s) of 255 as the generator, checked on noise of %s px", levels, sizes)
    return path


def _check_quality(saved_model: Path, translator: Translator, pictures: list[np.ndarray],
                   options: ExportOptions) -> None:
    """Raises InputError if a model in bfloat16 is farther from the generator in float32 than its gate allows."""
    exact = networks.build_generator(translator.settings)
    for variable, value in zip(exact.variables, translator.generator.variables):
        variable.assign(value)
    image = tf.saved_model.load(str(saved_model)).signatures["image_float"]
    psnr = psnr_db([exact(picture, training=False).numpy() for picture in pictures],
                   [image(image=tf.constant(picture))["image"].numpy() for picture in pictures])
    if psnr < _LEAST_BFLOAT16_DB and not options.allow_quality_loss:
        raise InputError(f"--precision=bfloat16: PSNR against the generator in float32 must be at least "
                         f"{_LEAST_BFLOAT16_DB:g} dB on {len(pictures)} pictures of {options.representative}, found "
                         f"{psnr:.1f} dB; --allow_quality_loss writes it all the same; nothing was written")
    _LOG.info("PSNR against the generator in float32: %.1f dB on %d pictures of %s", psnr, len(pictures),
              options.representative)


def largest_difference(saved_model: Path, translator: Translator) -> int:
    """Largest difference in levels of 0..255 between a SavedModel's pictures and the generator's, on noise."""
    image = tf.saved_model.load(str(saved_model)).signatures["image"]
    rng = np.random.default_rng(0)
    differences = []
    for height, width in _CHECKED_SIZES_PX:
        picture = rng.integers(0, 256, [height, width, 3], np.uint8)
        found = image(image=tf.constant(picture[None]))["image"].numpy()[0]
        differences.append(np.abs(found.astype(int) - translator(picture)).max())
    return int(max(differences))
