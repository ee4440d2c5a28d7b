"""The name of a device, cards that TensorFlow does not see, and that every command sets the device up.

No GPU is needed: TensorFlow's list of them, and NVIDIA's, are replaced.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf import devices
from cut_tf.layers import kernels
from tests import warm_process

VERSIONS = f", TensorFlow {tf.__version__}, Keras {keras.__version__}"
H100 = "NVIDIA H100 80GB HBM3"
LISTING = f"GPU 0: {H100} (UUID: GPU-52f1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA T4 (UUID: GPU-52f2)\n"


@pytest.fixture(autouse=True)
def _machine_without_cards(monkeypatch, tmp_path):
    """Whatever machine this is."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "gpus")
    _tensorflow_sees(monkeypatch)


@pytest.fixture(autouse=True)
def _same_tf32_as_before():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


def _tensorflow_sees(monkeypatch, *names: str) -> list:
    """Lets TensorFlow see these GPUs; returns what will have been asked of set_memory_growth."""
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{index}", "GPU") for index in range(len(names))]
    cpus = tf.config.list_physical_devices("CPU")
    asked = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus if kind == "GPU" else cpus)
    monkeypatch.setattr(tf.config.experimental, "get_device_details",
                        lambda gpu: {"device_name": names[gpus.index(gpu)]})
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, grows: asked.append((gpu, grows)))
    return asked


def _install_nvidia_smi(tmp_path: Path, script: str) -> None:
    path = tmp_path / "bin" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _list_cards(tmp_path: Path, listing: str) -> None:
    _install_nvidia_smi(tmp_path, f'[ "$*" = -L ] || exit 9\necho \'{listing}\'')


def test_a_cpu_is_named_with_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert devices.report() == [f"Device: CPU, 3 cores{VERSIONS}"]
    assert devices.report(2) == [f"Device: CPU, 3 cores as 2 devices{VERSIONS}"]
    assert not kernels.on_gpu()


@pytest.mark.parametrize("names, expected", [
    ([H100], f"1 GPU ({H100})"), ([H100, H100], f"2 GPUs (2x {H100})"), (["A", "B", "A"], "3 GPUs (2x A, B)")])
def test_gpus_are_named(names, expected, monkeypatch):
    _tensorflow_sees(monkeypatch, *names)
    assert devices.report() == [f"Device: {expected}{VERSIONS}"]
    assert devices.report(2)[0].startswith("Device: CPU, ")
    assert kernels.on_gpu()


def test_cards_that_tensorflow_does_not_see_are_told(monkeypatch, tmp_path):
    _list_cards(tmp_path, LISTING)
    warning, = devices.report()[1:]
    assert warning.startswith(f"warning: NVIDIA's driver lists 2 cards ({H100}, NVIDIA T4), and TensorFlow "
                              f"{tf.__version__} sees none of them.")
    assert "pip install 'cut_tf[gpu]'" in warning
    _tensorflow_sees(monkeypatch, "NVIDIA T4")
    assert "sees 1 of them" in devices.report()[1]
    _tensorflow_sees(monkeypatch, H100, "NVIDIA T4")
    assert len(devices.report()) == 1


@pytest.mark.parametrize("chosen, seen, warns", [
    ("-1", 0, False), ("", 0, False), ("0", 0, True), ("0", 1, False), ("0,1", 1, True), ("1,-1,0", 1, False),
    ("GPU-52f1", 1, False), ("MIG-GPU-52f1/1/0", 0, True), ("0,1,2", 2, False)])
def test_cards_that_the_user_hides_are_not_missed(chosen, seen, warns, monkeypatch, tmp_path):
    _list_cards(tmp_path, LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    _tensorflow_sees(monkeypatch, *[H100] * seen)
    assert len(devices.report()) == 1 + warns


def test_the_driver_is_read_where_nvidia_smi_is_missing_or_fails(tmp_path, caplog):
    for number in range(2):
        folder = tmp_path / "gpus" / f"0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {H100}\nIRQ:   \t\t 82\n")
    expected = f"lists 2 cards (2x {H100})"
    assert expected in devices.report()[1]
    _install_nvidia_smi(tmp_path, "exit 9")
    assert expected in devices.report()[1] and "nvidia-smi -L fails" in caplog.text


