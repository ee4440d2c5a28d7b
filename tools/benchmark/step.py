"""Rows of `python -m tools.benchmark train_step`: time, memory and share of the machine's ceiling of a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from cut_tf.layers.portable import portable_ops
from cut_tf.methods import build_method
from cut_tf.methods.base import TranslationMethod
from cut_tf.settings import OWNERS, Settings
from tools.benchmark import measuring


class Passes(NamedTuple):
    """How often a method, as it is usually coded, runs its networks over one batch; backward passes count twice.

    `translated`: generator, with gradient. `encoded`: encoder, with gradient. `keys`: encoder, without. `trained`:
    discriminator, with the gradient of its weights. `judged`: discriminator, with the gradient of its input alone.
    """

    translated: int
    encoded: int = 0
    keys: int = 0
    trained: int = 0
    judged: int = 0


class Case(NamedTuple):
    """A method's settings, by name, on top of the defaults, and its usual passes."""

    passes: Passes
    settings: dict[str, Any]


_STEPS_TO_THE_PEAK = 3
_SINCUT = {"generator": "stylegan2", "discriminator": "stylegan2", "ngf": 10, "ndf": 8, "crop_size_px": 64,
           "load_size_px": 64, "batch_size": 16, "nce_layers": "0,2,4", "num_patches": 1, "negatives": "minibatch",
           "gan_mode": "nonsaturating", "r1_weight": 1.0, "nce_weight": 4.0, "nce_identity_weight": 4.0,
           "l1_identity_weight": 1.0}
CASES = {
    "cut": Case(Passes(2, 2, 2, 2, 1), {"method": "cut"}),
    "fastcut": Case(Passes(1, 1, 1, 2, 1), {"method": "cut", "nce_weight": 10.0, "nce_identity_weight": 0.0,
                                            "flip_equivariance": True}),
    "odcr": Case(Passes(2, 1, 2, 2, 1), {"method": "odcr", "nce_identity_weight": 0.0, "l1_identity_weight": 5.0}),
    "cyclegan": Case(Passes(6, 0, 0, 4, 2), {"method": "cyclegan"}),
    "gcgan": Case(Passes(4, 0, 0, 4, 2), {"method": "gcgan", "l1_identity_weight": 5.0}),
    # R1 runs the discriminator once more and differentiates its gradient: two passes' worth.
    "sincut": Case(Passes(2, 2, 2, 4, 1), {"method": "sincut", **_SINCUT}),
    "paired": Case(Passes(1), {"method": "paired"}),
    "aecrnet": Case(Passes(1), {"method": "paired", "generator": "aecrnet", "crop_size_px": 240,
                                "load_size_px": 240}),
}


def settings_of(case: str, given: dict[str, Any]) -> Settings:
    """Settings of a case.

    Args:
      case: a key of CASES.
      given: settings by name that replace those of the case; `size_px` stands for crop and load size.
    """
    values = {**CASES[case].settings, **given}
    if "size_px" in values:
        values["crop_size_px"] = values["load_size_px"] = values.pop("size_px")
    if values.get("generator", "resnet") == "resnet" and "nce_layers" not in values:
        values["nce_layers"] = _layers(values.get("generator_blocks", 9))
    return Settings.of(**{name: value for name, value in values.items() if name in OWNERS})


def _layers(blocks: int) -> str:
    """Five of the features that CUT compares, or as many as a generator of so few blocks has."""
    return ",".join(str(layer) for layer in (0, 4, 8, 12, min(16, 11 + blocks)) if layer < 12 + blocks and (
        layer != 12 or blocks > 1))


def step_of(settings: Settings) -> tuple[TranslationMethod, Callable[[], object]]:
    """A method and a call that takes one compiled step on random images."""
    model = build_method(settings)
    model.compile()
    batch = {name: tf.random.stateless_uniform(batch_shape(settings), [seed, 0], -1, 1)
             for seed, name in enumerate(("source", "target"))}
    step = tf.function(model.train_step, jit_compile=settings.devices.xla or None)
    return model, lambda: step(batch)


def batch_shape(settings: Settings) -> list[int]:
    """[B, H, W, 3] of the source and of the target images of a step."""
    data = settings.data
    return [data.batch_size, data.crop_size_px, data.crop_size_px, 3]


