"""Memory for time: activations that are computed again in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def recomputed(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """The same function of tensors, of which only the arguments are kept for the gradient (Chen et al. 2016).

    Args:
      function: takes tensors alone and returns one. Gradients reach its arguments, and nothing else it uses.
    """
    @tf.custom_gradient
    def run(*inputs: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            # Not before the gradient is here, and in operations of its own: TensorFlow would merge equal ones.
            with tf.control_dependencies([upstream]):
                again = [tf.identity(given) for given in inputs]
                with tf.GradientTape() as tape:
                    tape.watch(again)
                    output = function(*again)
                return tape.gradient(output, again, upstream)

        return function(*inputs), gradient

    return run


class Remade:
    """A tensor made of one that is kept anyway, so that a gradient may make it again instead of keeping it too.

    Attributes:
      value: the tensor.
    """

    def __init__(self, kept: tf.Tensor) -> None:
        self.value = kept
        self._kept = kept
        self._steps: list[Callable[[tf.Tensor], tf.Tensor]] = []

    def then(self, step: Callable[[tf.Tensor], tf.Tensor]) -> Remade:
        """This, after one more step: a function of the tensor alone that has no effects."""
        after = Remade(self._kept)
        after.value, after._steps = step(self.value), [*self._steps, step]
        return after

    def again(self) -> tf.Tensor:
        """The tensor, made anew, without a gradient. To be called under the control of the upstream gradient."""
        tensor = tf.identity(tf.stop_gradient(self._kept))
        for step in self._steps:
            tensor = step(tensor)
        return tf.stop_gradient(tensor)
