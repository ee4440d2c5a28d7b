"""The stand-ins answer as TF Serving's documentation says, so that the client's tests mean something."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_serving.apis",
                    reason="tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'")
pytest.importorskip("requests", reason="requests is not installed: pip install 'cut_tf[serving]'")
import grpc
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (18, 21, 3), np.uint8)


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])).astype(int)


def _b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def _predict(server: str, signature: str, **inputs: object) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "tiny", signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with grpc.insecure_channel(server) as channel:
        return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)


def test_grpc_has_all_signatures(servers, exported):
    expected = exported.translators[0](PICTURE).astype(int)
    server = servers.addresses["grpc"]
    encoded = _predict(server, "serving_default", image_bytes=[_png(PICTURE), _png(PICTURE[:16])])
    first, second = encoded.outputs["output_bytes"].string_val
    assert np.abs(_pixels(first) - expected).max() <= 1 and _pixels(second).shape == (16, 21, 3)
    assert encoded.model_spec.version.value == 1
    image = tf.make_ndarray(_predict(server, "image", image=PICTURE[None]).outputs["image"])
    assert image.dtype == np.uint8 and np.abs(image[0].astype(int) - expected).max() <= 1
    floats = tf.make_ndarray(_predict(server, "image_float", image=PICTURE[None].astype(np.float32) / 127.5 - 1.0)
                             .outputs["image"])
    assert floats.dtype == np.float32 and np.abs((floats[0] + 1.0) * 127.5 - expected).max() <= 1.0
    # What is left out has the default of the signature: all of the translation.
    for inputs, share in (({}, 1.0), ({"strength": np.float32([0.0])}, 0.0), ({"strength": np.float32([0.5])}, 0.5)):
        answer = _predict(server, "with_strength", image_bytes=[_png(PICTURE)], **inputs)
        png, = answer.outputs["output_bytes"].string_val
        assert np.abs(_pixels(png) - (PICTURE + share * (expected - PICTURE))).max() <= 1


@pytest.mark.parametrize("signature, inputs, code", [
    ("nothing", {"image": PICTURE[None]}, grpc.StatusCode.FAILED_PRECONDITION),
    ("image", {"picture": PICTURE[None]}, grpc.StatusCode.INVALID_ARGUMENT),
    ("image", {"image": PICTURE[None].astype(np.float32)}, grpc.StatusCode.INVALID_ARGUMENT),
    ("serving_default", {"image_bytes": [b"text"]}, grpc.StatusCode.INVALID_ARGUMENT),
    ("serving_default", {"image_bytes": [_png(PICTURE)], "strength": np.float32([0.5])},
     grpc.StatusCode.INVALID_ARGUMENT),
    ("with_strength", {"strength": np.float32([0.5])}, grpc.StatusCode.INVALID_ARGUMENT),
    ("with_strength", {"image_bytes": [_png(PICTURE)], "strength": np.float32([1.5])},
     grpc.StatusCode.INVALID_ARGUMENT),
])
def test_grpc_codes(servers, signature, inputs, code):
    with pytest.raises(grpc.RpcError) as caught:
        _predict(servers.addresses["grpc"], signature, **inputs)
    assert caught.value.code() is code


def _post(server: str, path: str, body: object) -> tuple[int, dict]:
    found = requests.post(f"http://{server}/v1/models/{path}", json=body, timeout=30)
    return found.status_code, found.json()


@pytest.mark.parametrize("path", ["tiny:predict", "tiny/versions/1:predict"])
@pytest.mark.parametrize("body", [
    {"instances": [_b64(_png(PICTURE))]}, {"instances": [{"image_bytes": _b64(_png(PICTURE))}]},
    {"inputs": [_b64(_png(PICTURE))]}, {"inputs": {"image_bytes": [_b64(_png(PICTURE))]}},
], ids=["row", "named-row", "column", "named-column"])
def test_rest_formats_of_encoded_pictures(servers, exported, path, body):
    code, answer = _post(servers.addresses["rest"], path, body)
    assert code == 200 and list(answer) == ["predictions" if "instances" in body else "outputs"]
    value, = next(iter(answer.values()))
    assert list(value) == ["b64"]
    assert np.abs(_pixels(base64.b64decode(value["b64"])) - exported.translators[0](PICTURE)).max() <= 1


@pytest.mark.parametrize("body", [
    {"instances": [{"image_bytes": _b64(_png(PICTURE)), "strength": 0.25}]},
    {"inputs": {"image_bytes": [_b64(_png(PICTURE))], "strength": [0.25]}}], ids=["row", "column"])
def test_rest_takes_a_strength(servers, exported, body):
    code, answer = _post(servers.addresses["rest"], "tiny:predict", {"signature_name": "with_strength", **body})
    assert code == 200
    (value,), = answer.values()
    expected = PICTURE + 0.25 * (exported.translators[0](PICTURE).astype(int) - PICTURE)
    assert np.abs(_pixels(base64.b64decode(value["b64"])) - expected).max() <= 1


@pytest.mark.parametrize("key, answer_key", [("instances", "predictions"), ("inputs", "outputs")])
def test_rest_takes_pixels(servers, exported, key, answer_key):
    code, answer = _post(servers.addresses["rest"], "tiny:predict",
                         {"signature_name": "image", key: [PICTURE.tolist(), PICTURE.tolist()]})
    assert code == 200
    found = np.array(answer[answer_key])
    assert found.shape == (2, *PICTURE.shape) and np.abs(found - exported.translators[0](PICTURE)).max() <= 1


def test_rest_names_several_outputs_and_writes_bytes_by_their_name(servers):
    row = _post(servers.addresses["rest"], "plain:predict", {"instances": ["a", "b"]})
    assert row == (200, {"predictions": [{"first": text, "second_bytes": _b64(text.encode())} for text in "ab"]})
    column = _post(servers.addresses["rest"], "plain:predict", {"inputs": {"text": ["a", "b"]}})
    assert column == (200, {"outputs": {"first": ["a", "b"], "second_bytes": [_b64(b"a"), _b64(b"b")]}})


@pytest.mark.parametrize("path, body, code", [
    ("nothing:predict", {"instances": ["a"]}, 404), ("tiny/versions/9:predict", {"instances": ["a"]}, 404),
    ("tiny:predict", {"signature_name": "nothing", "instances": ["a"]}, 400),
    ("tiny:predict", {"instances": ["a"], "inputs": ["a"]}, 400), ("tiny:predict", {}, 400),
    ("tiny:predict", {"instances": []}, 400), ("tiny:predict", {"instances": [_b64(b"text")]}, 400),
    ("tiny:classify", {"instances": ["a"]}, 400),
    ("tiny:predict", {"signature_name": "with_strength", "instances": [_b64(_png(PICTURE))]}, 400),
    ("tiny:predict", {"signature_name": "with_strength", "instances": [{"image_bytes": _b64(_png(PICTURE))}]}, 400),
])
def test_rest_codes(servers, path, body, code):
    found, answer = _post(servers.addresses["rest"], path, body)
    assert found == code and list(answer) == ["error"] and isinstance(answer["error"], str)


def test_status_and_warm_up(servers):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tiny"
    with grpc.insecure_channel(servers.addresses["grpc"]) as channel:
        status, = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request).model_version_status
    assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    answer = requests.get(f"http://{servers.addresses['rest']}/v1/models/tiny", timeout=30).json()
    assert answer["model_version_status"][0]["version"] == "1"
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    assert requests.get(f"http://{servers.addresses['rest']}/v1/models/nothing", timeout=30).status_code == 404
    # Five records for each of two sizes.
    assert servers.models.find("tiny", None).num_warm_up == 10
