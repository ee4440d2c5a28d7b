"""A dense layer whose kernel lives on the Stiefel manifold (ODCR, CVPR 2024, eq. 2-6).

St(p, n) holds the n x p matrices with orthonormal columns. A kernel [in, out] with more inputs than outputs has
orthonormal columns; with fewer, orthonormal rows, which is the same for the transposed matrix.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf.layers import kernels

# Newton-Schulz doubles the correct digits at each iteration. After an optimizer step it takes 3 to 6 iterations, for a
# badly conditioned matrix more.
_MOST_ITERATIONS = 40
# Largest max |W^T W - I| in float64. Rounding the result to float32 adds about 1e-7 anyway.
_TOLERANCE = 1e-7
# Newton-Schulz converges for singular values in (0, sqrt 3), that is, for eigenvalues of W^T W below 3. This leaves a
# margin for rounding.
_MOST_SQUARED = 2.9


def _unrounded(values: tf.Tensor) -> tf.Tensor:
    """`values`, in float64 if a GPU would round the inputs of their products to 10 bits (TF32, --tf32)."""
    rounds = kernels.on_gpu() and tf.config.experimental.tensor_float_32_execution_enabled()
    return tf.cast(values, tf.float64) if rounds else values


def tangent_projection(kernel: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The Riemannian gradient on the Stiefel manifold, eq. 3: D - 1/2 (K K^T D + K D^T K).

    Args:
      kernel: K, [n, p] with n >= p and orthonormal columns, or [n, p] with n < p and orthonormal rows.
      gradient: D, the Euclidean gradient, of the same shape.

    Returns:
      [n, p], tangent at `kernel`: K^T X + X^T K = 0 for columns.
    """
    if kernel.shape[0] < kernel.shape[1]:
        return tf.transpose(tangent_projection(tf.transpose(kernel), tf.transpose(gradient)))
    # Both products go through p x p matrices, which are smaller than n x n.
    dtype, kernel, gradient = gradient.dtype, _unrounded(kernel), _unrounded(gradient)
    inner = tf.matmul(kernel, gradient, transpose_a=True)  # K^T D
    return tf.cast(gradient - 0.5 * tf.matmul(kernel, inner + tf.transpose(inner)), dtype)


def retraction(point: tf.Tensor) -> tf.Tensor:
    """The nearest orthonormal matrix, W (W^T W)^(-1/2): the polar factor, eq. 5 for W = K + X with X tangent.

    Computed by the Newton-Schulz iteration, whose matrix products are faster than an eigenvalue decomposition. They are
    float64. GPUs may round the inputs of float32 products to 10 bits (TF32), with which the iteration would stop 1e-3
    off the manifold, and TensorFlow can switch that off for a whole process only. On two CPU cores float64 takes 3 ms
    for a 256 x 256 kernel and float32 1.3 ms, in steps that take seconds.

    Args:
      point: W, float [n, p] of full rank.

    Returns:
      [n, p] of the same type, with orthonormal columns if n >= p, else rows.
    """
    if point.shape[0] < point.shape[1]:
        return tf.transpose(retraction(tf.transpose(point)))
    return tf.cast(_polar_factor(tf.cast(point, tf.float64)), point.dtype)


def _polar_factor(point: tf.Tensor) -> tf.Tensor:
    """The polar factor of float64 [n, p] with n >= p."""
    identity = tf.eye(point.shape[1], dtype=point.dtype)
    # The largest row sum of W^T W bounds its eigenvalues, which are the squared singular values.
    bound = tf.reduce_max(tf.reduce_sum(tf.abs(tf.matmul(point, point, transpose_a=True)), axis=1))
    point = point * tf.where(bound > _MOST_SQUARED, tf.math.rsqrt(tf.maximum(bound, 1e-30)), 1.0)

    def far(step: tf.Tensor, _: tf.Tensor, gram: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(step < _MOST_ITERATIONS, tf.reduce_max(tf.abs(gram - identity)) > _TOLERANCE)

    def nearer(step: tf.Tensor, point: tf.Tensor, gram: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        point = tf.matmul(point, 1.5 * identity - 0.5 * gram)
        return step + 1, point, tf.matmul(point, point, transpose_a=True)

    start = (tf.constant(0), point, tf.matmul(point, point, transpose_a=True))
    return tf.while_loop(far, nearer, start)[1]


def orthogonality_error(kernel: tf.Tensor) -> tf.Tensor:
    """max |K^T K - I| of a tall kernel, or of the transpose of a wide one: scalar."""
    wide = kernel.shape[0] < kernel.shape[1]
    exact = _unrounded(kernel)
    gram = tf.matmul(exact, exact, transpose_a=not wide, transpose_b=wide)
    return tf.cast(tf.reduce_max(tf.abs(gram - tf.eye(gram.shape[0], dtype=gram.dtype))), kernel.dtype)


class OnStiefel(keras.constraints.Constraint):
    """Weight constraint that puts the kernel back on the manifold after every optimizer step."""

    def __call__(self, w: object) -> tf.Tensor:
        return retraction(tf.convert_to_tensor(w))


@tf.custom_gradient
def _with_tangent_gradient(kernel: tf.Tensor) -> tuple[tf.Tensor, object]:
    return tf.identity(kernel), lambda gradient: tangent_projection(kernel, gradient)


class OrthogonalDense(keras.layers.Dense):
    """[..., in] to [..., out] by an orthonormal kernel, in float32. GPUs do not round its products, even with --tf32.

    The optimizer sees the Riemannian gradient (eq. 3), takes its step (eq. 4), and the constraint retracts (eq. 5, 6).
    With plain gradient descent that is the paper's update. Adam divides the gradient element-wise, so its step leaves
    the tangent space, and the retraction then goes to the nearest point of the manifold.

    Args:
      units: out.
      seed: of the initial kernel, the Q factor of a normal draw.
      activation: as in keras.layers.Dense.
    """

    def __init__(self, units: int, seed: int, activation: str | None = None, name: str | None = None) -> None:
        super().__init__(units, activation=activation, kernel_initializer=keras.initializers.Orthogonal(seed=seed),
                         kernel_constraint=OnStiefel(), name=name, dtype="float32")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = _with_tangent_gradient(tf.convert_to_tensor(self.kernel))
        outputs = tf.cast(tf.tensordot(_unrounded(inputs), _unrounded(kernel), 1), kernel.dtype) + self.bias
        return outputs if self.activation is None else self.activation(outputs)
