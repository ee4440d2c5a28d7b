"""Graphs of training steps, kept in files for later processes.

TensorFlow traces a step and optimises its graph in every process anew, which takes a third to half of the time to the
first step. The result depends on the code, the settings, the stack and the machine alone (`cut_tf.methods.step_keys`).
So a process keeps the optimised graph, and a later one with the same key begins with it: when a run goes on, or when a
command is given again. The step is the same, bit for bit.

A graph is kept for one replica on a CPU and pictures of one size, if all of its variables are in the method's `state`
or `histograms`, or in its optimizers.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.layers.kernels import on_gpu
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.step_keys import UnsuitableError, key_of

_LOG = logging.getLogger(__name__)
# A graph takes 0.1 to 0.5 MB.
_MOST_GRAPHS = 40
_NAME = re.compile(r"[0-9a-f]{64}\.zip")
_READS = ("Placeholder", "ReadVariableOp")

Step = Callable[[object, tf.Tensor], tf.Tensor]


def cache_folder(asked: str) -> Path | None:
    """The folder that --step_cache means; None for none."""
    if asked == "none":
        return None
    if asked != "auto":
        return Path(asked)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cut_tf" / "steps"
    except RuntimeError:  # a user without a home
        return None


class StoredStep:
    """Wraps the compiled step of a method: `StoredStep(folder, method)(take_step, names)` is such a step too.

    Its first call reads the graph, or takes the step as it is and keeps its graph. If neither can be done, a line in
    the log at level debug says why, and the step is taken as it is.

    Args:
      folder: of the graphs, made if it is not there.
      method: compiled, with all its variables.
    """

    def __init__(self, folder: Path, method: TranslationMethod) -> None:
        self._folder, self._method = folder, method

    def __call__(self, take_step: Step, names: list[str]) -> Step:
        """The step to take instead.

        Args:
          take_step: a tf.function of (batch, whether to stop) to the terms' values.
          names: of the terms, empty until the first step.
        """
        found: dict[str, object] = {}

        def take(batch: object, stop: tf.Tensor) -> tf.Tensor:
            if not found:
                found["step"], values = self._first(take_step, names, batch, stop)
                if values is not None:
                    return values
            return found["step"](batch, stop)

        return take

    def _first(self, take_step: Step, names: list[str], batch: object,
               stop: tf.Tensor) -> tuple[Step, tf.Tensor | None]:
        """The step for all later calls, and the values of this one if it was taken."""
        try:
            variables, inputs = self._variables(), self._inputs(batch, stop)
            path = self._folder / f"{key_of(self._method, _specs(inputs))}.zip"
        except UnsuitableError as reason:
            _LOG.debug("the graph of the step is not kept: %s", reason)
            return take_step, None
        try:
            stored = _read(path)
            compiled = _compiled(stored, variables, inputs)
        except UnsuitableError as reason:
            _LOG.debug("the step is traced: %s", reason)
        else:
            names[:] = stored.names
            _LOG.info("the graph of the training step is that of an earlier process: %s", path)
            return lambda *given: compiled(self._inputs(*given)), None
        with compat.collected_graphs() as graphs:
            values = take_step(batch, stop)
        try:
            captures = take_step.get_concrete_function(batch, stop).captured_inputs
            _write(path, names, _names_of(captures, variables), _graph_of(graphs, len(inputs) + len(captures)))
        except (UnsuitableError, InputError) as reason:
            _LOG.debug("the graph of the step is not kept: %s", reason)
        return take_step, values

    def _inputs(self, batch: object, stop: tf.Tensor) -> list[tf.Tensor]:
        """The tensors of a step, in the order of a graph's arguments."""
        strategy = self._method.distribute_strategy
        return [strategy.experimental_local_results(value)[0] for value in tf.nest.flatten((batch, stop))]

    def _variables(self) -> dict[str, tf.Tensor]:
        """Handles of all variables that a step may use, by name."""
        strategy = self._method.distribute_strategy
        if strategy.num_replicas_in_sync > 1:
            raise UnsuitableError(f"{strategy.num_replicas_in_sync} replicas")
        if on_gpu():
            raise UnsuitableError("a GPU")
        if self._method.run_eagerly or self._method.settings.devices.xla:
            raise UnsuitableError("--xla, or a step that is not compiled")
        if self._method.settings.data.preprocess == "none":
            raise UnsuitableError("pictures of several sizes, for which TensorFlow makes several graphs")
        found = {f"histogram/{name}": variable for name, variable in self._method.histograms().items()}
        found.update(self._method.state())
        for name, optimizer in self._method.optimizers_by_network.items():
            found.update({f"optimizer/{name}/variable{index}": variable
                          for index, variable in enumerate(compat.optimizer_variables(optimizer))})
        return {name: strategy.experimental_local_results(variable)[0].handle for name, variable in found.items()}


class _Stored(NamedTuple):
    """What a file holds: names of the terms, names of the variables in the graph's order, and the graph."""

    names: list[str]
    captures: list[str]
    graph: tf.compat.v1.GraphDef


