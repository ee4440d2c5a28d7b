"""Measures speed and memory against something of the same run: python -m tools.benchmark COMMAND

    train_step --method=cut,fastcut --precision=float32,bfloat16     a training step: time, memory, share of the ceiling
    scaling --method=cut --sizes_px=128,192,256,384,512 --batches=1,2,4,8   exponents in pixels, overhead of replicas
    losses --size_px=64 --ngf=32 --steps=200                         losses in bfloat16 against those in float32
    input --images=DIR                                               the input pipeline, and how long a step waits
    layers --size_px=256 --ngf=64                                    layers and losses against their naive forms
    stiefel --size_px=256 --ngf=64                                   the orthonormal constraint as a share of a step
    translate --sizes_px=256,512,1024                                Keras model, SavedModel and TFLite at growing sizes
    tflite --run=DIR --sizes_px=256,512                              SavedModel and TFLite: time, size, memory, quality
    report --method=cut,fastcut --precision=float32,bfloat16         train_step, layers and translate, as Markdown

Rows of train_step, scaling, losses, translate and tflite come from processes of their own, the others of a command
from one process, taken in turns. Medians over --repeats after a warm-up, with the smallest and the largest value.
--json prints one object per row. Memory is the GPU's where there is one, else the process'. Forms for CPUs alone
are not measured on a GPU.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from absl import flags

from cut_tf import command_line
from cut_tf.errors import InputError
from cut_tf.layers.orthogonal import retraction, tangent_projection
from cut_tf.networks import POLICIES
from tools.benchmark import (
    input as benchmark_input,
    layers as benchmark_layers,
    losses as benchmark_losses,
    measuring,
    naive,
    report as benchmark_report,
    scaling as benchmark_scaling,
    step as benchmark_step,
    tflite as benchmark_tflite,
    translate as benchmark_translate,
)

_METHOD = flags.DEFINE_list("method", ["cut"], f"methods whose step is measured: {', '.join(benchmark_step.CASES)}")
_PRECISION = flags.DEFINE_list("precision", ["float32"], f"of the step: {', '.join(POLICIES)}")
_SIZE = flags.DEFINE_integer("size_px", None, "side of the square crops; the method's own if not given, mostly 256",
                             lower_bound=16)
_BATCH = flags.DEFINE_integer("batch_size", None, "images of each domain per step; the method's own if not given",
                              lower_bound=1)
_NGF = flags.DEFINE_integer("ngf", None, "width of generator and discriminator; the method's own if not given",
                            lower_bound=1)
_BLOCKS = flags.DEFINE_integer("generator_blocks", None, "residual blocks of the generator; 9 if not given")
_XLA = flags.DEFINE_bool("xla", False, "train_step: compile the step with XLA")
_RECOMPUTE = flags.DEFINE_bool("recompute_blocks", False, "train_step: compute the residual blocks again in the "
                               "backward pass instead of keeping their activations")
_REPEATS = flags.DEFINE_integer("repeats", 5, "measurements after the warm-up", lower_bound=1)
_RUN = flags.DEFINE_string("run", "", "tflite: folder of the run")
_SIZES = flags.DEFINE_string("sizes_px", "256,512", "scaling, translate, tflite: sides of the square pictures")
_BATCHES = flags.DEFINE_string("batches", "1,2,4,8", "scaling: images per step, at the smallest size")
_IMAGES = flags.DEFINE_string("images", "", "input: folder of JPEG pictures; made-up ones of 480 x 320 if not given")
_STEPS = flags.DEFINE_integer("steps", 200, "losses: steps of each run", lower_bound=1)
_WINDOW = flags.DEFINE_integer("window", 50, "losses: steps of the moving average", lower_bound=1)
_PAIRS = flags.DEFINE_integer("pairs", 64, "input: pairs of pictures of one measurement", lower_bound=1)
_FORMS = flags.DEFINE_list("forms", list(benchmark_translate.FORMS), "translate: forms of the generator")
_REPRESENTATIVE = flags.DEFINE_string("representative", "scenes", "tflite: typical inputs, as for cut_tf.export")
_THREADS = flags.DEFINE_integer("threads", 2, "tflite: threads of the CPU", lower_bound=1)
_RESNET = flags.DEFINE_bool("resnet", True, "tflite: measure CUT's ResNet of full width too, for scale")
_JSON = flags.DEFINE_bool("json", False, "print one JSON object per row")
flags.DEFINE_alias("size", "size_px")
flags.DEFINE_alias("batch", "batch_size")


def _given(**more: Any) -> dict[str, Any]:
    """The settings that flags give."""
    width = {"ngf": _NGF.value, "ndf": _NGF.value}
    given = {"size_px": _SIZE.value, "batch_size": _BATCH.value, "generator_blocks": _BLOCKS.value,
             "recompute_blocks": _RECOMPUTE.value or None, **width, **more}
    return {name: value for name, value in given.items() if value is not None}


def _known(names: list[str], table: object, flag: str) -> list[str]:
    unknown = [name for name in names if name not in table]
    if unknown or not names:
        raise InputError(f"--{flag} must be of {', '.join(table)}, found {', '.join(unknown) or 'nothing'}")
    return names


def train_step(**more: Any) -> Iterator[dict]:
    """One row per method and precision; `more` are settings by name."""
    methods = _known(_METHOD.value, benchmark_step.CASES, "method")
    precisions = _known(_PRECISION.value, POLICIES, "precision")
    for method in methods:
        for precision in precisions:
            yield measuring.in_own_process(benchmark_step.row, method, _given(precision=precision, xla=_XLA.value,
                                                                              **more), _REPEATS.value)


def _one_case() -> tuple[str, dict[str, Any]]:
    """The method and the settings of a command that takes one of each."""
    method, = _single(_known(_METHOD.value, benchmark_step.CASES, "method"), "method")
    precision, = _single(_known(_PRECISION.value, POLICIES, "precision"), "precision")
    return method, _given(precision=precision, xla=_XLA.value)


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
    sizes_px, batches = _numbers(_SIZES.value, "sizes_px"), _numbers(_BATCHES.value, "batches")
    if len(sizes_px) + len(batches) < 3:
        raise InputError(f"--sizes_px and --batches must be three numbers at least, to fit growth, found "
                         f"{_SIZES.value} and {_BATCHES.value}")
    return benchmark_scaling.rows(method, sizes_px, batches, given, _REPEATS.value)


def losses() -> Iterator[dict]:
    """Half precision against float32, from the same weights on the same pictures."""
    method, given = _one_case()
    precision = given.pop("precision")
    if _WINDOW.value > _STEPS.value:
        raise InputError(f"--window must be at most --steps, found {_WINDOW.value} and {_STEPS.value}")
    return benchmark_losses.rows(method, "bfloat16" if precision == "float32" else precision, given, _STEPS.value,
                                 _WINDOW.value)


def input_pipeline() -> Iterator[dict]:
    """Pictures per second of the pipeline, and the wait of a step."""
    method, given = _one_case()
    if _IMAGES.value and not list(Path(_IMAGES.value).glob("*.jpg")):
        raise InputError(f"--images must be a folder of .jpg files, found none in {_IMAGES.value}")
    return benchmark_input.rows(_IMAGES.value, method, given, _PAIRS.value, _REPEATS.value)


def translate() -> Iterator[dict]:
    """A generator's forms at growing sizes."""
    forms = _known(_FORMS.value, benchmark_translate.FORMS, "forms")
    given = {name: value for name, value in _given().items() if name not in ("size_px", "batch_size")}
    return benchmark_translate.rows(forms, _numbers(_SIZES.value, "sizes_px"), given, _THREADS.value, _REPEATS.value)


