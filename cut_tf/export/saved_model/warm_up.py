"""Requests that TF Serving answers before it offers a version, so that the first user does not wait for tracing.

TF Serving reads them from `assets.extra/tf_serving_warmup_requests` of a SavedModel: a TFRecord of PredictionLog
messages, which it replays when it loads the model. A model without that file is served too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf
from PIL import Image

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.export.options import Size

WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
# TF Serving refuses a model with more records than this.
MOST_RECORDS = 1_000
_FORMATS = ("PNG", "JPEG")
# One of each encoded format, one for each of `with_strength`, `image` and `image_float`.
_RECORDS_PER_SIZE = len(_FORMATS) + 3
_NOISE_LEVELS = 16


def check_warm_up(sizes: Sequence[Size], pixel_limit: int) -> None:
    """Checks the sizes of the warm-up pictures, before anything is written. Does nothing without sizes.

    Args:
      sizes: of the warm-up pictures.
      pixel_limit: greatest height times width that the exported model will take.

    Raises:
      InputError: if a size is above the limit, there are too many, or tensorflow-serving-api is not installed.
    """
    for size in sizes:
        if size.height_px * size.width_px > pixel_limit:
            raise InputError(f"--size must have at most --pixel_limit={pixel_limit} pixels, found {size} with "
                             f"{size.height_px * size.width_px}")
    if len(sizes) * _RECORDS_PER_SIZE > MOST_RECORDS:
        raise InputError(f"--size must name at most {MOST_RECORDS // _RECORDS_PER_SIZE} sizes, since TF Serving takes "
                         f"{MOST_RECORDS} warm-up requests and a size needs {_RECORDS_PER_SIZE}, found {len(sizes)}")
    if sizes:
        _serving_messages()


def write_warm_up(saved_model: Path, model: str, sizes: Sequence[Size]) -> None:
    """Adds warm-up requests to a SavedModel: for each size one of every signature, and of every encoded format.

    Args:
      saved_model: folder of the SavedModel. Without sizes nothing is written there.
      model: name by which TF Serving will serve it.
      sizes: of the pictures, as `check_warm_up` takes them.

    Raises:
      InputError: if tensorflow-serving-api is not installed.
      OSError or tf.errors.OpError: if the disk refuses.
    """
    if not sizes:
        return
    path = saved_model / WARM_UP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in _records(model, sizes):
            writer.write(record)


def _records(model: str, sizes: Sequence[Size]) -> Iterator[bytes]:
    """Serialised PredictionLog messages, one at a time, since many large pictures would fill the memory."""
    predict_pb2, prediction_log_pb2 = _serving_messages()
    for size in sizes:
        for signature, inputs in _inputs(warm_up_picture(size)):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            yield log.SerializeToString()


def _inputs(picture: np.ndarray) -> Iterator[tuple[str, dict[str, object]]]:
    """(signature, its inputs by name) of every way to send a picture, uint8 [H, W, 3]."""
    for kind in _FORMATS:
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, kind)
        yield "serving_default", {"image_bytes": [encoded.getvalue()]}
    yield "with_strength", {"image_bytes": [encoded.getvalue()], "strength": np.array([0.5], np.float32)}
    yield "image", {"image": picture[None]}
    yield "image_float", {"image": images.from_bytes(picture[None]).numpy()}


def warm_up_picture(size: Size) -> np.ndarray:
    """A gradient with noise, uint8 [H, W, 3]; the same whenever it is drawn.

    Noise alone would make encoded pictures larger than photographs are, a gradient alone smaller.
    """
    rng = np.random.default_rng(0)
    rows = np.linspace(0.0, 255.0 - _NOISE_LEVELS, size.height_px)[:, None, None]
    columns = np.linspace(255.0 - _NOISE_LEVELS, 0.0, size.width_px)[None, :, None]
    weights = np.array([0.0, 0.5, 1.0])
    smooth = weights * rows + (1.0 - weights) * columns
    noise = rng.integers(0, _NOISE_LEVELS + 1, (size.height_px, size.width_px, 3))
    return (smooth + noise).astype(np.uint8)


def _serving_messages() -> tuple[ModuleType, ModuleType]:
    """tensorflow-serving-api's predict_pb2 and prediction_log_pb2, which only exports with warm-up need."""
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise InputError(f'--size needs tensorflow-serving-api, which writes the warm-up requests, found: {error}; '
                         'pip install "cut_tf[serving]", or leave --size out') from error
    return predict_pb2, prediction_log_pb2
