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
