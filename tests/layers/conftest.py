"""What tests of layers share: a machine with a GPU, as TensorFlow reports it."""

from __future__ import annotations

import pytest
import tensorflow as tf


@pytest.fixture(name="gpu")
def _gpu(monkeypatch) -> None:
    """TensorFlow reports a GPU, while operations still run on the CPU."""
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: (
        [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")] if kind == "GPU" else listed(kind)))
