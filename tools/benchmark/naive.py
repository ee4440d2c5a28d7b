"""More rows of `python -m tools.benchmark layers`: each layer and loss against its most direct form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from cut_tf.layers.blur_pool import BlurDown, BlurUp
from cut_tf.layers.fast import few_filters, winograd
from cut_tf.layers.norm import EPSILON, InstanceNorm
from cut_tf.layers.orthogonal import retraction, tangent_projection
from cut_tf.layers.padding import mirror_borders
from cut_tf.losses import patch_nce
from cut_tf.networks.heads.patch_projector import PatchProjector
from tools.benchmark import measuring

_PATCHES, _WIDTH, _TEMPERATURE = 256, 256, 0.07
_MASKED = -10.0

Operation = Callable[[tf.Tensor], tf.Tensor]


class Pair(NamedTuple):
    """Ours and the naive form, each of one tensor, and the tensor's shape by (size_px, batch_size, ngf)."""

    ours: Operation
    naive: Operation
    shape: Callable[[int, int, int], list[int]]


def _full(size_px: int, batch_size: int, ngf: int) -> list[int]:
    return [batch_size, size_px, size_px, 2 * ngf]


def _inner(size_px: int, batch_size: int, ngf: int) -> list[int]:
    return [batch_size, size_px // 4, size_px // 4, 4 * ngf]


def _kernel(weights: list[float], channels: int, dtype: tf.DType) -> tf.Tensor:
    """The depthwise kernel [k, k, C, 1] of a separable blur."""
    row = tf.constant(weights)
    square = row[:, None] * row[None] / tf.reduce_sum(row) ** 2
    return tf.cast(tf.tile(square[:, :, None, None], [1, 1, channels, 1]), dtype)


def _depthwise_down(images: tf.Tensor) -> tf.Tensor:
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    return tf.nn.depthwise_conv2d(padded, _kernel([1.0, 2.0, 1.0], images.shape[-1], images.dtype), [1, 2, 2, 1],
                                  "VALID")


def _depthwise_up(images: tf.Tensor) -> tf.Tensor:
    """Repeats the border, puts zeros between the pixels, and blurs."""
    edge = tf.concat([images[:, :1], images, images[:, -1:]], 1)
    edge = tf.concat([edge[:, :, :1], edge, edge[:, :, -1:]], 2)
    _, height, width, channels = edge.shape
    spread = tf.reshape(tf.stack([edge, tf.zeros_like(edge)], 2), [-1, 2 * height, width, channels])
    spread = tf.reshape(tf.stack([spread, tf.zeros_like(spread)], 3), [-1, 2 * height, 2 * width, channels])
    kernel = 4.0 * _kernel([1.0, 3.0, 3.0, 1.0], channels, images.dtype)
    return tf.nn.depthwise_conv2d(spread, kernel, [1, 1, 1, 1], "VALID")[:, :2 * height - 4, :2 * width - 4]


def _moments_norm(images: tf.Tensor) -> tf.Tensor:
    floats = tf.cast(images, tf.float32)
    mean, variance = tf.nn.moments(floats, [1, 2], keepdims=True)
    return tf.cast((floats - mean) / tf.sqrt(variance + EPSILON), images.dtype)


def _outer(size_px: int, batch_size: int, ngf: int) -> list[int]:
    return [batch_size, size_px, size_px, ngf]


def _convolved(convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], side: int = 3,
               filters: int | None = None) -> Operation:
    """A convolution of noise; its kernel depends on the images a little, so that its gradient is taken too."""
    def operation(images: tf.Tensor) -> tf.Tensor:
        channels = images.shape[-1]
        kernel = tf.cast(tf.random.stateless_normal([side, side, channels, filters or channels], [0, 0]), images.dtype)
        return convolve(images, kernel * images[0, 0, 0, 0])

    return operation


def _pair_of_projections() -> tuple[Operation, Operation]:
    """Features of a few patches: gathered, then projected; and the other way round."""
    projectors: dict[int, PatchProjector] = {}

    def projector(channels: int) -> PatchProjector:
        if channels not in projectors:
            with tf.init_scope():  # weights are made once, outside of what is compiled
                projectors[channels] = PatchProjector([channels], _WIDTH, 0)
        return projectors[channels]

    def ids(count: int, patches: int) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(tf.range(count), [0, 0])[:patches]

    def ours(features: tf.Tensor) -> tf.Tensor:
        chosen = ids(features.shape[1] * features.shape[2], _PATCHES)
        return projector(features.shape[-1])([features], [chosen])[0]

    def naive(features: tf.Tensor) -> tf.Tensor:
        count = features.shape[1] * features.shape[2]
        everywhere = projector(features.shape[-1])([features], [tf.range(count)])[0]
        return tf.gather(everywhere, ids(count, _PATCHES), axis=1)

    return ours, naive


