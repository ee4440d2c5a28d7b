"""From a generator to the bytes of a TFLite file, float or quantised. Built-in operations only."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.export.options import Size
from cut_tf.export.representative import psnr_db
from cut_tf.export.tflite import report
from cut_tf.layers.padding import crop_to, repeat_to
from cut_tf.layers.portable import portable_ops
from cut_tf.translators.exported import IMAGE, SIGNATURE, UNIT_SIGNATURE, TFLiteTranslator

_INT8_LEAST_DB = 35.0
# Margin for unseen pictures, in dB.
_INT8_MARGIN_DB = 3.0
# Wide ranges are so many times what was seen, since unseen pictures may need more, and values beyond are cut off.
_INT8_HEADROOM = 1.3
# A tensor of a model to its least and greatest value.
_Ranges = Mapping[str, Mapping[str, np.ndarray]]
# Of the typical pictures, so many judge, without having a part in the ranges: at least one, at most this share.
_JUDGING_SHARE = 0.3


class Quantization(NamedTuple):
    """How weights and arithmetic are made smaller.

    Attributes:
      apply: (float model's bytes, generator's frozen SavedModel folder, pictures float32 [1, H, W, 3]) to the bytes.
      least_psnr_db: the gate: PSNR against the generator, of float32 values in [-1, 1] with peak 2.
    """

    apply: Callable[[bytes, str, Sequence[np.ndarray]], bytes]
    least_psnr_db: float


def _none(model: bytes, folder: str, pictures: Sequence[np.ndarray]) -> bytes:
    return model


def _float16(model: bytes, folder: str, pictures: Sequence[np.ndarray]) -> bytes:
    """Weights in float16; the arithmetic stays float32 on CPUs, and becomes float16 on GPUs."""
    return _convert(folder, optimize=True, types=[tf.float16])


def _dynamic(model: bytes, folder: str, pictures: Sequence[np.ndarray]) -> bytes:
    """Weights in int8; activations of convolutions are quantised by what each picture needs."""
    return _convert(folder, optimize=True)


def _int8(model: bytes, folder: str, pictures: Sequence[np.ndarray]) -> bytes:
    """Convolutions in int8 with ranges found on most of `pictures`; all else, norms above all, stays float32.

    So do the most sensitive convolutions, as few as the gate needs on the other pictures. Narrow ranges have finer
    steps, wide ones cut less off: which is better depends on the model. Both are tried; the worst of the other
    pictures decides.
    """
    static = _StaticInt8(model, pictures)
    files = [static.quantized(_most_in_int8(static, ranges), ranges) for ranges in static.ranges]
    return max(files, key=lambda file: min(psnr_db([expected], [found]) for expected, found in static.judged(file)))


def _most_in_int8(static: _StaticInt8, ranges: _Ranges) -> Sequence[str]:
    """As many of the convolutions as the gate allows, the least sensitive first."""
    def of_all_db(names: Sequence[str]) -> float:
        return psnr_db(*zip(*static.judged(static.quantized(names, ranges))))

    # One at a time first: how much each convolution alone costs.
    order = sorted(static.convolutions, key=lambda name: of_all_db([name]), reverse=True)
    best, fewest, most = order[:1], 1, len(order)
    while fewest <= most:
        tried = (fewest + most + 1) // 2
        if of_all_db(order[:tried]) >= _INT8_LEAST_DB + _INT8_MARGIN_DB:
            best, fewest = order[:tried], tried + 1
        else:
            most = tried - 1
    return best


class _StaticInt8:
    """Quantises any set of a model's convolutions.

    Attributes:
      convolutions: names of the tensors that they write.
      ranges: of each tensor, two times: narrow, about the mean of what single pictures need, and wide, what all need,
        with room for more.
    """

    def __init__(self, model: bytes, pictures: Sequence[np.ndarray]) -> None:
        try:
            from ai_edge_quantizer import qtyping, quantizer
        except ImportError as error:
            raise InputError("--quantize=int8 needs ai-edge-quantizer: pip install 'cut_tf[mobile]' "
                             f"({error})") from error
        judging = max(1, int(_JUDGING_SHARE * len(pictures)))
        self._model, self._pictures, self._quantizer = model, pictures[-judging:], quantizer.Quantizer
        self._kinds = [qtyping.TFLOperationName.CONV_2D, qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
                       qtyping.TFLOperationName.CONV_2D_TRANSPOSE]
        self.convolutions = report.outputs_of(model, [kind.value for kind in self._kinds])
        runner = TFLiteTranslator(model)
        self._expected = [runner.translate_floats(picture) for picture in self._pictures]
        typical = [{IMAGE: images.to_unit(picture) if runner.unit_range else picture}
                   for picture in pictures[:-judging] or pictures]
        signature = UNIT_SIGNATURE if runner.unit_range else SIGNATURE
        recipe = self._recipe(self.convolutions)
        # Of several pictures, the quantizer takes a running mean of the extremes of each.
        single = [recipe.calibrate({signature: [picture]}) for picture in typical]
        self.ranges: tuple[_Ranges, _Ranges] = (
            recipe.calibrate({signature: typical}),
            {tensor: {"min": _INT8_HEADROOM * np.min([each[tensor]["min"] for each in single], axis=0),
                      "max": _INT8_HEADROOM * np.max([each[tensor]["max"] for each in single], axis=0)}
             for tensor in single[0]})

    def _recipe(self, names: Sequence[str]) -> object:
        recipe = self._quantizer(self._model)
        for name in names:
            for kind in self._kinds:
                recipe.add_static_config(f"^{re.escape(name)}", kind, activation_num_bits=8, weight_num_bits=8)
        return recipe

    def quantized(self, names: Sequence[str], ranges: _Ranges) -> bytes:
        """The model with the convolutions that write these tensors in int8."""
        result = self._recipe(names).quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        return bytes(result.quantized_model)

    def judged(self, file: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
        """What the model and a quantised one make of the pictures that judge."""
        runner = TFLiteTranslator(file)
        return [(expected, runner.translate_floats(picture))
                for expected, picture in zip(self._expected, self._pictures)]


# A key of `options.QUANTIZATIONS` to what it does and what it must keep.
APPLIED = {
    "none": Quantization(_none, 90.0),
    "float16": Quantization(_float16, 60.0),
    "dynamic": Quantization(_dynamic, 45.0),
    "int8": Quantization(_int8, _INT8_LEAST_DB),
}


def convert(generator: keras.Model, size: Size | None, quantize: str,
            pictures: Sequence[np.ndarray], unit_range: bool = False) -> tuple[bytes, bytes]:
    """The float32 file, and the one that `quantize` makes of it.

    Args:
      generator: float32 [B, H, W, 3] in [-1, 1] to the same, any size.
      size: of the input; any if None.
      quantize: a key of `options.QUANTIZATIONS`.
      pictures: typical inputs, float32 [1, H, W, 3] in [-1, 1] of that size.
      unit_range: give the files an input and output in [0, 1].

    Raises:
      InputError: if the generator has operations that TFLite has not, or a package is missing.
    """
    with tempfile.TemporaryDirectory(prefix="cut_tf_tflite_") as folder, _quiet():
        _save_frozen(generator, size, folder, unit_range)
        plain = _convert(folder)
        return plain, APPLIED[quantize].apply(plain, folder, pictures)


def _save_frozen(generator: keras.Model, size: Size | None, folder: str, unit_range: bool) -> None:
    """A SavedModel whose weights are constants: the converter would keep variables as such."""
    spec = tf.TensorSpec([1, *(size or (None, None)), 3], tf.float32, IMAGE)

    def translate(image: tf.Tensor) -> tf.Tensor:
        values = images.from_unit(image) if unit_range else image
        output = generator.call(repeat_to(values, images.MIN_SIDE_PX), training=False)
        output = crop_to(tf.cast(output, tf.float32), image)
        return images.to_unit(output) if unit_range else output

    with portable_ops():
        traced = tf.function(translate, input_signature=[spec]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    module = tf.Module()
    module.translate = tf.function(lambda image: {IMAGE: frozen(image)[0]}, input_signature=[spec])
    tf.saved_model.save(module, folder, signatures={UNIT_SIGNATURE if unit_range else SIGNATURE: module.translate})


def _convert(folder: str, optimize: bool = False, types: Sequence[tf.DType] = ()) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)  # which has one signature
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if optimize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = list(types)
    try:
        return converter.convert()
    except Exception as error:  # the converter raises errors of its own, which share no base with others
        reason = str(error).strip().split("\n")
        named = [line for line in reason if "TF Select ops" in line or "Custom ops" in line] or reason[:1]
        raise InputError(f"the generator cannot be converted to TFLite: {named[0][:300]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter tells its developers much on stdout and in TensorFlow's log."""
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
