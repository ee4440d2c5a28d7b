"""Normalisation layers. Statistics are float32 whatever the precision of the network."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import compat
from cut_tf.common import registry
from cut_tf.layers import kernels, portable

EPSILON = 1e-5
# Each image adds operations to the graph. With more than 8 images that costs more than the faster kernels save.
_MOST_FUSED_IMAGES = 8
# PyTorch's momentum 0.1 is the weight of the new value, Keras' the weight of the old one.
_BATCH_NORM_MOMENTUM = 0.9


class InstanceNorm(keras.layers.Layer):
    """Zero mean and unit variance per image and channel over H and W; no affine part, no running statistics.

    Small batches, as in training, are computed image by image with the kernels of batch norm: the batch statistics of
    one image are its instance statistics. That takes half to a quarter of the time of means and differences. These
    kernels store nothing but their input for the gradient, and read and write bfloat16 without a copy in float32.
    """

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._norm = compat.instance_normalization(EPSILON, f"{self.name}_statistics")

    def build(self, input_shape: tuple) -> None:
        self._norm.build((None, None, None, input_shape[-1]))
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None, relu: bool = False) -> tf.Tensor:
        """Norms float [B, H, W, C]. With `relu` it applies the ReLU too, which then stores nothing of its own."""
        del training  # the same in training and inference; all norms take the argument
        count = inputs.shape[0]
        if count and count <= _MOST_FUSED_IMAGES and kernels.are_fast():
            exact = inputs.dtype == tf.float32 and not kernels.on_gpu()
            norm = _fused_norm if not exact else _inferred_norm if kernels.are_fast_at_any_size() else _exact_norm
            parts = [norm(image, relu) for image in tf.split(inputs, count)]
            return parts[0] if count == 1 else tf.concat(parts, 0)
        floats = tf.cast(inputs, tf.float32)
        normed = portable.instance_norm(floats, EPSILON) if portable.is_portable() else self._norm(floats)
        normed = tf.cast(normed, inputs.dtype)
        return tf.nn.relu(normed) if relu else normed


def _fused_norm(image: tf.Tensor, relu: bool) -> tf.Tensor:
    """Instance norm of one image [1, H, W, C] by one kernel; statistics are float32 inside."""
    none, channels = tf.zeros([0]), image.shape[-1]
    scale, offset = tf.ones([channels]), tf.zeros([channels])

    @tf.custom_gradient
    def norm(pixels: tf.Tensor) -> tuple[tf.Tensor, object]:
        found = tf.raw_ops.FusedBatchNormV3(x=pixels, scale=scale, offset=offset, mean=none, variance=none,
                                            epsilon=EPSILON, is_training=True)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=_relu_gradient(upstream, pixels, found.batch_mean) if relu else upstream, x=pixels,
                scale=scale, reserve_space_1=found.reserve_space_1, reserve_space_2=found.reserve_space_2,
                reserve_space_3=found.reserve_space_3, epsilon=EPSILON, is_training=True).x_backprop

        return tf.nn.relu(found.y) if relu else found.y, gradient

    return norm(image)


def _relu_gradient(upstream: tf.Tensor, pixels: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """The gradient through the ReLU of normed pixels, which are positive where the pixels are above their mean."""
    # TensorFlow computes gradient parts that depend on forward values alone early, and keeps them. This delays them.
    with tf.control_dependencies([upstream]):
        return tf.raw_ops.ReluGrad(gradients=upstream, features=pixels - tf.cast(mean, pixels.dtype))


def _exact_norm(image: tf.Tensor, relu: bool) -> tf.Tensor:
    """The same for float32 on the CPU, with a tenth of the rounding error. Only the gradient is a fused kernel.

    The fused kernel adds up thousands of pixels one after the other. Its rounding error reaches 1e-5. That is enough to
    change the sign of an activation before a ReLU, and so to differ from the official code. The ReLU's gradient
    compares the input with its mean, so that nothing but the input is stored.
    """
    @tf.custom_gradient
    def norm(pixels: tf.Tensor) -> tuple[tf.Tensor, object]:
        mean = portable.mean_over_pixels(pixels)
        centred = pixels - mean
        variance = portable.mean_over_pixels(centred * centred)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            if relu:
                upstream = _relu_gradient(upstream, pixels, mean)
            # On a CPU the kernel takes the variance; on a GPU it would take the inverse deviation.
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream, x=pixels, scale=tf.ones_like(mean[0, 0, 0]), reserve_space_1=mean[0, 0, 0],
                reserve_space_2=variance[0, 0, 0], reserve_space_3=tf.zeros([1]), epsilon=EPSILON,
                is_training=True).x_backprop

        normed = centred * tf.math.rsqrt(variance + EPSILON)
        return tf.nn.relu(normed) if relu else normed, gradient

    return norm(image)


def _inferred_norm(image: tf.Tensor, relu: bool) -> tf.Tensor:
    """`_exact_norm` for inference: statistics that are as exact, and one pass over the pixels to apply them."""
    mean = portable.mean_over_pixels(image)
    variance = portable.mean_over_pixels(tf.math.squared_difference(image, mean))
    normed = tf.raw_ops.FusedBatchNormV3(
        x=image, scale=tf.ones([image.shape[-1]]), offset=tf.zeros([image.shape[-1]]), mean=mean[0, 0, 0],
        variance=variance[0, 0, 0], epsilon=EPSILON, is_training=False).y
    return tf.nn.relu(normed) if relu else normed


class BatchNorm(keras.layers.BatchNormalization):
    """Batch norm over all images of a step: with several replicas, mean and variance are those of the global batch.

    With statistics of their own, replicas would compute other outputs and gradients than one device with that batch.
    """

    def __init__(self, name: str | None = None, dtype: str | None = None) -> None:
        super().__init__(momentum=_BATCH_NORM_MOMENTUM, epsilon=EPSILON, name=name, dtype=dtype)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Norms float [B, H, W, C]; every replica has the same B, H and W."""
        context = tf.distribute.get_replica_context()
        if not training or context is None or context.num_replicas_in_sync == 1:
            return super().call(inputs, training=training)
        floats = tf.cast(inputs, tf.float32)
        mean = _mean_over_batch(floats, context)
        centred = floats - mean
        variance = _mean_over_batch(centred * centred, context)
        count = tf.cast(tf.size(floats[..., 0]) * context.num_replicas_in_sync, tf.float32)
        kept = variance * count / (count - 1.0) if compat.MOVING_VARIANCE_IS_UNBIASED else variance
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, kept)):
            moving = compat.raw_variable(moving)
            moving.assign(moving * self.momentum + tf.reshape(value, [-1]) * (1.0 - self.momentum))
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.convert_to_tensor(self.gamma)
        return tf.cast(centred * scale + tf.convert_to_tensor(self.beta), inputs.dtype)


