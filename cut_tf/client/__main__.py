"""Translates pictures on a server: python -m cut_tf.client --server=HOST:PORT --model=NAME --input=... --output=DIR."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.client.calls import Endpoint, NoServiceError
from cut_tf.client.grpc_client import GrpcClient
from cut_tf.client.picture_files import Job, encoded_picture, plan_jobs, write_answer
from cut_tf.client.rest_client import RestClient
from cut_tf.common.errors import InputError
from cut_tf.common.strength import FLAG_HELP, FULL, check_strength

_PROTOCOLS = {"grpc": GrpcClient, "rest": RestClient}

_SERVER = flags.DEFINE_string("server", None, "HOST:PORT of TF Serving; usually 8500 for grpc, 8501 for rest",
                              required=True)
_PROTOCOL = flags.DEFINE_enum("protocol", "grpc", tuple(_PROTOCOLS), "how the server is called")
_MODEL = flags.DEFINE_string("model", None, "the model's name on the server", required=True)
_MODEL_VERSION = flags.DEFINE_integer("model_version", None, "version of the model; the one that the server serves "
                                      "if not given", lower_bound=0)
_INPUT = flags.DEFINE_string("input", None, "a picture, or a folder of pictures", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder for the results, PNG files; made if it is not there",
                              required=True)
_DEADLINE_SEC = flags.DEFINE_float("deadline_sec", 120.0, "seconds for one picture's answer, retries included",
                                   lower_bound=0.001)
_RETRIES = flags.DEFINE_integer("retries", 8, "attempts after the first, if the server is not reachable or too busy",
                                lower_bound=0)
_PARALLEL = flags.DEFINE_integer("parallel", 4, "pictures that are sent at the same time", lower_bound=1,
                                 upper_bound=256)
_MAX_MESSAGE_MB = flags.DEFINE_integer("max_message_mb", 64, "largest request and answer in 10^6 bytes", lower_bound=1,
                                       upper_bound=2_000)
_TLS = flags.DEFINE_bool("tls", False, "encrypt. The server's certificate must be of a public authority, or of one in "
                          "the file that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH (grpc) or REQUESTS_CA_BUNDLE (rest) names")
_STRENGTH = flags.DEFINE_float("strength", FULL, f"{FLAG_HELP}. By the server if its model takes it, else here")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace results that are there already")


def translate_all() -> tuple[list[str], int]:
    """Sends every picture. Returns the messages of those that failed, and how many failed or were not sent."""
    endpoint = Endpoint(_SERVER.value, _MODEL.value, _MODEL_VERSION.value, _DEADLINE_SEC.value, _RETRIES.value,
                        _MAX_MESSAGE_MB.value, _TLS.value)
    endpoint.check()
    strength = _STRENGTH.value
    check_strength(strength)
    folder = Path(_OUTPUT.value)
    jobs = plan_jobs(Path(_INPUT.value), folder, _OVERWRITE.value)
    client = _PROTOCOLS[_PROTOCOL.value](endpoint)
    try:
        # The strength is used once: by the server, or here if the server's model does not take it.
        asked, kept = (strength, FULL) if client.check() else (FULL, strength)
        folder.mkdir(parents=True, exist_ok=True)

        def translate(job: Job) -> None:
            picture = encoded_picture(job.source)
            write_answer(job, client.translate(picture, str(job.source), asked), picture, kept)

        return _send_all(jobs, translate)
    finally:
        client.close()


def _send_all(jobs: list[Job], work: Callable[[Job], None]) -> tuple[list[str], int]:
    progress = command_line.progress_bar(len(jobs), "picture")
    messages, not_sent = {}, 0
    pool = ThreadPoolExecutor(_PARALLEL.value)
    try:
        futures = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        for future in as_completed(futures):
            try:
                future.result()
            except CancelledError:
                not_sent += 1
            except InputError as error:
                messages[futures[future]] = str(error)
                if isinstance(error, NoServiceError):
                    for other in futures:
                        other.cancel()
            progress.add(1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    listed = [messages[number] for number in sorted(messages)]
    return listed + ([f"{not_sent} pictures were not sent any more"] if not_sent else []), len(messages) + not_sent


def main(argv: list[str]) -> int:
    """Exit code 0; 1 if some pictures could not be translated; 2 for bad flags, or a server that has no such model."""
    try:
        command_line.require_values("input", "output")
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        failures, num_failed = translate_all()
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command_line.report_results(_OUTPUT.value, failures, num_failed)


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
