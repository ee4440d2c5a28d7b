"""Time, memory and this machine's own ceilings, measured in processes of their own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_GPU, _MIB = "GPU:0", 2**20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Large enough that the matrices do not fit into the caches, small enough for a tenth of a second.
_MATRIX_SIDE, _BANDWIDTH_FLOATS = 2048, 2**25
# Products in a call, one after the other like the convolutions of a step. A single one would find the cores idle.
_PRODUCTS = 4


class Timing(NamedTuple):
    """Seconds per call: median, smallest and largest of the measurements."""

    median_sec: float
    least_sec: float
    most_sec: float


def timing_of(times: Sequence[float]) -> Timing:
    """The summary of single measurements in seconds."""
    return Timing(statistics.median(times), min(times), max(times))


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call until its result is there. It must return a tensor, an array or a structure of them."""
    import tensorflow as tf  # not in the parent of the processes that measure

    start = time.perf_counter()
    for value in tf.nest.flatten(call()):
        if isinstance(value, tf.Tensor):
            value.numpy()
    return time.perf_counter() - start


def measure(call: Callable[[], object], repeats: int, warm_up: int = 2) -> Timing:
    """Times `call` after a warm-up."""
    return timing_of([timed(call) for _ in range(warm_up + repeats)][warm_up:])


def interleaved(calls: dict[str, Callable[[], object]], repeats: int, warm_up: int = 2) -> dict[str, Timing]:
    """Times several calls in turns, so that other programs on the machine slow all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warm_up + repeats):
        for name, call in calls.items():
            times[name].append(timed(call))
    return {name: timing_of(values[warm_up:]) for name, values in times.items()}


def in_own_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Calls a function in a new process, which frees all memory at its end, that of a GPU too.

    TensorFlow and the peak of memory belong to that process alone. Raises BrokenProcessPool if it is killed.
    """
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), signal.signal,
                                                (signal.SIGINT, signal.SIG_IGN)) as pool:
        return pool.submit(function, *arguments).result()


def start_peak(on_cpu: bool = False) -> float:
    """Resets the peak of memory that `peak_mib` returns. Returns the memory in use now, in MiB.

    It is that of the first GPU; without one, or with `on_cpu`, that of this process, whose peak includes its parent's.
    """
    import tensorflow as tf

    if on_gpu() and not on_cpu:
        tf.config.experimental.reset_memory_stats(_GPU)
        return tf.config.experimental.get_memory_info(_GPU)["current"] / _MIB
    if _CLEAR.exists():
        _CLEAR.write_text("5")
    return status_mib("VmRSS")


def peak_mib(on_cpu: bool = False) -> float:
    """Peak of memory in MiB: of the first GPU; without one, or with `on_cpu`, of this process."""
    import tensorflow as tf

    if on_gpu() and not on_cpu:
        return tf.config.experimental.get_memory_info(_GPU)["peak"] / _MIB
    return status_mib("VmHWM")


def on_gpu() -> bool:
    """Whether layers run on a GPU here."""
    from cut_tf.layers import kernels  # which needs TensorFlow

    return kernels.on_gpu()


def status_mib(key: str) -> float:
    """A line of /proc/self/status in MiB, such as VmHWM, the peak of memory; NaN on systems other than Linux."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(found.split()[1]) / 1024 for found in lines if found.startswith(f"{key}:")), float("nan"))


def matrix_product(precision: str) -> tuple[Callable[[], object], float]:
    """A call that multiplies square matrices, and its work in GFLOP: the ceiling for convolutions.

    Args:
      precision: float32, bfloat16 or float16.
    """
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_normal([_MATRIX_SIDE, _MATRIX_SIDE], [0, 0]), precision)

    @tf.function
    def products(first: tf.Tensor) -> tf.Tensor:
        found = first
        for _ in range(_PRODUCTS):
            found = tf.matmul(found, first)
        return found

    # Only a corner is copied to the host, so that the time is that of the products.
    return lambda: products(matrix)[:1, :1], _PRODUCTS * 2 * _MATRIX_SIDE**3 / 1e9


def memory_copy() -> tuple[Callable[[], object], float]:
    """A call that reads and writes an array, and how many GB it moves: the ceiling for elementwise operations."""
    import tensorflow as tf

    array = tf.zeros([_BANDWIDTH_FLOATS])
    add = tf.function(lambda values: values + 1.0)
    return lambda: add(array)[:1], 2 * 4 * _BANDWIDTH_FLOATS / 1e9
