"""All that differs between the two supported stacks: TensorFlow 2.21 with Keras 3, and 2.15 with Keras 2.15."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import warnings
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

KERAS_MAJOR = int(keras.__version__.split(".")[0])
KERAS_3 = KERAS_MAJOR >= 3
# TensorFlow 2.21's TFLite analyzer reports every file as fit for the GPU delegate, so its answer says nothing.
ANALYZER_KNOWS_GPUS = not KERAS_3
# Whether batch norm's running variance is n / (n - 1) times that of n values, as in PyTorch, or the variance itself.
MOVING_VARIANCE_IS_UNBIASED = not KERAS_3


def check_stack(tensorflow_version: str, keras_version: str, has_addons: bool) -> None:
    """Raises ImportError, with advice, if these versions are of neither supported stack or addons are missing."""
    stack = (tensorflow_version.split(".")[:2], keras_version.split(".")[0])
    if stack not in ((["2", "21"], "3"), (["2", "15"], "2")):
        raise ImportError(f"cut_tf runs on TensorFlow 2.21 with Keras 3 (pip install .) or on TensorFlow 2.15 with "
                         f"Keras 2.15 (pip install '.[addons]', Python 3.9 to 3.11), found TensorFlow "
                         f"{tensorflow_version} with Keras {keras_version}")
    if stack[1] == "2" and not has_addons:
        raise ImportError("on TensorFlow 2.15 cut_tf needs tensorflow-addons: pip install '.[addons]' (Python 3.9 to "
                          "3.11), or Python 3.10 to 3.13 and pip install . for TensorFlow 2.21")


check_stack(tf.__version__, keras.__version__, importlib.util.find_spec("tensorflow_addons") is not None)


def instance_normalization(epsilon: float, name: str) -> keras.layers.Layer:
    """Instance norm in float32 without affine part: tensorflow-addons' on its stack, else Keras' group norm."""
    if KERAS_3:
        return keras.layers.GroupNormalization(groups=-1, epsilon=epsilon, center=False, scale=False, name=name,
                                               dtype="float32")
    return _addons().layers.InstanceNormalization(epsilon=epsilon, center=False, scale=False, name=name,
                                                  dtype="float32")


def spectral_normalization(layer: keras.layers.Layer, input_shape: tuple, first_vector: np.ndarray,
                           name: str) -> keras.layers.Layer:
    """Divides the kernel of `layer` by its largest singular value at each training call (Miyato et al., ICLR 2018).

    Both stacks keep the divided kernel, and the running estimate of the singular vector as a weight `vector_u`.
    Computed in float32, whatever the precision of `layer`.

    Args:
      layer: a convolution or dense layer.
      input_shape: what it will be called with; None for sizes that vary.
      first_vector: [1, filters], start of the power iteration.
      name: of the wrapping layer.
    """
    normalization = keras.layers.SpectralNormalization if KERAS_3 else _addons().layers.SpectralNormalization

    class FromFirstVector(normalization):
        """Sets the vector by its initializer: Keras 3 discards values assigned while a whole network is built."""

        def add_weight(self, *args: object, **kwargs: object) -> object:
            if kwargs.get("name") in ("vector_u", "sn_u"):
                kwargs["initializer"] = keras.initializers.Constant(first_vector)
            return super().add_weight(*args, **kwargs)

    wrapper = FromFirstVector(layer, name=name, dtype="float32")
    wrapper.build(input_shape)
    return wrapper


def _addons() -> object:
    """tensorflow-addons, which would print its end of life on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons
    return tensorflow_addons


def raw_variable(variable: object) -> tf.Variable:
    """The tf.Variable behind a Keras variable (Keras 3 wraps it)."""
    return variable.value if KERAS_3 and not isinstance(variable, tf.Variable) else variable


def named_weights(network: keras.Model) -> dict[str, tf.Variable]:
    """Weights of a network by `layer/weight`, the same names on both stacks.

    Raises:
      ValueError: if two layers of the network share a name.
    """
    weights = {}
    for layer in network._flatten_layers(include_self=False, recursive=True):
        children = layer._flatten_layers(include_self=False, recursive=True)
        inherited = {id(weight) for child in children for weight in child.weights}
        for weight in layer.weights:
            if id(weight) in inherited:
                continue
            short = weight.name.split("/")[-1].split(":")[0]
            short = "vector_u" if short == "sn_u" else short
            name = f"{layer.name}/{short}"
            if name in weights and weights[name] is not raw_variable(weight):
                raise ValueError(f"{network.name}: two weights are called {name}")
            weights[name] = raw_variable(weight)
    return weights


