"""Keys of steps: other code and other settings have other ones, and code from outside has none."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import tensorflow as tf

from cut_tf.losses import adversarial
from cut_tf.methods import build_method, step_keys
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.optimizers import Adam, LinearDecay
from cut_tf.networks.generators import mobile
from cut_tf.networks.generators.mobile import LightBlock
from tests.training.processes import QUICK_FLAGS

_ROOT = Path(__file__).parents[2]
# One term and one small network: what is quick to build.
_QUICK = dict(flag.removeprefix("--").split("=") for flag in QUICK_FLAGS)


@pytest.fixture(name="key_of")
def _key_of(tiny_settings):
    """key_of(side_px=32, rate=None, optimizers=None, **settings) -> key of a step of batches of that size."""
    def key_of(side_px=32, rate=None, optimizers=None, change=lambda method: None, **overrides):
        method = build_method(tiny_settings(**{"generator_blocks": 0, **_QUICK, **overrides}))
        method.compile(rate, optimizers)
        change(method)
        return step_keys.key_of(method, [tf.TensorSpec([1, side_px, side_px, 3])])

    return key_of


def test_graphs_have_names_by_all_that_they_depend_on(key_of, monkeypatch):
    names = [key_of(), key_of(side_px=40), key_of(learning_rate=0.01), key_of(seed=7), key_of(ngf=8),
             *(key_of(rate=LinearDecay(0.01, 1, 1, steps)) for steps in (5, 6))]
    with monkeypatch.context() as patch:
        # A function of Python's, which nobody takes for a change of this package.
        patch.setattr(step_keys, "source_checksum", platform.python_implementation)
        names.append(key_of())
    with monkeypatch.context() as patch:
        patch.setattr("cut_tf.networks.generators.mobile._FIT_EPSILON", 2e-4)
        names.append(key_of())
    with monkeypatch.context() as patch:
        patch.setattr(TranslationMethod, "paired", True)
        names.append(key_of())
    with monkeypatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        names.append(key_of())
    assert len(set(names)) == len(names)
    # Where a run is, and where graphs are kept, are in no graph.
    assert key_of(run="elsewhere", step_cache="elsewhere") == names[0]


def test_the_source_is_all_of_the_package(monkeypatch, tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / "part").mkdir(exist_ok=True)
        (tmp_path / "part" / name).write_text("x = 1\n")
    monkeypatch.setattr(step_keys, "_PACKAGE", tmp_path)
    with pytest.raises(step_keys.UnsuitableError, match="not in files"):
        step_keys.source_checksum()
    monkeypatch.setattr(step_keys, "__file__", str(tmp_path / "part" / "a.py"))
    before = step_keys.source_checksum()
    (tmp_path / "part" / "b.py").write_text("x = 2\n")
    changed = step_keys.source_checksum()
    (tmp_path / "part" / "b.py").rename(tmp_path / "part" / "c.py")
    assert len({before, changed, step_keys.source_checksum()}) == 3


def _other(*args):
    return tf.constant(0.0)


class _OtherBlock(LightBlock):
    """A class that is defined here."""


_TYPED = {"__name__": "__main__"}
exec("def typed(*args):\n    return 0.0", _TYPED)  # as what a person types has no file


@pytest.mark.parametrize("place, replacement", [
    ("cut_tf.losses.adversarial.adversarial_generator_loss", _other),
    ("cut_tf.losses.adversarial.adversarial_generator_loss", functools.partial(_other, 1)),
    ("cut_tf.losses.adversarial.adversarial_generator_loss", _TYPED["typed"]),
    ("cut_tf.losses.adversarial.adversarial_generator_loss", mock.MagicMock()),
    ("cut_tf.methods.base.TranslationMethod.histograms", _other),
    ("cut_tf.methods.base.TranslationMethod.generator", property(_other)),
    ("cut_tf.methods.base.TranslationMethod.histograms", mock.MagicMock()),
    ("cut_tf.networks.generators.mobile.LightBlock", _OtherBlock),
])
def test_what_is_replaced_from_outside_is_found(monkeypatch, place, replacement):
    assert adversarial in step_keys._loaded_modules() and mobile in step_keys._loaded_modules()
    assert dict(step_keys.constants())["cut_tf.methods.base.SEEDS_PER_RUN"] == "10"
    monkeypatch.setattr(place, replacement)
    with pytest.raises(step_keys.UnsuitableError, match=f"{place} was replaced by code of "):
        dict(step_keys.constants())


class _OwnAdam(Adam):
    """An optimizer of somebody's own."""


def _give_layer(method):
    method.generator.blocks[0].__class__ = _OtherBlock


def _give_step(method):
    method._take_step = _other


@pytest.mark.parametrize("arguments, found", [
    ({"optimizers": {"generator": _OwnAdam()}}, "_OwnAdam is none of this package's"),
    ({"change": _give_layer, "generator_blocks": 1}, "_OtherBlock is none of this package's"),
    ({"change": _give_step}, "Paired._take_step was replaced by code of "),
])
def test_what_a_method_is_given_from_outside_is_found(key_of, arguments, found):
    with pytest.raises(step_keys.UnsuitableError, match=found):
        key_of(**arguments)


def test_keys_are_the_same_in_every_process():
    """Texts of objects name their places in memory, and sets have an order of their own in each process."""
    code = ("import tensorflow as tf; from cut_tf.methods import build_method, step_keys; from cut_tf.settings import "
            "Settings; method = build_method(Settings.of(method='cut', generator_blocks=0, ngf=4, ndf=4, "
            "nce_layers='0,4')); method.compile(); print(step_keys.key_of(method, [tf.TensorSpec([1, 64, 64, 3])]))")
    found = [subprocess.run([sys.executable, "-c", code], cwd=_ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
                            capture_output=True, text=True, check=True).stdout for seed in ("1", "2")]
    assert found[0] == found[1] and re.fullmatch("[0-9a-f]{64}\n", found[0])
