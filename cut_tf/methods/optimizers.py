"""Adam exactly as the official code of CUT runs it, and the schedules of learning rates."""

from __future__ import annotations

import math
import types

import keras
import tensorflow as tf

from cut_tf import compat


class Adam(keras.optimizers.Adam):
    """Kingma and Ba 2015, algorithm 1: epsilon is added after the bias correction, and is 1e-8.

    w -= lr * m_hat / (sqrt(v_hat) + epsilon). Keras adds epsilon before the correction, which makes it up to
    1 / sqrt(1 - beta_2) = 30 times larger in the first steps.
    """

    def __init__(self, learning_rate: object = 2e-4, beta_1: float = 0.5, beta_2: float = 0.999,
                 epsilon: float = 1e-8, **kwargs: object) -> None:
        super().__init__(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, **kwargs)
        self._shared = types.SimpleNamespace(inside=False, values=None)

    def update_step(self, gradient: tf.Tensor, variable: object, learning_rate: tf.Tensor | None = None) -> None:
        """One variable's update, fused. Keras 2 passes no learning rate."""
        rate, epsilon = self._corrected(self.learning_rate if learning_rate is None else learning_rate)
        mean, square = compat.adam_slots(self, variable)
        tf.raw_ops.ResourceApplyAdam(
            var=compat.raw_variable(variable).handle, m=mean.handle, v=square.handle,
            # The rate and epsilon contain the bias correction already, so the kernel's own correction is switched off.
            beta1_power=0.0, beta2_power=0.0, lr=rate, beta1=self.beta_1, beta2=self.beta_2, epsilon=epsilon,
            grad=tf.cast(gradient, tf.float32))

    def apply_gradients(self, *args: object, **kwargs: object) -> object:
        """As Keras' own. What all weights share is computed once, which keeps a step's graph small."""
        self._shared.inside = True
        try:
            return super().apply_gradients(*args, **kwargs)
        finally:
            self._shared.inside, self._shared.values = False, None

    def _corrected(self, learning_rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rate and epsilon with the bias correction of this step, float32 scalars."""
        if self._shared.values is not None:
            return self._shared.values
        rate, step = tf.cast(learning_rate, tf.float64), tf.cast(self.iterations + 1, tf.float64)
        # 1 - beta**step loses five digits in float32 at step 1, hence float64.
        mean_correction = 1.0 - tf.pow(tf.constant(self.beta_1, tf.float64), step)
        square_root = tf.sqrt(1.0 - tf.pow(tf.constant(self.beta_2, tf.float64), step))
        values = (tf.cast(rate * square_root / mean_correction, tf.float32),
                  tf.cast(self.epsilon * square_root, tf.float32))
        self._shared.values = values if self._shared.inside else None
        return values


class EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is constant for some epochs and then falls. It depends on the step alone.

    Args:
      base: learning rate of the first epochs.
      constant_epochs: epochs at that rate.
      decay_epochs: epochs over which it then falls.
      steps_per_epoch: optimizer steps of an epoch.
    """

    def __init__(self, base: float, constant_epochs: int, decay_epochs: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.base = base
        self.constant_epochs = constant_epochs
        self.decay_epochs = decay_epochs
        self.steps_per_epoch = steps_per_epoch

    def get_config(self) -> dict:
        return {"base": self.base, "constant_epochs": self.constant_epochs, "decay_epochs": self.decay_epochs,
                "steps_per_epoch": self.steps_per_epoch}


class LinearDecay(EpochSchedule):
    """lr(e) = base * (1 - max(0, e - constant_epochs) / (decay_epochs + 1)) in epoch e = 1, 2, ...

    The last epoch's rate is not 0, as in the official code.
    """

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        epoch = tf.cast(step, tf.int64) // self.steps_per_epoch + 1
        late = tf.cast(tf.maximum(epoch - self.constant_epochs, 0), tf.float64)
        return tf.cast(self.base * (1.0 - late / (self.decay_epochs + 1)), tf.float32)


class CosineDecay(EpochSchedule):
    """lr(step) = base * (1 + cos(pi * done)) / 2, where `done` grows from 0 to 1 step by step (AECR-Net, CVPR 2021).

    Loshchilov and Hutter, ICLR 2017, eq. 5, without restarts. It would reach 0 one step after the last. Without
    constant epochs the cosine spans the whole run.
    """

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        span = max(self.decay_epochs * self.steps_per_epoch, 1)
        late = tf.clip_by_value(tf.cast(step, tf.int64) - self.constant_epochs * self.steps_per_epoch, 0, span)
        return tf.cast(self.base * 0.5 * (1.0 + tf.cos(math.pi * tf.cast(late, tf.float64) / span)), tf.float32)


SCHEDULES = {"linear": LinearDecay, "cosine": CosineDecay}
