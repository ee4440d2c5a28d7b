"""The commands of the benchmark: each makes its rows from the flags."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from cut_tf.client.calls import Endpoint
from cut_tf.common.errors import InputError
from cut_tf.layers.orthogonal import retraction, tangent_projection
from cut_tf.networks import POLICIES
from tools.benchmark import (
    flags as asked,
    input as benchmark_input,
    layers as benchmark_layers,
    losses as benchmark_losses,
    measuring,
    naive,
    report as benchmark_report,
    scaling as benchmark_scaling,
    serving as benchmark_serving,
    start as benchmark_start,
    step as benchmark_step,
    tflite as benchmark_tflite,
    translate as benchmark_translate,
)


def _given(**more: Any) -> dict[str, Any]:
    """The settings that flags give."""
    width = {"ngf": asked.NGF.value, "ndf": asked.NGF.value}
    given = {"size_px": asked.SIZE.value, "batch_size": asked.BATCH.value, "generator_blocks": asked.BLOCKS.value,
             "recompute_blocks": asked.RECOMPUTE.value or None, **width, **more}
    return {name: value for name, value in given.items() if value is not None}


def _known(names: list[str], table: object, flag: str) -> list[str]:
    unknown = [name for name in names if name not in table]
    if unknown or not names:
        raise InputError(f"--{flag} must be of {', '.join(table)}, found {', '.join(unknown) or 'nothing'}")
    return names


def train_step(**more: Any) -> Iterator[dict]:
    """One row per method and precision; `more` are settings by name."""
    methods = _known(asked.METHOD.value, benchmark_step.CASES, "method")
    precisions = _known(asked.PRECISION.value, POLICIES, "precision")
    for method in methods:
        for precision in precisions:
            yield measuring.in_own_process(benchmark_step.row, method, _given(precision=precision, xla=asked.XLA.value,
                                                                              **more), asked.REPEATS.value)


def _one_case() -> tuple[str, dict[str, Any]]:
    """The method and the settings of a command that takes one of each."""
    method, = _single(_known(asked.METHOD.value, benchmark_step.CASES, "method"), "method")
    precision, = _single(_known(asked.PRECISION.value, POLICIES, "precision"), "precision")
    return method, _given(precision=precision, xla=asked.XLA.value)


def _single(names: list[str], flag: str) -> list[str]:
    if len(names) != 1:
        raise InputError(f"--{flag} must be one of them for this command, found {','.join(names)}")
    return names


def _numbers(text: str, flag: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InputError(f"--{flag} must be numbers such as 256,512, found {text!r}")
    return numbers


def scaling() -> Iterator[dict]:
    """A step over sizes, batches and replicas."""
    method, given = _one_case()
    sizes_px, batches = _numbers(asked.SIZES.value, "sizes_px"), _numbers(asked.BATCHES.value, "batches")
    if len(sizes_px) + len(batches) < 3:
        raise InputError(f"--sizes_px and --batches must be three numbers at least, to fit growth, found "
                         f"{asked.SIZES.value} and {asked.BATCHES.value}")
    return benchmark_scaling.rows(method, sizes_px, batches, given, asked.REPEATS.value)


def losses() -> Iterator[dict]:
    """Half precision against float32, from the same weights on the same pictures."""
    method, given = _one_case()
    precision = given.pop("precision")
    if asked.WINDOW.value > asked.STEPS.value:
        raise InputError(f"--window must be at most --steps, found {asked.WINDOW.value} and {asked.STEPS.value}")
    precision = "bfloat16" if precision == "float32" else precision
    return benchmark_losses.rows(method, precision, given, asked.STEPS.value, asked.WINDOW.value)


def input_pipeline() -> Iterator[dict]:
    """Pictures per second of the pipeline, and the wait of a step."""
    method, given = _one_case()
    if asked.IMAGES.value and not list(Path(asked.IMAGES.value).glob("*.jpg")):
        raise InputError(f"--images must be a folder of .jpg files, found none in {asked.IMAGES.value}")
    return benchmark_input.rows(asked.IMAGES.value, method, given, asked.PAIRS.value, asked.REPEATS.value)


def translate() -> Iterator[dict]:
    """A generator's forms at growing sizes."""
    forms = _known(asked.FORMS.value or list(benchmark_translate.FORMS), benchmark_translate.FORMS, "forms")
    given = {name: value for name, value in _given().items() if name not in ("size_px", "batch_size")}
    return benchmark_translate.rows(forms, _numbers(asked.SIZES.value, "sizes_px"), given, asked.THREADS.value,
                                    asked.REPEATS.value)


