"""A model on TF Serving by its REST interface, with requests."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from types import ModuleType

from cut_tf.client import calls
from cut_tf.client.calls import Endpoint
from cut_tf.common.errors import InputError
from cut_tf.common.strength import FULL

# TF Serving's codes, and 413, which a proxy in front of it may answer.
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
           413: calls.RESOURCE_EXHAUSTED, 429: calls.RESOURCE_EXHAUSTED, 500: "INTERNAL", 501: "UNIMPLEMENTED",
           503: calls.UNAVAILABLE, 504: calls.DEADLINE_EXCEEDED}
# The deadline is checked after each chunk, so that a slow connection does not exceed it by much.
_CHUNK_BYTES = 16_384
_QUOTED_CHARACTERS = 500


class RestClient:
    """Sends encoded pictures, one a request; threads may share it.

    Args:
      endpoint: the model that is called; its server is the REST port.

    Raises:
      InputError: if requests is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._requests = _requests()
        version = "" if endpoint.version is None else f"/versions/{endpoint.version}"
        quoted = self._requests.utils.quote(endpoint.model, safe="")
        self._url = f"{'https' if endpoint.tls else 'http'}://{endpoint.server}/v1/models/{quoted}{version}"
        # A session keeps its connection open, and belongs to one thread.
        self._own = threading.local()
        self._sessions = []

    def check(self) -> bool:
        """Whether the model takes a strength.

        Raises:
          NoServiceError: unless the server has the model, loaded and with the signature that is called.
        """
        what = f"asking for {self._endpoint}"
        answer = self._call(lambda session, **options: session.get(f"{self._url}/metadata", **options), what)
        try:
            found = answer["metadata"]["signature_def"]["signature_def"]
            signatures = {name: (set(each["inputs"]), set(each["outputs"])) for name, each in found.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise self._strange(answer, what) from error
        return calls.check_signature(signatures, self._endpoint)

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
        signature, instance = calls.SIGNATURE, {"b64": base64.b64encode(picture).decode()}
        if strength != FULL:
            signature, instance = calls.WITH_STRENGTH, {calls.INPUT: instance, calls.STRENGTH: strength}
        body = json.dumps({"signature_name": signature, "instances": [instance]}).encode()
        if len(body) > self._endpoint.max_message_mb * calls.BYTES_PER_MB:
            raise calls.too_large(len(body), what, self._endpoint)
        headers = {"Content-Type": "application/json"}
        what = f"{what} ({len(picture)} bytes)"
        answer = self._call(lambda session, **options: session.post(f"{self._url}:predict", data=body, headers=headers,
                                                                    **options), what)
        try:
            value, = answer["predictions"]
            return base64.b64decode(value["b64"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._strange(answer, what) from error

    def close(self) -> None:
        """Ends the connections."""
        for session in self._sessions:
            session.close()

    def _call(self, send: Callable, what: str) -> object:
        return calls.call_with_retries(lambda seconds: self._attempt(send, seconds, what), self._endpoint, what)

    def _attempt(self, send: Callable, seconds: float, what: str) -> object:
        """Parsed JSON of an answer with code 200."""
        errors = self._requests.exceptions
        end = time.monotonic() + seconds
        try:
            with send(self._session(), stream=True, timeout=max(seconds, 0.001), allow_redirects=False) as response:
                code, body = response.status_code, self._read(response, end, what)
        except (errors.Timeout, TimeoutError) as error:
            raise calls.failure(calls.DEADLINE_EXCEEDED, str(error), what, self._endpoint) from error
        except errors.SSLError as error:
            raise calls.NoServiceError(f"--server={self._endpoint.server} must have a certificate of a known authority "
                                       f"with --tls, found: {error}; REQUESTS_CA_BUNDLE may name a file of others"
                                       ) from error
        except (errors.ConnectionError, errors.ChunkedEncodingError) as error:
            if time.monotonic() >= end:  # requests reports a body that comes too late as a broken connection
                raise calls.failure(calls.DEADLINE_EXCEEDED, str(error), what, self._endpoint) from error
            raise calls.UnavailableError(str(error)) from error
        except errors.RequestException as error:
            raise calls.NoServiceError(f"{what}: {self._endpoint} must be reachable, found: {error}") from error
        try:
            answer = json.loads(body)
        except ValueError:
            answer = body.decode("utf-8", errors="replace")[:_QUOTED_CHARACTERS]
        if code != 200:
            details = answer.get("error", answer) if isinstance(answer, dict) else answer
            raise calls.failure(_STATUS.get(code, f"HTTP {code}"), str(details), what, self._endpoint)
        return answer

    def _read(self, response: object, end: float, what: str) -> bytes:
        """The body, read in chunks, since requests limits neither its size nor its time as a whole."""
        pieces, num_bytes = [], 0
        for piece in response.iter_content(_CHUNK_BYTES):
            pieces.append(piece)
            num_bytes += len(piece)
            if num_bytes > self._endpoint.max_message_mb * calls.BYTES_PER_MB:
                raise calls.too_large(num_bytes, f"answer for {what}", self._endpoint)
            if time.monotonic() > end:
                raise TimeoutError(f"{num_bytes} bytes of the answer had come")
        return b"".join(pieces)

    def _session(self) -> object:
        if not hasattr(self._own, "session"):
            self._own.session = self._requests.Session()
            self._sessions.append(self._own.session)
        return self._own.session

    def _strange(self, answer: object, what: str) -> InputError:
        return InputError(f"{what}: {self._endpoint} must answer as TF Serving does, found "
                          f"{str(answer)[:_QUOTED_CHARACTERS]!r}")


def _requests() -> ModuleType:
    try:
        import requests
    except ImportError as error:
        raise InputError(f'--protocol=rest needs requests, found: {error}; pip install "cut_tf[serving]", or use '
                         '--protocol=grpc') from error
    return requests
