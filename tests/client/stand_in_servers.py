"""TF Serving's gRPC and REST interfaces in this process, for tests where no tensorflow_model_server is at hand.

Models are loaded as TF Serving does it: numbered folders, tag `serve`, signatures of the meta graph, warm-up requests
replayed before a version is offered, the highest version alone served, a new one loaded before the old one goes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

_MOST_WARM_UP_RECORDS = 1_000
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# As TF Serving turns a status into an HTTP code.
_HTTP_CODES = {"CANCELLED": 499, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400,
               "NOT_FOUND": 404, "DEADLINE_EXCEEDED": 504, "ALREADY_EXISTS": 409, "ABORTED": 409,
               "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
               "UNAUTHENTICATED": 401}


class Certificate(NamedTuple):
    """PEM files of a server that encrypts."""

    key: Path
    chain: Path


class StatusError(Exception):
    """A status other than OK: its gRPC name and the server's words."""

    def __init__(self, status: str, details: str) -> None:
        super().__init__(details)
        self.status, self.details = status, details


class LoadedVersion:
    """One version, loaded and warm."""

    def __init__(self, path: Path) -> None:
        self.number = int(path.name)
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        graph, = (each for each in model.meta_graphs if "serve" in each.meta_info_def.tags)
        self.definitions = {name: signature for name, signature in graph.signature_def.items()
                            if not name.startswith("__")}
        self._loaded = tf.saved_model.load(str(path), tags=["serve"])
        self.num_warm_up = self._warm_up(path / "assets.extra" / "tf_serving_warmup_requests")

    def _warm_up(self, path: Path) -> int:
        if not path.is_file():
            return 0
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        assert len(records) <= _MOST_WARM_UP_RECORDS
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record)
            assert log.WhichOneof("log_type") == "predict_log"
            request = log.predict_log.request
            self.run(request.model_spec.signature_name,
                     {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()})
        return len(records)

    def signature(self, name: str, missing: str = "FAILED_PRECONDITION") -> object:
        """SignatureDef by name; an empty name is serving_default."""
        name = name or "serving_default"
        if name not in self.definitions:
            raise StatusError(missing, f'Serving signature name: "{name}" not found in signature def')
        return self.definitions[name]

    def run(self, name: str, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs a signature, its inputs checked as TF Serving does."""
        definition = self.signature(name)
        inputs = {**{key: tf.constant(tf.make_ndarray(value)) for key, value in definition.defaults.items()}, **inputs}
        extra, missing = set(inputs) - set(definition.inputs), set(definition.inputs) - set(inputs)
        if extra or missing:
            raise StatusError("INVALID_ARGUMENT", "input size does not match signature. Sent extra: "
                              f"{sorted(extra)}. Missing but required: {sorted(missing)}.")
        for key, value in inputs.items():
            if value.dtype.as_datatype_enum != definition.inputs[key].dtype:
                raise StatusError("INVALID_ARGUMENT", f"Input {key} has the wrong type {value.dtype.name}")
        try:
            return self._loaded.signatures[name or "serving_default"](**inputs)
        except tf.errors.OpError as error:
            raise StatusError(_CODES[error.error_code].name, error.message) from error


class ModelFolders:
    """Models by name, each with its highest version, kept up to date by a thread.

    Attributes:
      before_predict: called with the request's number, from 1, before each answer; may wait, or raise StatusError.
      num_predicts: requests that arrived.
    """

    def __init__(self, folders: dict[str, Path], poll_sec: float = 0.05) -> None:
        self._folders, self._poll_sec = folders, poll_sec
        self._served: dict[str, LoadedVersion] = {}
        self._stop = threading.Event()
        self._count_lock = threading.Lock()
        self.before_predict: Callable[[int], None] = lambda _: None
        self.num_predicts = 0
        self._load_new()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _load_new(self) -> None:
        for name, folder in self._folders.items():
            numbers = [int(path.name) for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name)]
            if numbers and (name not in self._served or self._served[name].number != max(numbers)):
                self._served[name] = LoadedVersion(folder / str(max(numbers)))

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_sec):
            self._load_new()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def find(self, name: str, number: int | None) -> LoadedVersion:
        """The version to answer with. A reference keeps it alive until the answer is there."""
        found = self._served.get(name)
        if found is None or number not in (None, found.number):
            wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise StatusError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return found

    def predict(self, version: LoadedVersion, signature: str, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Counts the request, lets `before_predict` have its way, and runs the signature."""
        with self._count_lock:
            self.num_predicts += 1
            number = self.num_predicts
        self.before_predict(number)
        return version.run(signature, inputs)

    def status(self, name: str, number: int | None) -> get_model_status_pb2.GetModelStatusResponse:
        """State of the version that is served."""
        found = self._served.get(name)
        if found is None or number not in (None, found.number):
            wanted = f"any versions of model {name}" if number is None else f"version {number} of model {name}"
            raise StatusError("NOT_FOUND", f"Could not find {wanted}")
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=found.number,
                                        state=get_model_status_pb2.ModelVersionStatus.AVAILABLE).status.error_code = 0
        return answer


