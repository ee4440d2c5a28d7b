"""Networks of one weight, so that the step of a method with several of them can be recomputed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import networks
from cut_tf.methods import build_method
from cut_tf.methods.base import TranslationMethod
from cut_tf.settings import Settings

RATE = 1e-3


def ramp(images: np.ndarray) -> np.ndarray:
    """[H, W, 1] for images [B, H, W, 3]: neighbours are treated unlike, so that mirroring and turning are noticed."""
    height, width = images.shape[1:3]
    return (0.5 + np.arange(height)[:, None] / (3 * height) + 2 * np.arange(width) / (3 * width))[..., None]


class _Gain(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="gain")
        self.gain = self.add_weight(name="kernel", shape=(), initializer="ones")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return images * self.gain * tf.constant(ramp(images), tf.float32)


class GainNetwork(keras.Model):
    """Generator or discriminator: images [B, H, W, 3] times a ramp times its only weight."""

    mixes_batch = False

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.layer = _Gain()

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.layer(images)


def build(monkeypatch: pytest.MonkeyPatch, settings: Settings, gains: Mapping[str, float],
          **compile_arguments: object) -> TranslationMethod:
    """The method with networks of these weights, and plain gradient descent."""
    monkeypatch.setattr(networks, "build_generator", lambda *_: GainNetwork("generator"))
    monkeypatch.setattr(networks, "build_discriminator", lambda *_: GainNetwork("discriminator"))
    method = build_method(settings)
    assert set(method.networks) == set(gains)
    for name, network in method.networks.items():
        network(tf.zeros([1, 4, 4, 3]))
        network.layer.gain.assign(gains[name])
    method.compile(optimizers={name: keras.optimizers.SGD(RATE) for name in gains}, **compile_arguments)
    return method


def gains_of(method: TranslationMethod) -> dict[str, float]:
    return {name: float(network.layer.gain.numpy()) for name, network in method.networks.items()}


def check_update(before: Mapping[str, float], after: Mapping[str, float], name: str,
                 objective: Callable[[Mapping[str, float]], float]) -> None:
    """The step moved the weight of network `name` by the rate times the slope of `objective`."""
    step = 1e-4
    slope = (objective({**before, name: before[name] + step}) - objective({**before, name: before[name] - step}))
    assert abs(slope / (2 * step)) > 0.02, "too flat to tell"
    assert before[name] - after[name] == pytest.approx(RATE * slope / (2 * step), rel=5e-3), name


def discriminator_loss(gain: float, real: np.ndarray, fake: np.ndarray) -> float:
    """LSGAN's, halved."""
    scores = [gain * images * ramp(images) for images in (real, fake)]
    return (np.square(scores[0] - 1).mean() + np.square(scores[1]).mean()) / 2


def gan_loss(gain: float, fake: np.ndarray) -> float:
    return np.square(gain * fake * ramp(fake) - 1).mean()
