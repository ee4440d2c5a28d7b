"""GcGAN: the transformation, terms and gradients by hand."""

from __future__ import annotations

import gain_networks
import method_steps as steps
import numpy as np
import pytest
from gain_networks import discriminator_loss, gan_loss, ramp

from cut_tf.methods.gcgan import transform

_GAINS = {"generator": 0.8123, "discriminator": 0.6, "transformed_discriminator": 0.4}
# f and its inverse on [B, H, W, C]; np.rot90 turns counter-clockwise.
_GEOMETRIES = {"rot90": (lambda images: np.rot90(images, -1, (1, 2)), lambda images: np.rot90(images, 1, (1, 2))),
               "vflip": (lambda images: images[:, ::-1], lambda images: images[:, ::-1])}


@pytest.mark.parametrize("geometry", _GEOMETRIES)
def test_transformation_and_its_inverse(geometry):
    images = np.arange(2 * 3 * 4 * 3, dtype=np.float32).reshape(2, 3, 4, 3)
    there, back = _GEOMETRIES[geometry]
    np.testing.assert_array_equal(transform(images, geometry), there(images))
    np.testing.assert_array_equal(transform(images, geometry, inverse=True), back(images))
    np.testing.assert_array_equal(transform(transform(images, geometry), geometry, inverse=True), images)


def _terms(gains: dict[str, float], x: np.ndarray, y: np.ndarray, geometry: str) -> dict[str, float]:
    """The objective with weights 0.7 for GAN, 3 for geometry and 2 for identity."""
    there, back = _GEOMETRIES[geometry]

    def generator(images: np.ndarray) -> np.ndarray:
        return gains["generator"] * ramp(images) * images

    return {"loss/gan": 0.7 * gan_loss(gains["discriminator"], generator(x)),
            "loss/transformed_gan": 0.7 * gan_loss(gains["transformed_discriminator"], generator(there(x))),
            "loss/geometry": 3.0 * np.abs(generator(x) - back(generator(there(x)))).mean(),
            "loss/l1_identity": 2.0 * np.abs(generator(y) - y).mean()
            + 2.0 * np.abs(generator(there(y)) - there(y)).mean()}


@pytest.mark.parametrize("geometry", _GEOMETRIES)
def test_terms_and_updates_by_hand(tiny_settings, monkeypatch, geometry):
    method = gain_networks.build(monkeypatch, tiny_settings(
        method="gcgan", gan_weight=0.7, geometry=geometry, geometry_weight=3.0, l1_identity_weight=2.0, ema_decay=0.0),
        _GAINS)
    batch = steps.batch()
    x, y = (batch[name].numpy().astype(np.float64) for name in ("source", "target"))
    terms, after = steps.numbers(method.train_step(batch)), gain_networks.gains_of(method)
    expected = _terms(_GAINS, x, y, geometry)
    expected["loss/generator"] = sum(expected.values())
    there = _GEOMETRIES[geometry][0]
    fakes = {"discriminator": (y, _GAINS["generator"] * ramp(x) * x),
             "transformed_discriminator": (there(y), _GAINS["generator"] * ramp(there(x)) * there(x))}
    for name, (real, fake) in fakes.items():
        expected[f"loss/{name}"] = discriminator_loss(_GAINS[name], real, fake)
        gain_networks.check_update(_GAINS, after, name, lambda gains, name=name, real=real, fake=fake:
                                   discriminator_loss(gains[name], real, fake))
    gain_networks.check_update(_GAINS, after, "generator", lambda gains: sum(_terms(gains, x, y, geometry).values()))
    assert {name: terms[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_geometry_gradient_is_that_of_both_directions_with_the_other_side_fixed(tiny_settings, monkeypatch):
    """L_geo as the official code writes it, with a translator each: its slope is the sum over both."""
    gains = {**_GAINS}
    method = gain_networks.build(monkeypatch, tiny_settings(
        method="gcgan", gan_weight=0.0, geometry="vflip", geometry_weight=20.0, ema_decay=0.0), gains)
    batch = steps.batch()
    x = batch["source"].numpy().astype(np.float64)

    def both_ways(moving: dict[str, float]) -> float:
        one, turned = (images * ramp(images) for images in (x, x[:, ::-1]))
        free, fixed = moving["generator"], gains["generator"]
        return 20.0 * (np.abs(free * one - fixed * turned[:, ::-1]).mean()
                       + np.abs(free * turned - fixed * one[:, ::-1]).mean())

    method.train_step(batch)
    gain_networks.check_update(gains, gain_networks.gains_of(method), "generator", both_ways)