@pytest.mark.parametrize("tf32", [True, False])
def test_gpus_grow_and_round_only_if_asked(tf32, monkeypatch):
    asked = _tensorflow_sees(monkeypatch, H100, "NVIDIA T4")
    tf.config.experimental.enable_tensor_float_32_execution(not tf32)
    devices.set_up(tf32)
    assert tf.config.experimental.tensor_float_32_execution_enabled() is tf32
    assert [(gpu.name[-1], grows) for gpu, grows in asked] == [("0", True), ("1", True)]


def test_a_program_that_used_tensorflow_before_is_warned(monkeypatch, caplog):
    _tensorflow_sees(monkeypatch, H100)

    def refuse(gpu, grows):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    devices.set_up(False)
    assert "GPU:0: may take all memory at once" in caplog.text and "cannot be modified" in caplog.text


# Each command up to its first use of the device, where `stop` shows what is set.
_COMMANDS = {
    "train": ("from cut_tf import train as main\nfrom cut_tf.training import trainer\ntrainer.open_dataset = stop",
              ["--run=run", "--dataset=scenes"]),
    "translate": ("from cut_tf import translate as main\nfrom cut_tf.translators import run\nrun.Translator = stop",
                  ["--run=run", "--input=a.png", "--output=out"]),
    "translate a SavedModel": ("from cut_tf import translate as main\n"
                               "from cut_tf.translators import exported\nexported.SavedModelTranslator = stop",
                               ["--saved_model=model", "--input=a.png", "--output=out"]),
    "export": ("from cut_tf.export import __main__ as main\nfrom cut_tf.translators import run\nrun.Translator = stop",
               ["--run=run", "--output=out"]),
    "evaluate": ("from cut_tf import evaluate as main\nfrom cut_tf.metrics.reports import folder\n"
                 "folder.evaluate_folders = stop", ["--pred=p", "--target=t"]),
    "evaluate distances": (
        "from cut_tf import evaluate as main\nfrom cut_tf.metrics import features\n"
        "from cut_tf.metrics.reports import distances\n"
        "distances.check_distribution = lambda *_: 0\nfeatures.feature_extractor = stop",
        ["--pred=p", "--target=t", "--distribution=fid", "--feature_extractor=random"]),
}
_STOP = """
import tensorflow as tf
from cut_tf.common.errors import InputError
def stop(*_, **__):
    raise InputError(f"tf32 {tf.config.experimental.tensor_float_32_execution_enabled()}")
"""


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_names_the_device_and_obeys_tf32(command, tmp_path, monkeypatch):
    monkeypatch.undo()
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    replaced, arguments = _COMMANDS[command]
    for flag, expected in (([], "error: tf32 False\n"), (["--tf32"], "error: tf32 True\n")):
        done = warm_process.run(["-c", f"{_STOP}{replaced}\nmain.run()", *arguments, *flag], tmp_path)
        # TensorFlow may have said something about the machine's driver before.
        assert done.returncode == 2 and done.stderr.endswith(expected), done.stdout + done.stderr
        if command not in ("export", "evaluate"):
            assert done.stdout.startswith("Device: "), done.stdout


def test_parity_is_checked_in_full_float32(tmp_path):
    (tmp_path / "a.npz").touch()
    code = (f"{_STOP}from tools.check_parity import __main__ as main, checks\n"
            "checks.check_file = stop\nmain.command_line.run(main.main)")
    done = warm_process.run(["-c", code, f"--vectors={tmp_path}"], tmp_path)
    assert "InputError: tf32 False" in done.stderr, done.stdout + done.stderr


def test_translate_refuses_tf32_where_no_gpu_is_used(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    done = warm_process.run(["-m", "cut_tf.translate", "--method=dark_channel_prior", "--input=a.png", "--output=out",
                             "--tf32"], tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--tf32 must not be given without --run or --saved_model, found True" in done.stderr