def _number(spec: object) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _answered(call: Callable[[], object], context: grpc.ServicerContext) -> object:
    try:
        return call()
    except StatusError as error:
        return context.abort(grpc.StatusCode[error.status], error.details)


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: ModelFolders) -> None:
        self._models = models

    def Predict(self, request: object, context: grpc.ServicerContext) -> object:
        return _answered(lambda: self._predict(request), context)

    def _predict(self, request: object) -> predict_pb2.PredictResponse:
        spec = request.model_spec
        version = self._models.find(spec.name, _number(spec))
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        outputs = self._models.predict(version, spec.signature_name, inputs)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = spec.name
        answer.model_spec.version.value = version.number
        for name in request.output_filter or outputs:
            if name not in outputs:
                raise StatusError("INVALID_ARGUMENT", f"output tensor alias not found in signature: {name}")
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name].numpy(), outputs[name].dtype))
        return answer

    def GetModelMetadata(self, request: object, context: grpc.ServicerContext) -> object:
        def call() -> get_model_metadata_pb2.GetModelMetadataResponse:
            if list(request.metadata_field) != ["signature_def"]:
                raise StatusError("INVALID_ARGUMENT", "Metadata field must be signature_def")
            version = self._models.find(request.model_spec.name, _number(request.model_spec))
            return _metadata(request.model_spec.name, version)

        return _answered(call, context)


def _metadata(name: str, version: LoadedVersion) -> get_model_metadata_pb2.GetModelMetadataResponse:
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = name
    answer.model_spec.version.value = version.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, definition in version.definitions.items():
        signatures.signature_def[key].CopyFrom(definition)
    answer.metadata["signature_def"].Pack(signatures)
    return answer


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: ModelFolders) -> None:
        self._models = models

    def GetModelStatus(self, request: object, context: grpc.ServicerContext) -> object:
        return _answered(lambda: self._models.status(request.model_spec.name, _number(request.model_spec)), context)


