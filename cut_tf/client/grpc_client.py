"""A model on TF Serving by gRPC, with tensorflow-serving-api's stubs."""

from __future__ import annotations

from types import ModuleType

from cut_tf.client import calls
from cut_tf.client.calls import Endpoint
from cut_tf.common.errors import InputError
from cut_tf.common.strength import FULL

# Room for the other fields of a message, in addition to the picture.
_ENVELOPE_BYTES = 65_536


class GrpcClient:
    """Sends encoded pictures, one a request; threads may share it.

    Args:
      endpoint: the model that is called; its server is the gRPC port.

    Raises:
      InputError: if tensorflow-serving-api is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._grpc, self._apis, stubs = _serving_modules()
        most_bytes = endpoint.max_message_mb * calls.BYTES_PER_MB + _ENVELOPE_BYTES
        options = [
            ("grpc.max_send_message_length", most_bytes),
            # gRPC's default is 4 MB, which PNGs of a megapixel exceed.
            ("grpc.max_receive_message_length", most_bytes),
            # call_with_retries does the retries, and connects again without gRPC's growing waits.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ]
        if endpoint.tls:
            credentials = self._grpc.ssl_channel_credentials()
            self._channel = self._grpc.secure_channel(endpoint.server, credentials, options)
        else:
            self._channel = self._grpc.insecure_channel(endpoint.server, options)
        self._service = stubs.PredictionServiceStub(self._channel)

    def check(self) -> bool:
        """Whether the model takes a strength.

        Raises:
          NoServiceError: unless the server has the model, loaded and with the signature that is called.
        """
        request = self._apis["get_model_metadata"].GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec)
        answer = self._call(self._service.GetModelMetadata, request, f"asking for {self._endpoint}")
        found = self._apis["get_model_metadata"].SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return calls.check_signature({name: (set(signature.inputs), set(signature.outputs))
                                      for name, signature in found.signature_def.items()}, self._endpoint)

    def translate(self, picture: bytes, what: str, strength: float = FULL) -> bytes:
        """Sends one encoded picture.

        Args:
          picture: JPEG, PNG, BMP or GIF.
          what: its name, for messages.
          strength: from 0, the picture, to 1, the translation; below 1 only for models of which `check` says that they
            take it.

        Returns:
          The server's answer, which should be a PNG.

        Raises:
          NoServiceError: if no picture would be answered.
          InputError: if this picture is not answered: too large, refused, too late.
        """
        if len(picture) > self._endpoint.max_message_mb * calls.BYTES_PER_MB:
            raise calls.too_large(len(picture), what, self._endpoint)
        request = self._apis["predict"].PredictRequest(output_filter=[calls.OUTPUT])
        self._name_model(request.model_spec)
        request.model_spec.signature_name = calls.SIGNATURE if strength == FULL else calls.WITH_STRENGTH
        tensor = request.inputs[calls.INPUT]
        tensor.dtype = self._apis["types"].DT_STRING
        tensor.tensor_shape.dim.add(size=1)
        tensor.string_val.append(picture)
        if strength != FULL:
            tensor = request.inputs[calls.STRENGTH]
            tensor.dtype = self._apis["types"].DT_FLOAT
            tensor.tensor_shape.dim.add(size=1)
            tensor.float_val.append(strength)
        answer = self._call(self._service.Predict, request, f"{what} ({len(picture)} bytes)")
        values = answer.outputs[calls.OUTPUT].string_val
        if len(values) != 1:
            raise InputError(f"{what}: {self._endpoint} must answer with one picture, found {len(values)}")
        return values[0]

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _name_model(self, spec: object) -> None:
        spec.name = self._endpoint.model
        if self._endpoint.version is not None:
            spec.version.value = self._endpoint.version

    def _call(self, method: object, request: object, what: str) -> object:
        def attempt(seconds_left: float) -> object:
            try:
                return method(request, timeout=seconds_left)
            except self._grpc.RpcError as error:
                raise calls.failure(error.code().name, error.details() or "", what, self._endpoint) from error

        return calls.call_with_retries(attempt, self._endpoint, what)


def _serving_modules() -> tuple[ModuleType, dict[str, ModuleType], ModuleType]:
    """grpc, the messages by name, and the stubs; they bring TensorFlow along."""
    try:
        import grpc
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise InputError(f'--protocol=grpc needs tensorflow-serving-api, found: {error}; pip install '
                         '"cut_tf[serving]", or use --protocol=rest') from error
    messages = {"get_model_metadata": get_model_metadata_pb2, "predict": predict_pb2, "types": types_pb2}
    return grpc, messages, prediction_service_pb2_grpc
