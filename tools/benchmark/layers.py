"""The rows of `python -m tools.benchmark layers`: deformable convolution against an ordinary one of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.convolution import Convolution
from cut_tf.layers.deformable_convolution import DeformableConvolution
from cut_tf.networks import POLICIES
from tools.benchmark import measuring

# Name to layer, of (channels, dtype policy).
LAYERS: dict[str, Callable[[int, str], keras.layers.Layer]] = {
    "convolution": lambda channels, policy: Convolution(channels, 3, seed=0, padding_px=1, gain=1.0, dtype=policy),
    "deformable": lambda channels, policy: DeformableConvolution(channels, seed=0, dtype=policy)}
PASSES = ("forward", "forward+backward")
# AECR-Net's layers of this kind work at a quarter of the resolution, with four times the channels of its stem.
_REDUCTION = 4


def rows(size_px: int, batch_size: int, ngf: int, precision: str, repeats: int) -> Iterator[dict]:
    """One row per layer and pass. Times are taken in turns in one process, peaks of memory in one each.

    Args:
      size_px: side of the picture; the layers get [batch_size, size_px / 4, size_px / 4, 4 * ngf].
      batch_size: pictures.
      ngf: channels of AECR-Net's stem.
      precision: float32, bfloat16 or float16.
      repeats: timed calls, after two others.
    """
    case = (size_px, batch_size, ngf, precision)
    found = measuring.in_own_process(_times, *case, repeats)
    shape = _shape(*case[:3])
    work = shape[0] * shape[1] * shape[2] / 1e6 * shape[3]  # megapixels times channels
    for layer in LAYERS:
        for step in PASSES:
            timing = found[f"{layer} {step}"]
            yield {"name": layer, "pass": step, "shape": shape, "precision": precision, **timing._asdict(),
                   "sec_per_megapixel_channel": timing.median_sec / work,
                   "share_of_convolution": timing.median_sec / found[f"convolution {step}"].median_sec,
                   "peak_mib": measuring.in_own_process(_peak_mib, layer, step, *case)}


def _shape(size_px: int, batch_size: int, ngf: int) -> list[int]:
    return [batch_size, size_px // _REDUCTION, size_px // _REDUCTION, _REDUCTION * ngf]


def _call(layer: str, step: str, size_px: int, batch_size: int, ngf: int, precision: str) -> Callable[[], object]:
    """A compiled pass of a layer on noise."""
    shape = _shape(size_px, batch_size, ngf)
    network = LAYERS[layer](shape[-1], POLICIES[precision])
    inputs = tf.cast(tf.random.stateless_normal(shape, [0, 0]), precision)
    network(inputs[:, :4, :4])
    if layer == "deformable":
        # Offsets of a pixel or so, as training finds them.
        kernel = compat.raw_variable(network.places.kernel)
        kernel.assign(tf.random.stateless_normal(kernel.shape, [1, 0]) * (9 * shape[-1])**-0.5)
    compiled = _passes(network)[step]
    return lambda: compiled(inputs)


def _passes(network: keras.layers.Layer) -> dict[str, Callable[[tf.Tensor], object]]:
    variables = [compat.raw_variable(weight) for weight in network.trainable_variables]

    @tf.function
    def forward(inputs: tf.Tensor) -> tf.Tensor:
        return network(inputs)

    @tf.function
    def backward(inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_mean(tf.square(tf.cast(network(inputs), tf.float32)))
        return tape.gradient(loss, [inputs, *variables])

    return dict(zip(PASSES, (forward, backward)))


def _times(size_px: int, batch_size: int, ngf: int, precision: str, repeats: int) -> dict[str, measuring.Timing]:
    case = (size_px, batch_size, ngf, precision)
    calls = {f"{layer} {step}": _call(layer, step, *case) for layer in LAYERS for step in PASSES}
    return measuring.interleaved(calls, repeats)


def _peak_mib(layer: str, step: str, *case: object) -> float:
    """Memory that the pass needs in addition to that of the process before it was compiled."""
    call = _call(layer, step, *case)
    before = measuring.start_peak()
    measuring.measure(call, 1)
    return measuring.peak_mib() - before


def line(row: dict) -> str:
    """A row as readable text."""
    median, least, most = (1000 * row[key] for key in ("median_sec", "least_sec", "most_sec"))
    return (f"{row['name']:11s} {row['pass']:16s} {row['precision']:8s} {'x'.join(map(str, row['shape']))}  "
            f"{median:8.2f} ms ({least:.2f} to {most:.2f})  x {row['share_of_convolution']:5.2f}  "
            f"{1000 * row['sec_per_megapixel_channel']:7.2f} ms per megapixel and channel  {row['peak_mib']:6.0f} MiB")
