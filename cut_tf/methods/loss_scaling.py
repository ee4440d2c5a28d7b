"""The loss scale of float16, and the undoing of steps whose gradients overflow (Micikevicius et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cut_tf.methods.replicas import step_variable

_FIRST_SCALE = 2.0**15
_GROWTH_STEPS = 2000


class LossScaling:
    """Losses are multiplied by `scale`, so that small gradients do not vanish. Gradients are divided by it.

    If a gradient of any network overflows, the scale is halved. After 2000 finite steps in a row it is doubled.

    Args:
      used: whether the precision is float16. Else the scale stays 1.

    Attributes:
      scale: float32 scalar variable.
      finite_steps: int64 scalar variable, finite steps since the scale last changed.
    """

    def __init__(self, used: bool) -> None:
        self.used = used
        self.scale = step_variable(_FIRST_SCALE if used else 1.0, tf.float32)
        self.finite_steps = step_variable(0, tf.int64)

    def adapt(self, finite: tf.Tensor) -> None:
        """Counts a step. Call once per step, on every replica.

        Args:
          finite: bool scalar, whether all gradients of the step are.
        """
        finite_steps = tf.where(finite, self.finite_steps + 1, 0)
        grow = finite_steps >= _GROWTH_STEPS
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        self.scale.assign(tf.maximum(self.scale * factor, 1.0))
        self.finite_steps.assign(tf.where(grow, tf.zeros_like(finite_steps), finite_steps))


def put_back_unless(finite: tf.Tensor, variables: Sequence[tf.Variable], before: Sequence[tf.Tensor]) -> None:
    """Gives variables their values from before the step, on every replica, unless the step was finite.

    It selects values instead of branching, since the host would have to wait for the condition of a branch.
    """
    def choose(variable: tf.Variable, value: tf.Tensor, finite: tf.Tensor) -> None:
        variable.assign(tf.where(finite, variable, value))

    def choose_all(strategy: tf.distribute.Strategy, finite: tf.Tensor, before: Sequence[tf.Tensor]) -> None:
        for variable, value in zip(variables, before):
            strategy.extended.update(variable, choose, args=(value, finite), group=False)

    tf.distribute.get_replica_context().merge_call(choose_all, args=(finite, before))