def _specs(inputs: Sequence[tf.Tensor]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(value.shape, value.dtype) for value in inputs]


def _names_of(captures: Sequence[tf.Tensor], variables: dict[str, tf.Tensor]) -> list[str]:
    names = {id(handle): name for name, handle in reversed(variables.items())}
    unknown = [capture for capture in captures if id(capture) not in names]
    if unknown:
        raise UnsuitableError(f"it reads {len(unknown)} values that have no name, such as {unknown[0]!r:.200}")
    return [names[id(capture)] for capture in captures]


def _graph_of(graphs: Sequence[tf.compat.v1.GraphDef], arguments: int) -> tf.compat.v1.GraphDef:
    """The one graph of so many arguments. Others are those of functions that ran in other threads meanwhile."""
    fitting = [graph for graph in graphs if sum(node.op == "_Arg" for node in graph.node) == arguments]
    if len(fitting) != 1:
        raise UnsuitableError(f"{len(fitting)} of {len(graphs)} graphs have {arguments} arguments")
    return fitting[0]


def _write(path: Path, names: Sequence[str], captures: Sequence[str], graph: tf.compat.v1.GraphDef) -> None:
    """Keeps a graph, and removes those that were not used for longest."""
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("step.json", json.dumps({"names": list(names), "captures": list(captures)}))
        file.writestr("graph.pb", graph.SerializeToString())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, contents.getvalue())
        graphs = [each for each in path.parent.iterdir() if _NAME.fullmatch(each.name)]
        oldest_first = sorted(graphs, key=lambda each: each.stat().st_mtime)
        for old in oldest_first[:-_MOST_GRAPHS]:
            old.unlink()
    except OSError as error:  # another process may remove files too
        raise UnsuitableError(f"{path.parent}: {error.strerror or error}") from error


def _read(path: Path) -> _Stored:
    """Raises UnsuitableError if it is not there, damaged, or another user's: a graph could do anything."""
    try:
        owner = path.stat().st_uid
        if hasattr(os, "getuid") and owner != os.getuid():
            raise UnsuitableError(f"{path} is that of another user, found the number {owner}")
        with zipfile.ZipFile(path) as file:
            texts = json.loads(file.read("step.json"))
            stored = _Stored(texts["names"], texts["captures"],
                             tf.compat.v1.GraphDef.FromString(file.read("graph.pb")))
        if os.access(path, os.W_OK):
            os.utime(path)  # used just now
    except FileNotFoundError:
        raise UnsuitableError("its graph was not kept before") from None
    except UnsuitableError:
        raise
    except Exception as error:  # zipfile, json and protobuf have errors of their own for what is damaged
        raise UnsuitableError(f"{path} cannot be read: {error}") from error
    return stored


def _compiled(stored: _Stored, variables: dict[str, tf.Tensor], inputs: Sequence[tf.Tensor]) -> Callable:
    """A function of the inputs that runs the graph as it is."""
    missing = [name for name in stored.captures if name not in variables]
    if missing:
        raise UnsuitableError(f"there is no variable {missing[0]}")
    nodes, arguments, results = [], {}, {}
    for node in stored.graph.node:
        if node.op == "_Arg":
            arguments[node.attr["index"].i] = node.name
        elif node.op == "_Retval":
            results[node.attr["index"].i] = node.input[0]
        else:
            nodes.append(node)
    if list(results) != [0] or len(arguments) != len(inputs) + len(stored.captures):
        raise UnsuitableError(f"its graph has {len(arguments)} arguments and {len(results)} results")
    _cut_off(nodes, set(arguments.values()))
    used = {name.split(":")[0] for node in nodes for name in node.input}
    graph = tf.compat.v1.GraphDef(node=nodes, versions=stored.graph.versions, library=stored.graph.library)

    def run(*given: tf.Tensor) -> tf.Tensor:
        into = tf.compat.v1.get_default_graph()
        values = [*given, *(into.capture(variables[name]) for name in stored.captures)]
        places = {f"{name}:0": values[index] for index, name in arguments.items() if name in used}
        result = results[0] if ":" in results[0] else f"{results[0]}:0"
        [terms] = tf.graph_util.import_graph_def(graph, places, [result], name="")
        effects = [made for made in into.get_operations() if made.type not in _READS and made.op_def.is_stateful]
        # Said here, and not left to what TensorFlow keeps of a function when it prunes.
        with tf.control_dependencies(effects):
            return tf.identity(terms)

    try:
        function = tf.compat.v1.wrap_function(run, _specs(inputs))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise UnsuitableError(f"its graph does not fit: {error}") from error

    def take(given: Sequence[tf.Tensor]) -> tf.Tensor:
        with compat.graphs_as_they_are():
            return function(*given)

    return take


def _cut_off(nodes: Sequence[object], arguments: set[str]) -> None:
    """Removes where and after which arguments nodes run: arguments are there from the beginning, on the one device."""
    for node in nodes:
        node.attr.pop("_class", None)
        inputs = [name for name in node.input if not (name.startswith("^") and name[1:] in arguments)]
        if len(inputs) < len(node.input):
            del node.input[:]
            node.input.extend(inputs)
