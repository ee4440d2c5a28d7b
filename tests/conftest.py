"""What all tests share: two logical CPU devices, the test data folder, tiny settings."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_LONG_FOLDERS = ("training", "export", "methods")
_LOGICAL_CPUS = 2
_TINY = {
    "load_size_px": 36, "crop_size_px": 32, "scenes_images": 4, "scenes_size_px": 32, "test_images": 2,
    "generator_blocks": 1, "ngf": 4, "ndf": 4, "projector_width": 16, "num_patches": 16, "nce_layers": "0,4,8,12",
    "constant_epochs": 1, "decay_epochs": 1, "steps_per_epoch": 2,
}

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(_TESTS.parent))


# What commands keep in the user's cache, they keep here: no test depends on what an earlier run has left.
_CACHE = tempfile.mkdtemp(prefix="cut_tf_cache_")


def pytest_configure(config: pytest.Config) -> None:
    """Splits the CPU before any test touches TensorFlow, so that several replicas run in this process."""
    os.environ["XDG_CACHE_HOME"] = _CACHE
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
        # Test processes that run at the same time share the cores. More threads than cores take an eighth longer.
        threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(threads, 1)))
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * _LOGICAL_CPUS)
    # pytest-xdist would begin with the files that have most tests, and end with the README's, which takes longest.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_unconfigure() -> None:
    """Leaves nothing behind."""
    shutil.rmtree(_CACHE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, the README's commands before all: the short ones fill what is left."""
    items.sort(key=lambda item: (item.path.name != "readme_test.py", item.path.parent.name not in _LONG_FOLDERS))


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder of the recorded test data."""
    return _TESTS / "testdata"


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., object]:
    """tiny_settings(**overrides): Settings of a run that takes seconds; overrides by the name of the field."""
    from cut_tf.settings import Settings

    def make(**overrides: object) -> Settings:
        return Settings.of(**{**_TINY, **overrides})

    return make


@pytest.fixture(scope="session")
def two_replicas() -> object:
    """MirroredStrategy of two CPU devices. One for all tests: collectives of several in one process get mixed up."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(_LOGICAL_CPUS)])