@contextlib.contextmanager
def grpc_server(models: ModelFolders, port: int = 0, certificate: Certificate | None = None) -> Iterator[str]:
    """Serves until the block ends; gives HOST:PORT. Messages may have any size, as with TF Serving."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1),
                                                                 ("grpc.max_send_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(models), server)
    if certificate:
        pair = certificate.key.read_bytes(), certificate.chain.read_bytes()
        port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
_STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")


class _RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    models: ModelFolders

    def do_GET(self) -> None:
        self._reply(self._get)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(lambda: self._post(body))

    def log_message(self, *_: object) -> None:
        """Logs nothing."""

    def _reply(self, call: Callable[[], object]) -> None:
        try:
            code, answer = 200, call()
        except StatusError as error:
            code, answer = _HTTP_CODES.get(error.status, 500), {"error": error.details}
        data = json.dumps(answer).encode()
        with contextlib.suppress(ConnectionError):  # a client that no longer waits
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _matched(self, pattern: re.Pattern) -> re.Match:
        found = pattern.fullmatch(self.path)
        if not found:
            raise StatusError("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        return found

    def _get(self) -> object:
        name, number, metadata = self._matched(_STATUS).groups()
        name, number = urllib.parse.unquote(name), int(number) if number else None
        if not metadata:
            return json_format.MessageToDict(self.models.status(name, number), preserving_proto_field_name=True)
        answer = _metadata(name, self.models.find(name, number))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return {"model_spec": json_format.MessageToDict(answer.model_spec, preserving_proto_field_name=True),
                "metadata": {"signature_def": json_format.MessageToDict(signatures, preserving_proto_field_name=True)}}

    def _post(self, body: bytes) -> object:
        name, number = self._matched(_PREDICT).groups()
        version = self.models.find(urllib.parse.unquote(name), int(number) if number else None)
        try:
            request = json.loads(body)
        except ValueError as error:
            raise StatusError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        signature = request.get("signature_name", "")
        definition = version.signature(signature, missing="INVALID_ARGUMENT")
        if ("instances" in request) == ("inputs" in request):
            raise StatusError("INVALID_ARGUMENT", "Request must have either 'instances' or 'inputs'")
        rows = "instances" in request
        values = _columns(request["instances"], definition) if rows else _named(request["inputs"], definition)
        inputs = {key: _tensor(value, definition.inputs[key].dtype) for key, value in values.items()}
        outputs = {key: _listed(value.numpy(), key.endswith("_bytes"))
                   for key, value in self.models.predict(version, signature, inputs).items()}
        if not rows:
            return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
        if len(outputs) == 1:
            return {"predictions": next(iter(outputs.values()))}
        return {"predictions": [dict(zip(outputs, row)) for row in zip(*outputs.values())]}


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _named(value: object, definition: object) -> dict[str, object]:
    """The column format: name to values; the name may be left out if there is one input.

    All inputs must be there: TF Serving's REST interface knows no defaults.
    """
    if not _is_named(value) and len(definition.inputs) == 1:
        value = {next(iter(definition.inputs)): value}
    if not _is_named(value) or set(value) != set(definition.inputs):
        raise StatusError("INVALID_ARGUMENT", f"must only have keys: {','.join(sorted(definition.inputs))}")
    return value


def _columns(instances: object, definition: object) -> dict[str, list]:
    """The row format, turned into the column format."""
    if not isinstance(instances, list) or not instances:
        raise StatusError("INVALID_ARGUMENT", "Expecting 'instances' value to be a list of at least one element")
    rows = [_named(row, definition) for row in instances]
    return {key: [row[key] for row in rows] for key in rows[0]}


def _tensor(value: object, dtype: int) -> tf.Tensor:
    def decoded(part: object) -> object:
        if isinstance(part, list):
            return [decoded(each) for each in part]
        return base64.b64decode(part["b64"]) if isinstance(part, dict) else part

    try:
        return tf.constant(decoded(value), tf.as_dtype(dtype))
    except (TypeError, ValueError) as error:
        raise StatusError("INVALID_ARGUMENT", f"JSON Value cannot become a tensor: {error}") from error


def _listed(values: np.ndarray, as_base64: bool) -> list:
    if values.dtype != object:
        return values.tolist()
    return [{"b64": base64.b64encode(each).decode()} if as_base64 else each.decode() for each in values]


@contextlib.contextmanager
def rest_server(models: ModelFolders, port: int = 0, certificate: Certificate | None = None) -> Iterator[str]:
    """Serves until the block ends; gives HOST:PORT."""
    handler = type("Handler", (_RestHandler,), {"models": models})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients that hang up
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
