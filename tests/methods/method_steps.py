"""Batches, tiny methods and comparisons that the tests of the methods share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.methods import build_method
from cut_tf.methods.cut import CUT
from cut_tf.settings import Settings

SIDE_PX = 32
LAYERS = (0, 4, 8, 12)


def batch(size: int = 2, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    return {name: tf.constant(rng.uniform(-1, 1, (size, SIDE_PX, SIDE_PX, 3)), tf.float32)
            for name in ("source", "target")}


def build(settings: Settings, louder: float = 10.0, **compile_arguments: object) -> CUT:
    """A compiled method whose weights are large enough that every update and every term is noticed."""
    method = build_method(settings)
    for network in method.networks.values():
        for weight in network.trainable_variables:
            weight.assign(weight * louder)
    if method.ema_generator is not None:
        weights = compat.named_weights(method.generator)
        for name, mean in compat.named_weights(method.ema_generator).items():
            mean.assign(weights[name])
    method.compile(**compile_arguments)
    return method


def numbers(terms: Mapping[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}


def weights(method: CUT) -> dict[str, np.ndarray]:
    return {name: np.concatenate([np.ravel(weight) for weight in network.get_weights() or [np.zeros(0)]])
            for name, network in method.networks.items()}


def mirror(pictures: tf.Tensor, flip: bool) -> tf.Tensor:
    return tf.reverse(pictures, [2]) if flip else pictures
