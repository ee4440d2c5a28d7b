"""How a step becomes a graph: in as little time, and of as few operations, as TensorFlow allows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from cut_tf.layers.kernels import on_gpu


def traced(function: Callable, **options: bool) -> Callable:
    """tf.function with these options, without AutoGraph, which would take half of the time of a trace.

    So Python's branches and loops cannot depend on tensors: tf.cond, tf.where and tf.while_loop do.
    """
    return tf.function(function, autograph=False, **options)


@contextlib.contextmanager
def shared_constants(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """While a function is traced, equal constants that are made inside become one operation.

    Half of the operations of a step are constants: sizes, axes, places of slices. TensorFlow merges them too, but only
    after it has made and copied them all, which takes seconds. It has no public way to have them shared.

    Args:
      strategy: that of the step. Only a single replica on a CPU shares them: devices would have to exchange them.
    """
    if tf.executing_eagerly() or strategy.num_replicas_in_sync > 1 or on_gpu():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    create, made = graph._create_op_internal, {}

    def create_once(op_type: str, *args: object, **kwargs: object) -> tf.Operation:
        if op_type != "Const" or "attrs" not in kwargs:
            return create(op_type, *args, **kwargs)
        key = kwargs["attrs"]["value"].SerializeToString()
        if key not in made:
            # Without the control dependencies of its first user, which are no business of the others.
            with graph.control_dependencies(None):
                made[key] = create(op_type, *args, **kwargs)
        return made[key]

    graph._create_op_internal = create_once
    try:
        yield
    finally:
        del graph._create_op_internal
