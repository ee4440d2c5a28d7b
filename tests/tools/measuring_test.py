"""Memory of the GPU where there is one, of the process elsewhere."""

from __future__ import annotations

import types

import pytest
import tensorflow as tf

from tools.benchmark import measuring, naive


class _Memory:
    """Stands in for TensorFlow's account of a GPU that holds 3 MiB, and held 7 before it was told to forget that."""

    def __init__(self) -> None:
        self.peak, self.asked = 7 * 2**20, []

    def get_memory_info(self, device: str) -> dict[str, int]:
        self.asked.append(device)
        return {"current": 3 * 2**20, "peak": self.peak}

    def reset_memory_stats(self, device: str) -> None:
        self.asked.append(device)
        self.peak = 3 * 2**20


@pytest.fixture(name="gpu")
def _gpu(monkeypatch) -> _Memory:
    memory, listed = _Memory(), tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: (
        [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")] if kind == "GPU" else listed(kind)))
    monkeypatch.setattr(tf.config, "experimental", types.SimpleNamespace(
        get_memory_info=memory.get_memory_info, reset_memory_stats=memory.reset_memory_stats))
    return memory


def test_memory_is_that_of_the_gpu(gpu):
    assert measuring.peak_mib() == 7.0
    assert measuring.start_peak() == 3.0 and measuring.peak_mib() == 3.0
    assert set(gpu.asked) == {"GPU:0"}


def test_memory_of_what_runs_on_the_cpu_beside_a_gpu_is_that_of_the_process(gpu, monkeypatch):
    monkeypatch.setattr(measuring, "status_mib", {"VmHWM": 21.0, "VmRSS": 20.0}.get)
    assert measuring.start_peak(on_cpu=True) == 20.0 and measuring.peak_mib(on_cpu=True) == 21.0
    assert not gpu.asked


def test_memory_without_a_gpu_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr(measuring, "on_gpu", lambda: False)
    monkeypatch.setattr(measuring, "status_mib", {"VmHWM": 21.0, "VmRSS": 20.0}.get)
    assert measuring.start_peak() == 20.0 and measuring.peak_mib() == 21.0


@pytest.mark.parametrize("on_gpu", [False, True])
def test_forms_of_cpus_are_not_timed_on_a_gpu(on_gpu, monkeypatch):
    monkeypatch.setattr(measuring, "in_own_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(measuring, "on_gpu", lambda: on_gpu)
    timed = []
    monkeypatch.setattr(naive, "_times", lambda name, *_: timed.append(name) or {})
    assert not list(naive.rows(64, 1, 8, "float32", 1))
    of_cpus = {"3x3 convolution", "7x7 convolution to 3 filters", "mirrored border"}
    everything = {*naive.PAIRS, *naive.CONSTRAINTS}
    assert set(timed) == (everything - of_cpus if on_gpu else everything)
