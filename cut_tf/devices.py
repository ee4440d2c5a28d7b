"""The devices that TensorFlow computes on: their set-up, their names, and NVIDIA cards that it does not see."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

_LOG = logging.getLogger(__name__)

# Where NVIDIA's driver for Linux lists its cards.
_DRIVER = Path("/proc/driver/nvidia/gpus")
_LONGEST_LISTING_SEC = 20


def set_up(tf32: bool) -> None:
    """Sets up all GPUs. Call it before TensorFlow computes anything.

    They take memory as they need it, not all of it at once. Later calls change `tf32` only.

    Args:
      tf32: let GPUs round the inputs of float32 products to the 11 bits of TensorFloat-32.
    """
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError) as error:  # a program that uses this package has chosen otherwise
            _LOG.warning("%s: may take all memory at once, since growth cannot be set: %s", gpu.name, error)


def report(virtual_devices: int = 0) -> list[str]:
    """Lines that name the device of this process, and warn of NVIDIA cards that TensorFlow does not see.

    Args:
      virtual_devices: parts of the CPU that are used instead of any GPU; 0 for GPUs, or the CPU where there are none.
    """
    gpus = [] if virtual_devices else [_name(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    device = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)} ({_enumeration(gpus)})" if gpus else f"CPU, {_cores()}"
    parts = f" as {virtual_devices} devices" if virtual_devices else ""
    lines = [f"Device: {device}{parts}, TensorFlow {tf.__version__}, Keras {keras.__version__}"]
    return lines if virtual_devices else lines + _warnings(len(gpus))


def _name(gpu: tf.config.PhysicalDevice) -> str:
    return tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)


def _enumeration(names: Sequence[str]) -> str:
    """2x A, B"""
    return ", ".join(name if count == 1 else f"{count}x {name}" for name, count in Counter(names).items())


def _cores() -> str:
    """The cores that this process may use; in containers and batch systems often fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} core{'s' * (cores > 1)}"


def _warnings(seen: int) -> list[str]:
    cards = _nvidia_cards()
    if _visible(len(cards)) <= seen:
        return []
    return [f"warning: NVIDIA's driver lists {len(cards)} card{'s' * (len(cards) > 1)} ({_enumeration(cards)}), and "
            f"TensorFlow {tf.__version__} sees {seen or 'none'} of them. If its CUDA libraries are missing, "
            "pip install 'cut_tf[gpu]' (in a clone: '.[gpu]') adds them; a container needs the cards as well (docker "
            "run --gpus all). CUDA_VISIBLE_DEVICES=-1 chooses the CPU and silences this warning"]


def _visible(cards: int) -> int:
    """How many of the machine's NVIDIA cards CUDA_VISIBLE_DEVICES leaves to this process."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return cards
    # CUDA reads the list up to the first entry that names no card.
    return min(cards, len(list(itertools.takewhile(lambda entry: entry.strip() not in ("", "-1"), chosen.split(",")))))


def _nvidia_cards() -> list[str]:
    """Names of the cards that NVIDIA's driver knows; none without a driver."""
    program = shutil.which("nvidia-smi")
    if program:
        try:
            listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_LONGEST_LISTING_SEC,
                                     check=True).stdout
            return re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listing, re.MULTILINE)
        except (OSError, subprocess.SubprocessError) as error:
            _LOG.warning("%s -L fails: %s", program, error)
    try:
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(_DRIVER.glob("*/information"))]
    except OSError:
        return []
    names = [re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE) for text in texts]
    return [name.group(1) if name else "of unknown model" for name in names]
