"""Graphs of steps in files: the same numbers as without, and nothing of what would make others."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.layers import kernels
from cut_tf.methods import build_method, stored_steps
from cut_tf.methods.base import TranslationMethod
from cut_tf.training import trainer
from tests.training.processes import QUICK_FLAGS

# One term and one small network: what is quick to build.
_QUICK = dict(flag.removeprefix("--").split("=") for flag in QUICK_FLAGS)
_STYLEGAN2 = {"generator": "stylegan2", "discriminator": "stylegan2", "stylegan2_size_px": 32, "nce_layers": "0,2"}
pytestmark = pytest.mark.skipif(kernels.on_gpu(), reason="graphs are kept on CPUs")
_USED = "the graph of the training step is that of an earlier process"


def _quick(tiny_settings, folder, **overrides):
    """Settings of a run in `folder / "run"` that keeps its graph in `folder / "graphs"`."""
    return tiny_settings(**{
        "run": str(folder / "run"), "step_cache": str(folder / "graphs"), "dataset": "scenes", "preprocess": "crop",
        "batch_size": 1, "generator_blocks": 0, "nce_layers": "0,4,8", "discriminator_layers": 1, "eval_steps": 100,
        "image_steps": 100, **_QUICK, **overrides})


@pytest.fixture(name="train")
def _train(tiny_settings, tmp_path, caplog):
    """train(**settings) -> (values of the state, names of the last step's terms, steps that TensorFlow traced, log)."""
    caplog.set_level(logging.DEBUG, "cut_tf.methods.stored_steps")
    runs = iter(range(100))

    def train(callbacks=(), **overrides):
        run = trainer.Run(_quick(tiny_settings, tmp_path, **{"run": str(tmp_path / f"run{next(runs)}"), **overrides}))
        caplog.clear()
        counted = _Counted(run.method.wrap_step)
        run.method.wrap_step = counted
        run.train(verbose=0, callbacks=list(callbacks))
        state = {name: variable.numpy() for name, variable in run.method.state().items()}
        return state, list(run.method.step_logs), counted.calls, caplog.text

    return train


class _Counted:
    """Wraps the step as `wrap` does, and counts how often the step that TensorFlow traces is called."""

    def __init__(self, wrap):
        self._wrap, self._step, self.calls = wrap, None, 0

    def __call__(self, take_step, names=None):
        if self._step is None:
            self._step = take_step
            return self if self._wrap is None else self._wrap(self, names)
        self.calls += 1
        return self._step(take_step, names)

    def get_concrete_function(self, *inputs):
        return self._step.get_concrete_function(*inputs)


@pytest.fixture(name="graphs")
def _graphs(tmp_path):
    """graphs() -> files of the graphs, oldest first."""
    return lambda: sorted((tmp_path / "graphs").glob("*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(name="kept_once", scope="module")
def _kept_once(tiny_settings, tmp_path_factory):
    """The file of the graph that `train()` keeps."""
    folder = tmp_path_factory.mktemp("kept")
    trainer.Run(_quick(tiny_settings, folder)).train(verbose=0)
    [path] = (folder / "graphs").glob("*")
    return path


@pytest.fixture(name="kept")
def _kept(kept_once, tmp_path):
    """The file of the graph that `train()` finds, a copy of its own for each test."""
    (tmp_path / "graphs").mkdir()
    return Path(shutil.copy(kept_once, tmp_path / "graphs"))


def _assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("settings", [
    pytest.param({}, id="paired"),
    pytest.param({"method": "cut", "generator": "resnet", "flip_equivariance": True, "nce_identity_weight": 0.0,
                  "generator_norm": "instance"}, id="fastcut", marks=pytest.mark.slow),
    pytest.param({"method": "cut", "generator": "resnet", "generator_norm": "instance", "negatives": "external",
                  "precision": "float16"}, id="cut_float16", marks=pytest.mark.slow),
    pytest.param({"method": "odcr", "generator": "resnet", "generator_norm": "instance"}, id="odcr",
                 marks=pytest.mark.slow),
    pytest.param({"method": "sincut", **_STYLEGAN2}, id="sincut", marks=pytest.mark.slow),
    *(pytest.param({"method": name, "generator": "resnet", "generator_norm": "instance"}, id=name,
                   marks=pytest.mark.slow) for name in ("cyclegan", "gcgan", "distancegan")),
])
def test_a_kept_graph_takes_the_same_steps_bit_for_bit(train, graphs, settings):
    without, names_without, *_ = train(step_cache="none", **settings)
    assert not graphs()
    first, names, traced, log = train(**settings)
    assert traced and _USED not in log and len(graphs()) == 1
    second, names_of_second, traced, log = train(**settings)
    assert traced == 0 and f"{_USED}: {graphs()[0]}" in log
    assert names == names_without == names_of_second
    _assert_same(without, first)
    _assert_same(first, second)


class _StopAfterTwo(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == 1


def test_a_run_that_goes_on_begins_with_its_graph(train, tmp_path):
    run = {"steps_per_epoch": 3, "method": "cut", "generator": "resnet", "generator_norm": "instance"}
    whole, _, _, _ = train(step_cache="none", **run)
    train(callbacks=[_StopAfterTwo()], run=str(tmp_path / "stopped"), **run)
    found, _, traced, log = train(run=str(tmp_path / "stopped"), **run)
    assert traced == 0 and _USED in log
    _assert_same(whole, found)


def test_a_changed_method_is_traced(train, graphs, monkeypatch):
    monkeypatch.setattr(TranslationMethod, "histograms", lambda self: {})
    _, _, traced, log = train()
    assert traced and not graphs() and "TranslationMethod.histograms was replaced by code of" in log


def test_a_damaged_file_is_replaced(train, kept):
    whole = kept.read_bytes()
    kept.write_bytes(whole[:len(whole) // 2])
    _, _, traced, log = train()
    assert traced and f"{kept} cannot be read" in log
    assert train()[2] == 0


def test_a_graph_of_another_user_is_not_used(train, kept, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: kept.stat().st_uid + 1)
    _, _, traced, log = train()
    assert traced and f"{kept} is that of another user" in log


def test_a_graph_of_other_variables_is_not_used(train, kept):
    with zipfile.ZipFile(kept) as file:
        texts, graph = json.loads(file.read("step.json")), file.read("graph.pb")
    texts["captures"][0] = "generator/other/kernel"
    with zipfile.ZipFile(kept, "w") as file:
        file.writestr("step.json", json.dumps(texts))
        file.writestr("graph.pb", graph)
    _, _, traced, log = train()
    assert traced and "there is no variable generator/other/kernel" in log


def test_pictures_of_several_sizes_are_traced(train, graphs):
    _, _, traced, log = train(preprocess="none")
    assert traced and not graphs() and "pictures of several sizes" in log


def test_a_place_that_cannot_be_written_stops_nobody(train, tmp_path):
    (tmp_path / "file").write_text("in the way")
    _, _, traced, log = train(step_cache=str(tmp_path / "file"))
    assert traced and "the graph of the step is not kept" in log
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_graphs_that_nobody_used_for_longest_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_steps, "_MOST_GRAPHS", 2)
    paths = [tmp_path / f"{number:064x}.zip" for number in range(3)]
    others = [tmp_path / name for name in ("holiday.zip", "notes.txt", f"{7:064x}")]
    for path in others:
        path.write_text("not ours")
        os.utime(path, (10, 10))
    for age, path in enumerate(paths[:2]):
        stored_steps._write(path, ["loss/gan"], ["step"], tf.compat.v1.GraphDef())
        os.utime(path, (1000 + age, 1000 + age))
    assert stored_steps._read(paths[0]).captures == ["step"]
    stored_steps._write(paths[2], [], [], tf.compat.v1.GraphDef())
    assert set(tmp_path.iterdir()) == {paths[0], paths[2], *others}


def test_several_replicas_are_traced(two_replicas, tiny_settings):
    with two_replicas.scope():
        method = build_method(tiny_settings(generator_blocks=0, **_QUICK))
        method.compile()
    with pytest.raises(stored_steps.UnsuitableError, match="2 replicas"):
        stored_steps.StoredStep(Path("graphs"), method)._variables()


def test_the_graph_of_the_step_is_told_from_those_of_other_threads():
    def graph(arguments):
        return tf.compat.v1.GraphDef(node=[tf.compat.v1.NodeDef(op=op) for op in ["_Arg"] * arguments + ["Mul"]])

    step = graph(3)
    assert stored_steps._graph_of([graph(2), step, graph(4)], 3) is step
    for graphs in ([], [graph(2)], [step, graph(3)]):
        with pytest.raises(stored_steps.UnsuitableError, match="have 3 arguments"):
            stored_steps._graph_of(graphs, 3)


def test_folders_by_the_flag(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stored_steps.cache_folder("auto") == tmp_path / "cut_tf" / "steps"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert stored_steps.cache_folder("auto") == Path("/home/somebody/.cache/cut_tf/steps")
    assert stored_steps.cache_folder("none") is None and stored_steps.cache_folder("graphs") == Path("graphs")


@pytest.mark.parametrize("place", ["", "gs://bucket/graphs"])
def test_other_places_are_refused(tiny_settings, place):
    with pytest.raises(InputError, match=f"--step_cache must be auto, none or a folder of this machine.*{place}"):
        tiny_settings(step_cache=place)


def test_graphs_are_collected_as_optimised_and_run_as_they_are():
    def compute(inputs):
        return inputs * (tf.constant(2.0) + tf.constant(3.0)) + tf.zeros([4])

    def adds(manager):
        with manager, compat.collected_graphs() as graphs:
            outputs = tf.function(compute)(tf.constant([1.0, 2.0, 3.0, 4.0]))
        np.testing.assert_array_equal(outputs, [5.0, 10.0, 15.0, 20.0])
        [graph] = [graph for graph in graphs if any(node.op == "Mul" for node in graph.node)]
        return sum(node.op in ("Add", "AddV2") for node in graph.node)

    # The sum of the constants is one already, and adding zeros is nothing.
    assert adds(contextlib.nullcontext()) == 0
    assert adds(compat.graphs_as_they_are()) == 2
    assert adds(contextlib.nullcontext()) == 0
