"""DistanceGAN: running statistics, terms and gradients by hand, and what it refuses."""

from __future__ import annotations

import gain_networks
import method_steps as steps
import numpy as np
import pytest
from gain_networks import discriminator_loss, gan_loss, ramp

from cut_tf.common.errors import InputError
from cut_tf.methods import build_method, distancegan

_GAINS = {"generator": 0.8123, "discriminator": 0.6}


def _distances(images: np.ndarray, kind: str) -> list[float]:
    if kind == "self":
        half = images.shape[2] // 2
        return [np.abs(image[:, :half] - image[:, -half:]).mean() for image in images]
    return [np.abs(images[i] - images[j]).mean() for i in range(len(images)) for j in range(i + 1, len(images))]


@pytest.mark.parametrize("kind, images, number", [("self", 3, 3), ("pairs", 3, 3), ("pairs", 4, 6)])
def test_terms_statistics_and_updates_by_hand(tiny_settings, monkeypatch, kind, images, number):
    """Two steps of three or four images; the term begins with the second, its statistics are those of both."""
    monkeypatch.setattr(distancegan, "FIRST_DISTANCES", 2 * number)
    method = gain_networks.build(monkeypatch, tiny_settings(
        method="distancegan", distance=kind, batch_size=images, gan_weight=0.7, distance_weight=3.0,
        l1_identity_weight=2.0, pool_images=0, ema_decay=0.0), _GAINS)
    first, second = steps.batch(images), steps.batch(images, seed=1)
    assert float(method.train_step(first)["loss/distance"]) == 0
    before = gain_networks.gains_of(method)
    terms, after = steps.numbers(method.train_step(second)), gain_networks.gains_of(method)
    x, y = (second[name].numpy().astype(np.float64) for name in ("source", "target"))
    seen = {name: np.concatenate([_distances(batch[name].numpy().astype(np.float64), kind)
                                  for batch in (first, second)]) for name in ("source", "target")}
    assert len(seen["source"]) == 2 * number
    for name, values in seen.items():
        np.testing.assert_allclose(method.statistics[name], [2 * number, values.mean(), values.var()], rtol=1e-5)

    def expected(gains: dict[str, float]) -> dict[str, float]:
        def generator(images: np.ndarray) -> np.ndarray:
            return gains["generator"] * ramp(images) * images

        standard = [(np.array(_distances(images, kind)) - seen[name].mean()) / seen[name].std()
                    for images, name in ((x, "source"), (generator(x), "target"))]
        return {"loss/gan": 0.7 * gan_loss(gains["discriminator"], generator(x)),
                "loss/distance": 3.0 * np.abs(standard[0] - standard[1]).mean(),
                "loss/l1_identity": 2.0 * np.abs(generator(y) - y).mean()}

    values = expected(before)
    assert values["loss/distance"] > 0.1
    values["loss/generator"] = sum(values.values())
    fake = before["generator"] * ramp(x) * x
    values["loss/discriminator"] = discriminator_loss(before["discriminator"], y, fake)
    assert {name: terms[name] for name in values} == pytest.approx(values, rel=1e-3)
    gain_networks.check_update(before, after, "generator", lambda gains: sum(expected(gains).values()))
    gain_networks.check_update(before, after, "discriminator",
                               lambda gains: discriminator_loss(gains["discriminator"], y, fake))


def test_the_term_begins_with_the_hundredth_distance(tiny_settings, monkeypatch):
    method = gain_networks.build(monkeypatch, tiny_settings(method="distancegan", ema_decay=0.0), _GAINS)
    for count, begun in ((90.0, False), (98.0, True)):
        for statistics in method.statistics.values():
            statistics.assign([count, 0.5, 0.01])
        assert (float(method.train_step(steps.batch(2))["loss/distance"]) > 0) == begun


def test_equal_images_give_a_finite_loss(tiny_settings, monkeypatch):
    """Distances without deviation, as those of blank images, must not divide by zero."""
    monkeypatch.setattr(distancegan, "FIRST_DISTANCES", 1)
    method = gain_networks.build(monkeypatch, tiny_settings(method="distancegan", ema_decay=0.0), _GAINS)
    terms = steps.numbers(method.train_step({name: 0.0 * images for name, images in steps.batch(2).items()}))
    assert all(np.isfinite(value) for value in terms.values())


def test_pairs_need_two_images(tiny_settings):
    with pytest.raises(InputError, match="--batch_size must be 2 or more with --distance=pairs, found 1; "
                                         "--distance=self"):
        build_method(tiny_settings(method="distancegan", distance="pairs"))
