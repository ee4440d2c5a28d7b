"""Recomputes activations in the backward pass instead of storing them: less memory, more time."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def recomputed(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """The same function, which stores only its arguments for the gradient (Chen et al. 2016).

    Args:
      function: takes tensors alone and returns one. Gradients reach its arguments, and nothing else it uses.
    """
    @tf.custom_gradient
    def run(*inputs: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            # The control dependency makes these operations wait for the gradient. It also keeps TensorFlow from merging
            # them with those of the forward pass.
            with tf.control_dependencies([upstream]):
                again = [tf.identity(given) for given in inputs]
                with tf.GradientTape() as tape:
                    tape.watch(again)
                    output = function(*again)
                return tape.gradient(output, again, upstream)

        return function(*inputs), gradient

    return run


class Recomputable:
    """A tensor derived from a stored tensor; recomputed in the backward pass instead of stored.

    Attributes:
      value: the tensor.
    """

    def __init__(self, kept: tf.Tensor) -> None:
        self.value = kept
        self._kept = kept
        self._steps: list[Callable[[tf.Tensor], tf.Tensor]] = []

    def apply(self, step: Callable[[tf.Tensor], tf.Tensor]) -> Recomputable:
        """This tensor after one more step. The step must be a function of the tensor alone, without side effects."""
        after = Recomputable(self._kept)
        after.value, after._steps = step(self.value), [*self._steps, step]
        return after

    def recompute(self) -> tf.Tensor:
        """Computes the tensor again, without a gradient. Call it under a control dependency on the gradient."""
        tensor = tf.identity(tf.stop_gradient(self._kept))
        for step in self._steps:
            tensor = step(tensor)
        return tf.stop_gradient(tensor)