def stiefel() -> list[dict]:
    """Projection and retraction of all orthonormal kernels, as a share of an ODCR step."""
    settings = benchmark_step.settings_of("odcr", _given())
    model, step = benchmark_step.step_of(settings)
    kernels = model.networks["projector"].kernels()
    gradients = [tf.random.stateless_normal(kernel.shape, [index, 0]) for index, kernel in enumerate(kernels)]

    @tf.function
    def constraint() -> list[tf.Tensor]:
        # As far off the manifold as a step of Adam takes a kernel.
        return [retraction(kernel - 2e-4 * tf.sign(tangent_projection(kernel, gradient)))
                for kernel, gradient in zip(kernels, gradients)]

    found = measuring.interleaved({"odcr step": step, "constraint": constraint}, _REPEATS.value)
    data = {"size_px": settings.data.crop_size_px, "batch_size": settings.data.batch_size,
            "ngf": settings.generator.ngf}
    return [{"name": name, **data, **timing._asdict(),
             "share_of_step": timing.median_sec / found["odcr step"].median_sec} for name, timing in found.items()]


def tflite() -> Iterator[dict]:
    """Every form of a run's generator, against its SavedModel."""
    if not _RUN.value:
        raise InputError("--run must be the folder of a run, found ''")
    return benchmark_tflite.rows(Path(_RUN.value), _numbers(_SIZES.value, "sizes_px"), _REPRESENTATIVE.value,
                                 _THREADS.value, _REPEATS.value, _RESNET.value)


def layers() -> Iterator[dict]:
    """Layers and losses against their naive forms; deformable convolution against an ordinary one, as in AECR-Net."""
    size_px, batch, ngf = _SIZE.value or 256, _BATCH.value or 1, _NGF.value or 64
    for precision in _known(_PRECISION.value, POLICIES, "precision"):
        yield from naive.rows(size_px, batch, ngf, precision, _REPEATS.value)
        yield from benchmark_layers.rows(size_px, batch, ngf, precision, _REPEATS.value)


def report() -> Iterator[dict]:
    """Lines of the tables in docs/speed.md."""
    steps = itertools.chain(train_step(), () if _RECOMPUTE.value else train_step(recompute_blocks=True))
    for table in (benchmark_report.steps(steps), benchmark_report.layers(layers()),
                  benchmark_report.translations(translate())):
        yield from ({"markdown": line} for line in itertools.chain(table, [""]))


class Command(NamedTuple):
    """What makes the rows of a command, and how one of them reads."""

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
            "report": Command(report, lambda row: row["markdown"])}


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 for an unknown command (told on stderr)."""
    try:
        if len(argv) != 2 or argv[1] not in COMMANDS:
            raise InputError(f"the command must be one of {', '.join(COMMANDS)}, found {' '.join(argv[1:]) or 'none'}")
        command = COMMANDS[argv[1]]
        for row in command.rows():
            print(json.dumps(row) if _JSON.value else command.line(row), flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