def compile_keras_model(model: keras.Model, optimizer: keras.optimizers.Optimizer, run_eagerly: bool) -> None:
    """keras.Model.compile without the loss scaling that Keras 3 would wrap around the optimizer."""
    extra = {"auto_scale_loss": False} if KERAS_3 else {}
    keras.Model.compile(model, optimizer=optimizer, run_eagerly=run_eagerly, **extra)


def build_optimizer(optimizer: keras.optimizers.Optimizer, variables: Sequence[object]) -> None:
    """Creates the optimizer's slots, in the order of `variables`, and prepares it for `apply_summed_gradients`.

    Args:
      optimizer: not built yet.
      variables: the trainable weights of one network.
    """
    optimizer.build(list(variables))
    if KERAS_3:
        # Keras 3 has no argument for gradients that are summed already.
        optimizer._all_reduce_sum_gradients = list


def learning_rate(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The learning rate that the optimizer's next step will use."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate(raw_variable(optimizer.iterations))
    return tf.convert_to_tensor(raw_variable(rate))


def adam_slots(optimizer: keras.optimizers.Adam, variable: object) -> tuple[tf.Variable, tf.Variable]:
    """Running means of gradient and squared gradient that belong to `variable`."""
    if KERAS_3:
        index = optimizer._get_variable_index(variable)
    else:
        index = optimizer._index_dict[optimizer._var_key(variable)]
    return raw_variable(optimizer._momentums[index]), raw_variable(optimizer._velocities[index])


def optimizer_state(optimizer: keras.optimizers.Optimizer, names: Sequence[str]) -> dict[str, tf.Variable]:
    """State of a built optimizer by name, the same names on both stacks for Adam.

    Args:
      optimizer: built on as many variables as there are names.
      names: names of those variables, in the order given to `build_optimizer`.
    """
    state = {"iterations": raw_variable(optimizer.iterations)}
    if isinstance(optimizer, keras.optimizers.Adam):
        for name, mean, square in zip(names, optimizer._momentums, optimizer._velocities):
            state[f"mean/{name}"] = raw_variable(mean)
            state[f"square/{name}"] = raw_variable(square)
        return state
    variables = optimizer.variables if KERAS_3 else optimizer.variables()
    state.update({f"slot{index}": raw_variable(variable) for index, variable in enumerate(variables)})
    return state


def optimizer_variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """All variables that a step of a built optimizer may read or write, in an order that is always the same."""
    if KERAS_3:
        return [raw_variable(variable) for variable in optimizer.variables]
    # Keras 2 leaves rates out of its list: a constant one, and that of this step, computed from a schedule.
    rates = (getattr(optimizer, name, None) for name in ("_learning_rate", "_current_learning_rate"))
    return [*optimizer.variables(), *(rate for rate in rates if isinstance(rate, tf.Variable))]


def apply_summed_gradients(optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor],
                           variables: Sequence[object]) -> None:
    """apply_gradients for gradients that are summed over the replicas already."""
    pairs = list(zip(gradients, variables))
    if KERAS_3:
        optimizer.apply_gradients(pairs)
    else:
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)


@contextlib.contextmanager
def collected_graphs() -> Iterator[list[tf.compat.v1.GraphDef]]:
    """Collects the graphs of functions that run inside for the first time, as TensorFlow has optimised them.

    Yields:
      A list, filled at the end.
    """
    found: list[tf.compat.v1.GraphDef] = []
    context.context().enable_graph_collection()
    try:
        yield found
        found += [each.post_optimization_graph for each in context.context().export_run_metadata().function_graphs]
    finally:
        context.context().disable_graph_collection()


@contextlib.contextmanager
def graphs_as_they_are() -> Iterator[None]:
    """Functions that this thread runs inside for the first time are not optimised."""
    before = context.context().function_call_options
    config = context.context().config
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    changed = copy.copy(before)
    changed.config_proto_serialized = config
    context.context().function_call_options = changed
    try:
        yield
    finally:
        context.context().function_call_options = before