def _queries_and_keys(vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return vectors, tf.stop_gradient(tf.reverse(vectors, [0]))


def _our_nce(vectors: tf.Tensor) -> tf.Tensor:
    query, key = _queries_and_keys(vectors)
    return patch_nce.loss_from_logits(patch_nce.internal_logits(query, key, _TEMPERATURE))


def _naive_nce(vectors: tf.Tensor) -> tf.Tensor:
    """Image by image and query by query, as the formula reads."""
    query, key = _queries_and_keys(vectors)

    def of_query(pair: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        one, number, keys = pair
        similar = tf.linalg.matvec(keys, one)
        others = tf.where(tf.range(tf.shape(keys)[0]) == number, _MASKED, similar)
        logits = tf.concat([similar[number][None], others], 0) / _TEMPERATURE
        return -tf.nn.log_softmax(logits)[0]

    def of_image(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        queries, keys = pair
        numbers = tf.range(tf.shape(queries)[0])
        repeated = tf.tile(keys[None], [tf.shape(queries)[0], 1, 1])
        return tf.map_fn(of_query, (queries, numbers, repeated), fn_output_signature=tf.float32)

    return tf.map_fn(of_image, (query, key), fn_output_signature=tf.float32)


def _polar_by_svd(kernel: tf.Tensor) -> tf.Tensor:
    _, left, right = tf.linalg.svd(kernel)
    return tf.matmul(left, right, adjoint_b=True)


def _stiefel(polar: Operation) -> Operation:
    """A step from an orthonormal kernel: projected gradient, then the polar factor."""
    def step(kernel: tf.Tensor) -> tf.Tensor:
        start = tf.linalg.qr(kernel)[0]
        return polar(start - 2e-4 * tf.sign(tangent_projection(start, tf.reverse(kernel, [0]))))

    return step


_PROJECTIONS = _pair_of_projections()
# `call`, since a layer itself would cast to its own type.
PAIRS = {
    "3x3 convolution": Pair(_convolved(lambda images, kernel: winograd.convolution_3x3(images, kernel, same=True)),
                            _convolved(lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME")), _inner),
    "7x7 convolution to 3 filters": Pair(
        _convolved(few_filters.convolution, 7, 3),
        _convolved(lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "VALID"), 7, 3), _outer),
    "blur down": Pair(BlurDown().call, _depthwise_down, _full),
    "blur up": Pair(BlurUp().call, _depthwise_up, _inner),
    "mirrored border": Pair(lambda images: mirror_borders(images, 1),
                            lambda images: tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"), _inner),
    "instance norm": Pair(InstanceNorm().call, _moments_norm, _inner),
    "patch sampling": Pair(*_PROJECTIONS, _inner),
    "PatchNCE": Pair(_our_nce, _naive_nce, lambda size_px, batch_size, ngf: [batch_size, _PATCHES, _WIDTH]),
}
# Those that also run in half precision. Embeddings and constraints are always float32.
HALF_PRECISION = ("3x3 convolution", "7x7 convolution to 3 filters", "blur down", "blur up",
                  "mirrored border", "instance norm")
# Forms that layers take on CPUs alone.
OF_CPUS = ("3x3 convolution", "7x7 convolution to 3 filters", "mirrored border")
# Compared forward alone: the constraint is no part of a loss.
CONSTRAINTS = {"Stiefel step": Pair(_stiefel(retraction), _stiefel(_polar_by_svd),
                                    lambda size_px, batch_size, ngf: [_WIDTH, _WIDTH])}


def rows(size_px: int, batch_size: int, ngf: int, precision: str, repeats: int) -> Iterator[dict]:
    """Two rows per layer, ours and the naive form, forward and backward, measured in turns.

    With a GPU, layers whose faster form is for CPUs alone are left out.

    Args:
      size_px: side of the pictures.
      batch_size: pictures.
      ngf: channels of the generator's stem.
      precision: float32, bfloat16 or float16; in half precision only what the networks compute in it.
      repeats: timed calls, after two others.
    """
    shapes = {name: pair.shape(size_px, batch_size, ngf) for name, pair in {**PAIRS, **CONSTRAINTS}.items()
              if precision == "float32" or name in HALF_PRECISION}
    for name, found in measuring.in_own_process(_all_times, shapes, precision, repeats).items():
        for form, timing in found.items():
            yield {"name": name, "form": form, "precision": precision, "shape": shapes[name], **timing._asdict(),
                   "share_of_naive": timing.median_sec / found["naive"].median_sec}


def _all_times(shapes: dict[str, list[int]], precision: str, repeats: int) -> dict[str, dict[str, measuring.Timing]]:
    return {name: _times(name, shape, precision, repeats) for name, shape in shapes.items()
            if name not in OF_CPUS or not measuring.on_gpu()}


def _times(name: str, shape: list[int], precision: str, repeats: int) -> dict[str, measuring.Timing]:
    inputs = tf.cast(tf.random.stateless_normal(shape, [0, 0]), precision)
    calls: dict[str, Callable[[], Any]] = {}
    for form in ("ours", "naive"):
        if name in CONSTRAINTS:
            compiled = tf.function(getattr(CONSTRAINTS[name], form))
        else:
            compiled = tf.function(_with_gradient(getattr(PAIRS[name], form)))
        calls[form] = lambda compiled=compiled: compiled(inputs)
    return measuring.interleaved(calls, repeats)


def _with_gradient(operation: Operation) -> Operation:
    def both(inputs: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = operation(inputs)
        # Linear layers have a constant gradient for a constant, which TensorFlow would compute only once.
        return tape.gradient(output, inputs, output)

    return both


def line(row: dict) -> str:
    """A row as readable text."""
    median, least, most = (1000 * row[key] for key in ("median_sec", "least_sec", "most_sec"))
    shape = "x".join(map(str, row["shape"]))
    return (f"{row['name']:28s} {row['form']:6s} {row['precision']:8s} {shape:16s} {median:8.2f} ms ({least:.2f} to "
            f"{most:.2f})  x {row['share_of_naive']:.3f}")
