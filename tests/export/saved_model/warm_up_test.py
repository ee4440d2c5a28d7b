"""Warm-up requests in the form in which TF Serving replays them."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.export.options import ExportOptions, Size
from cut_tf.export.saved_model import warm_up
from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator

SIZES = (Size(16, 24), Size(33, 20))


@pytest.fixture(scope="module")
def translator(tmp_path_factory, tiny_settings):
    """The Translator of a saved run."""
    method = build_method(tiny_settings())
    method.compile()
    folder = tmp_path_factory.mktemp("warm_up") / "run"
    method.save(folder)
    return Translator(folder)


@pytest.fixture(scope="module")
def version(translator, tmp_path_factory):
    """A version with warm-up requests."""
    pytest.importorskip("tensorflow_serving.apis",
                        reason="tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'")
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return export_saved_model(translator, folder, ExportOptions(SIZES, pixel_limit=33 * 20))


def _requests(path):
    """PredictRequests in the file that TF Serving looks for."""
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(path / "assets.extra" / "tf_serving_warmup_requests")).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_every_signature_is_warmed_up_in_every_size(version):
    requests = _requests(version)
    assert len(requests) == 10 and {request.model_spec.name for request in requests} == {"tiny"}
    sizes, formats = {}, []
    for request in requests:
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        if request.model_spec.signature_name == "with_strength":
            assert inputs.pop("strength").tolist() == [0.5]
        (name, array), = inputs.items()
        if name == "image_bytes":
            assert array.shape == (1,)
            picture = Image.open(io.BytesIO(array[0]))
            formats.append(picture.format)
            shape = (picture.height, picture.width)
        else:
            assert name == "image" and array.shape[0] == 1 and array.shape[3] == 3
            shape = array.shape[1:3]
        sizes.setdefault(request.model_spec.signature_name, []).append(shape)
    assert sizes == {"serving_default": [(16, 24)] * 2 + [(33, 20)] * 2, "with_strength": [(16, 24), (33, 20)],
                     "image": [(16, 24), (33, 20)], "image_float": [(16, 24), (33, 20)]}
    assert formats == ["PNG", "JPEG", "JPEG"] * 2
    assert set(sizes) == set(tf.saved_model.load(str(version), tags=["serve"]).signatures)


def test_the_exported_model_answers_its_warm_up(version, translator):
    signatures = tf.saved_model.load(str(version), tags=["serve"]).signatures
    for request in _requests(version):
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        answer, = signatures[request.model_spec.signature_name](
            **{name: tf.constant(value) for name, value in inputs.items()}).values()
        if request.model_spec.signature_name == "image":
            expected = translator(inputs["image"][0])
            assert np.abs(answer.numpy()[0].astype(int) - expected).max() <= 1
        elif request.model_spec.signature_name == "image_float":
            assert answer.shape == inputs["image"].shape and np.abs(inputs["image"]).max() <= 1
        else:
            picture = Image.open(io.BytesIO(answer.numpy()[0]))
            assert picture.format == "PNG" and picture.size == Image.open(io.BytesIO(inputs["image_bytes"][0])).size


def test_pictures_are_the_same_each_time_and_lie_between_noise_and_gradient():
    size = Size(200, 300)
    picture = warm_up.warm_up_picture(size)
    np.testing.assert_array_equal(picture, warm_up.warm_up_picture(size))
    assert picture.shape == (200, 300, 3) and picture.dtype == np.uint8
    assert picture.min() < 10 and picture.max() > 245
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    assert 0.2 < len(file.getvalue()) / picture.size < 0.9


def test_without_sizes_there_is_no_warm_up_and_no_need_of_the_serving_api(translator, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    path = export_saved_model(translator, tmp_path / "models" / "tiny")
    assert not (path / "assets.extra" / "tf_serving_warmup_requests").exists()


def test_sizes_without_the_serving_api_are_refused_before_anything_is_written(translator, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"--size needs tensorflow-serving-api, .*pip install \"cut_tf\[serving\]\""):
        export_saved_model(translator, tmp_path / "models" / "tiny", ExportOptions(SIZES))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sizes, limit, message", [
    ((Size(16, 16), Size(40, 50)), 1999, "--size must have at most --pixel_limit=1999 pixels, found 40x50 with 2000"),
    (tuple(Size(16, 16 + number) for number in range(201)), 10**6, "--size must name at most 200 sizes, .*found 201"),
])
def test_sizes_that_the_model_or_the_server_would_refuse(translator, tmp_path, sizes, limit, message):
    with pytest.raises(InputError, match=message):
        export_saved_model(translator, tmp_path / "models" / "tiny", ExportOptions(sizes, limit))
    assert list(tmp_path.iterdir()) == []