def _mean_over_batch(pixels: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """[1, 1, 1, C]: over the pixels of all images of all replicas. Its gradient goes to all of them."""
    own = tf.reduce_mean(portable.mean_over_pixels(pixels), 0, keepdims=True)
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, own)


class NoNorm(keras.layers.Layer):
    """Returns its input."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        del training
        return inputs


def _instance(name: str, dtype: str) -> keras.layers.Layer:
    return InstanceNorm(name=name, dtype=dtype)


def _batch(name: str, dtype: str) -> keras.layers.Layer:
    return BatchNorm(name=name, dtype=dtype)


def _none(name: str, dtype: str) -> keras.layers.Layer:
    return NoNorm(name=name, dtype=dtype)


# Spectral norm changes the convolution's kernel, so no layer follows the convolution.
NORMS = {"instance": _instance, "batch": _batch, "none": _none, "spectral": _none}


def build_norm(kind: str, name: str, dtype: str) -> keras.layers.Layer:
    """The normalisation layer of that kind (a key of NORMS)."""
    return registry.lookup(NORMS, kind, "norm")(name, dtype)


def conv_has_bias(kind: str) -> bool:
    """Whether a convolution before that norm has a bias: not before batch norm and none, as in the official code."""
    return kind in ("instance", "spectral")


def cancels_bias(kind: str) -> bool:
    """Whether that norm removes the bias of the convolution before it, by subtracting each channel's mean."""
    return kind == "instance"


def norm_relu(norm: keras.layers.Layer, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
    """ReLU of a layer made by `build_norm`, as one step where the norm can."""
    if isinstance(norm, InstanceNorm):
        return norm(inputs, training=training, relu=True)
    return tf.nn.relu(norm(inputs, training=training))