def stiefel() -> list[dict]:
    """Projection and retraction of all orthonormal kernels, as a share of an ODCR step."""
    settings = benchmark_step.settings_of("odcr", _given())
    model, step = benchmark_step.step_of(settings)
    kernels = model.networks["projector"].kernels()
    gradients = [tf.random.stateless_normal(kernel.shape, [index, 0]) for index, kernel in enumerate(kernels)]

    @tf.function
    def constraint() -> list[tf.Tensor]:
        # The distance from the manifold is that after a step of Adam.
        return [retraction(kernel - 2e-4 * tf.sign(tangent_projection(kernel, gradient)))
                for kernel, gradient in zip(kernels, gradients)]

    found = measuring.interleaved({"odcr step": step, "constraint": constraint}, asked.REPEATS.value)
    data = {"size_px": settings.data.crop_size_px, "batch_size": settings.data.batch_size,
            "ngf": settings.generator.ngf}
    return [{"name": name, **data, **timing._asdict(),
             "share_of_step": timing.median_sec / found["odcr step"].median_sec} for name, timing in found.items()]


def tflite() -> Iterator[dict]:
    """Every form of a run's generator, against its SavedModel."""
    if not asked.RUN.value:
        raise InputError("--run must be the folder of a run, found ''")
    return benchmark_tflite.rows(Path(asked.RUN.value), _numbers(asked.SIZES.value, "sizes_px"),
                                 asked.REPRESENTATIVE.value, asked.THREADS.value, asked.REPEATS.value,
                                 asked.RESNET.value)


def serving() -> Iterator[dict]:
    """A server under load."""
    endpoint = Endpoint(asked.SERVER.value, asked.MODEL.value, retries=0)
    endpoint.check()
    client = benchmark_serving.PROTOCOLS[asked.PROTOCOL.value](endpoint)
    client.check()
    rows = benchmark_serving.rows(client, _numbers(asked.SIZES.value, "sizes_px"),
                                  _numbers(asked.PARALLEL.value, "parallel"), asked.REQUESTS.value)
    return benchmark_serving.recorded(rows, Path(asked.CSV.value)) if asked.CSV.value else rows


def start() -> Iterator[dict]:
    """From the start of a process to its first result."""
    return benchmark_start.rows(asked.REPEATS.value)


def layers() -> Iterator[dict]:
    """Layers and losses against their naive forms; deformable convolution against an ordinary one, as in AECR-Net."""
    size_px, batch, ngf = asked.SIZE.value or 256, asked.BATCH.value or 1, asked.NGF.value or 64
    for precision in _known(asked.PRECISION.value, POLICIES, "precision"):
        yield from naive.rows(size_px, batch, ngf, precision, asked.REPEATS.value)
        yield from benchmark_layers.rows(size_px, batch, ngf, precision, asked.REPEATS.value)


def report() -> Iterator[dict]:
    """Lines of the tables in docs/speed.md."""
    steps = itertools.chain(train_step(), () if asked.RECOMPUTE.value else train_step(recompute_blocks=True))
    for table in (benchmark_report.steps(steps), benchmark_report.layers(layers()),
                  benchmark_report.translations(translate())):
        yield from ({"markdown": line} for line in itertools.chain(table, [""]))


class Command(NamedTuple):
    """A command: the function that makes its rows, and the one that turns a row into text."""

    rows: Callable[[], Iterable[dict]]
    line: Callable[[dict], str]


def _stiefel_line(row: dict) -> str:
    return (f"{row['name']:14s} {row['size_px']} px, batch {row['batch_size']}, ngf {row['ngf']}: "
            f"{row['median_sec']:.4f} s ({row['least_sec']:.4f} to {row['most_sec']:.4f})   "
            f"{100 * row['share_of_step']:.2f} % of the step")


def _layer_line(row: dict) -> str:
    return naive.line(row) if "share_of_naive" in row else benchmark_layers.line(row)


COMMANDS = {"train_step": Command(train_step, benchmark_step.line),
            "scaling": Command(scaling, benchmark_scaling.line),
            "losses": Command(losses, benchmark_losses.line),
            "input": Command(input_pipeline, benchmark_input.line),
            "layers": Command(layers, _layer_line),
            "stiefel": Command(stiefel, _stiefel_line),
            "translate": Command(translate, benchmark_translate.line),
            "tflite": Command(tflite, benchmark_tflite.line),
            "serving": Command(serving, benchmark_serving.line),
            "start": Command(start, benchmark_start.line),
            "report": Command(report, lambda row: row["markdown"])}