def row(case: str, given: dict[str, Any], repeats: int) -> dict:
    """One row; measured here, so call it in a process of its own.

    Returns:
      Case, size, batch and precision; median, least and most seconds per step; images of the source domain per
      second; peak of memory in GiB, of the GPU where there is one, else of the process; the reference work of the
      step in GFLOP; the ceilings, matrix products in GFLOP/s and memory in GB/s, measured between the steps; and the
      share of the product of the same precision that the reference work in the measured time makes.
    """
    settings = settings_of(case, given)
    model, step = step_of(settings)
    for _ in range(_STEPS_TO_THE_PEAK):
        measuring.timed(step)
    # Read before the ceilings are measured, since these need memory too.
    peak_gib = measuring.peak_mib() / 1024
    ceilings = {"float32_gflops": measuring.matrix_product("float32"),
                "bfloat16_gflops": measuring.matrix_product("bfloat16"),
                "memory_gb_per_sec": measuring.memory_copy()}
    found = measuring.interleaved({"step": step, **{name: call for name, (call, _) in ceilings.items()}}, repeats)
    rates = {name: work / found[name].median_sec for name, (_, work) in ceilings.items()}
    work, seconds, data = reference_gflop(case, model), found["step"], settings.data
    ceiling = rates["float32_gflops" if settings.devices.precision == "float32" else "bfloat16_gflops"]
    return {"name": case, "size_px": data.crop_size_px, "batch_size": data.batch_size, "ngf": settings.generator.ngf,
            "precision": settings.devices.precision, "xla": settings.devices.xla,
            "recompute_blocks": settings.resnet.recompute_blocks, **seconds._asdict(),
            "images_per_sec": data.batch_size / seconds.median_sec, "peak_gib": peak_gib, "reference_gflop": work,
            **rates, "ceiling_gflops": ceiling, "ceiling_share": work / seconds.median_sec / ceiling}


def reference_gflop(case: str, model: TranslationMethod) -> float:
    """Work of a step as the method is usually coded: the passes of CASES times the work of one forward pass."""
    passes, shape = CASES[case].passes, batch_shape(model.settings)
    generator, discriminator = model.generator, model.networks.get("discriminator")
    layers = getattr(model, "layers_compared", None)
    total = 3 * passes.translated * forward_gflop(lambda images: generator(images, training=True), shape)
    if passes.encoded and layers is not None:
        encoder = forward_gflop(lambda images: generator.encode(images, layers, training=True), shape)
        total += (3 * passes.encoded + passes.keys) * encoder
    if passes.trained and discriminator is not None:
        work = forward_gflop(lambda images: discriminator(images, training=True), shape)
        total += (3 * passes.trained + 2 * passes.judged) * work
    return total


def forward_gflop(network: Callable[[tf.Tensor], object], shape: list[int]) -> float:
    """Multiplications and additions of all convolutions and matrix products of a forward pass, in GFLOP, by shapes.

    They are counted for plain convolutions, as phones get them. Faster forms leave products out, which must not count.
    """
    with portable_ops():
        graph = tf.function(network).get_concrete_function(tf.TensorSpec(shape)).graph
    return sum(map(_flop, graph.get_operations())) / 1e9


def _flop(operation: tf.Operation) -> float:
    if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel = operation.inputs[1].shape
        # A depthwise kernel is [h, w, in, multiplier], and each output sees one input channel.
        depth = kernel[2] if operation.type == "Conv2D" else 1
        return 2.0 * kernel[0] * kernel[1] * depth * _elements(operation.outputs[0])
    if operation.type == "Conv2DBackpropInput":
        # In a transposed convolution each pixel of the input is multiplied with the whole kernel.
        kernel = operation.inputs[1].shape
        return 2.0 * kernel[0] * kernel[1] * kernel[2] * _elements(operation.inputs[2])
    if operation.type in ("MatMul", "BatchMatMulV2"):
        left = operation.inputs[0].shape
        transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        return 2.0 * (left[-2] if transposed else left[-1]) * _elements(operation.outputs[0])
    return 0.0


def _elements(tensor: tf.Tensor) -> int:
    return math.prod(tensor.shape)


def line(row: dict) -> str:
    """A row as readable text."""
    return (f"{row['name']:9s} {row['precision']:8s} {row['size_px']:4d} px, batch {row['batch_size']:2d}, ngf "
            f"{row['ngf']:2d}: {row['median_sec']:8.3f} s ({row['least_sec']:.3f} to {row['most_sec']:.3f})  "
            f"{row['images_per_sec']:7.2f} images/s  {row['peak_gib']:5.2f} GiB  {row['reference_gflop']:7.1f} GFLOP "
            f"at {100 * row['ceiling_share']:5.1f} % of {row['ceiling_gflops']:.0f} GFLOP/s")
