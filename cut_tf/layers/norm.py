"""Normalisation layers. Statistics are float32 whatever the precision of the network."""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import registry

EPSILON = 1e-5
# PyTorch's momentum 0.1 is the weight of the new value, Keras' the weight of the old one.
_BATCH_NORM_MOMENTUM = 0.9


class InstanceNorm(keras.layers.Layer):
    """Zero mean and unit variance per image and channel over H and W; no affine part, no running statistics."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        del training  # the same in training and inference; all norms take the argument
        values = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(values, [1, 2], keepdims=True)
        return tf.cast((values - mean) * tf.math.rsqrt(variance + EPSILON), inputs.dtype)


class NoNorm(keras.layers.Layer):
    """Returns its input."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        del training
        return inputs


def _instance(name: str, dtype: str) -> keras.layers.Layer:
    return InstanceNorm(name=name, dtype=dtype)


def _batch(name: str, dtype: str) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, epsilon=EPSILON, name=name, dtype=dtype)


def _none(name: str, dtype: str) -> keras.layers.Layer:
    return NoNorm(name=name, dtype=dtype)


NORMS = {"instance": _instance, "batch": _batch, "none": _none}


def build_norm(kind: str, name: str, dtype: str) -> keras.layers.Layer:
    """The normalisation layer of that kind (a key of NORMS)."""
    return registry.lookup(NORMS, kind, "norm")(name, dtype)


def conv_has_bias(kind: str) -> bool:
    """Whether a convolution before that norm has a bias: only before instance norm, as in the official code."""
    return kind == "instance"
