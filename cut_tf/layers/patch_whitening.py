"""Convolution of whitened patches: the correlation of neighbouring pixels is removed before the kernel is applied.

Ye et al., "Network Deconvolution", ICLR 2020; the "FastDeconv" layer in front of AECR-Net's released network.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.convolution import xavier_normal

_KERNEL_PX = 3
# As in the released code: every third patch in each direction, five iterations, and a new batch counts one tenth.
_SAMPLING_STRIDE_PX = 3
_ITERATIONS = 5
_MOMENTUM = 0.1
_EPSILON = 1e-5


def inverse_square_root(matrix: tf.Tensor, iterations: int) -> tf.Tensor:
    """matrix^(-1/2) by the coupled Newton-Schulz iteration (Ye et al., algorithm 1; Higham, 2008, eq. 6.35).

    A few iterations whiten the directions of large eigenvalues fully. They whiten those of small ones, which are mostly
    noise, in part.

    Args:
      matrix: symmetric, positive definite, [N, N].
      iterations: number of steps. Each whitens eigenvalues that are 2.25 times smaller than before.

    Returns:
      [N, N].
    """
    identity = tf.eye(matrix.shape[0], dtype=matrix.dtype)
    norm = tf.norm(matrix)
    root, inverse = matrix / norm, identity
    for _ in range(iterations):
        step = 1.5 * identity - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return inverse * tf.math.rsqrt(norm)


class PatchWhiteningConvolution(keras.layers.Layer):
    """3x3 convolution of patches that are centred and whitened first: [B, H, W, C] to [B, H, W, filters].

    Whitening is linear, so the layer is one convolution with a changed kernel and bias. In training, mean and
    covariance are those of the batch, over all replicas. For inference, running means of the patches' mean and of the
    whitening matrix are kept. All is float32. No gradient goes through the statistics, since the layer comes first.

    Args:
      filters: output channels.
      seed: seed of the Xavier initialisation.
      gain: of the Xavier initialisation.
    """

    def __init__(self, filters: int, *, seed: int, gain: float = 1.0, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self._filters, self._initializer = filters, xavier_normal(seed, gain)

    def build(self, input_shape: tuple) -> None:
        values = _KERNEL_PX**2 * input_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(_KERNEL_PX, _KERNEL_PX, input_shape[-1], self._filters),
                                      initializer=self._initializer)
        self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        self.mean = self.add_weight(name="mean", shape=(values,), initializer="zeros", trainable=False)
        self.whitening = self.add_weight(name="whitening", shape=(values, values), initializer="identity",
                                         trainable=False)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        mean, whitening = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.whitening)
        if training:
            mean, whitening = self._statistics(tf.stop_gradient(inputs))
            for running, value in ((self.mean, mean), (self.whitening, whitening)):
                running = compat.raw_variable(running)
                running.assign(running * (1.0 - _MOMENTUM) + value * _MOMENTUM)
        kernel = tf.matmul(whitening, tf.reshape(tf.convert_to_tensor(self.kernel), [whitening.shape[0], -1]))
        bias = self.bias - tf.linalg.matvec(kernel, mean, transpose_a=True)
        return tf.nn.conv2d(inputs, tf.reshape(kernel, self.kernel.shape), 1, "SAME") + bias

    @staticmethod
    def _statistics(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean [9 C] and whitening matrix [9 C, 9 C] of the patches."""
        sides = [1, _KERNEL_PX, _KERNEL_PX, 1]
        strides = [1, _SAMPLING_STRIDE_PX, _SAMPLING_STRIDE_PX, 1]
        values = _KERNEL_PX**2 * inputs.shape[-1]
        patches = tf.reshape(tf.image.extract_patches(inputs, sides, strides, [1] * 4, "VALID"), [-1, values])
        mean = _mean_over_replicas(tf.reduce_mean(patches, 0))
        centred = patches - mean
        covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(patches)[0], tf.float32)
        covariance = _mean_over_replicas(covariance) + _EPSILON * tf.eye(values)
        return mean, inverse_square_root(covariance, _ITERATIONS)


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
