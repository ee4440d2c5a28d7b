"""What CycleGAN, GcGAN and DistanceGAN share: the pool, replicas, resuming, the light generator."""

from __future__ import annotations

import gain_networks
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.methods import distancegan, replicas
from cut_tf.methods.pooled import ImagePool
from cut_tf.translators.run import Translator
from tests.pixels import assert_same_but_for_rounding

_METHODS = {"cyclegan": {}, "gcgan": {"l1_identity_weight": 5.0}, "distancegan": {"distance": "pairs"}}
_GAINS = {
    "cyclegan": {"generator": 0.8123, "backward_generator": 1.0717, "discriminator": 0.6,
                 "backward_discriminator": 0.4},
    "distancegan": {"generator": 0.8123, "discriminator": 0.6},
}


def _official_rule(pool: list[float], size: int, images: np.ndarray, swaps: np.ndarray,
                   slots: np.ndarray) -> list[float]:
    """The pool of the official code, image by image; an image is one number here."""
    seen = []
    for image, swap, slot in zip(images, swaps, slots):
        if len(pool) < size:
            pool.append(image)
            seen.append(image)
        elif swap:
            seen.append(pool[slot])
            pool[slot] = image
        else:
            seen.append(image)
    return seen


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_pool_follows_the_official_rule(batch_size):
    """Also where a batch fills the pool and where its images meet each other in one place of it."""
    rng = np.random.default_rng(batch_size)
    pool, by_hand = ImagePool(4, 2), []
    for step in range(15):
        images = 100.0 * step + np.arange(batch_size)
        swaps, slots = rng.uniform(size=batch_size) > 0.5, rng.integers(0, 4, batch_size)
        expected = _official_rule(by_hand, 4, images, swaps, slots)
        seen = pool.exchange(tf.constant(np.tile(images[:, None, None, None], [1, 2, 2, 3]), tf.float32),
                             tf.constant(swaps), tf.constant(slots, tf.int32))
        np.testing.assert_array_equal(seen, np.tile(np.reshape(expected, [-1, 1, 1, 1]), [1, 2, 2, 3]))
        assert int(pool.count) == len(by_hand)
        np.testing.assert_array_equal(pool.images[:len(by_hand), 0, 0, 0], by_hand)


def test_draws_are_fair_and_new_in_every_step_and_pool(tiny_settings, monkeypatch):
    method = gain_networks.build(monkeypatch, tiny_settings(method="cyclegan", ema_decay=0.0), _GAINS["cyclegan"])
    drawn = []
    for pool in method.pools.values():
        monkeypatch.setattr(pool, "exchange", lambda images, *draws: drawn.append(draws) or images)
    for step in (0, 0, 1):
        method.step.assign(step)
        for name in method.pools:
            method._pooled(tf.zeros([4000, 1, 1, 3]), name)
    swaps, slots = (np.stack(values) for values in zip(*drawn))
    assert np.abs(swaps.mean(axis=1) - 0.5).max() < 0.04
    counts = np.stack([np.bincount(row, minlength=50) for row in slots])
    assert counts.shape == (6, 50) and counts.min() > 40 and counts.max() < 130
    np.testing.assert_array_equal(swaps[:2], swaps[2:4])
    for one, other in ((0, 1), (0, 4), (1, 5), (4, 5)):
        assert np.mean(swaps[one] != swaps[other]) > 0.4 and np.mean(slots[one] != slots[other]) > 0.9
        assert np.mean(swaps[one] != (slots[one] >= 25)) > 0.4  # the two draws have nothing to do with each other


def test_the_discriminator_sees_what_the_pool_gives(tiny_settings, monkeypatch):
    method = gain_networks.build(monkeypatch, tiny_settings(method="distancegan", ema_decay=0.0, pool_images=3),
                                 _GAINS["distancegan"])
    other = tf.constant(np.random.default_rng(5).uniform(-1, 1, (2, 32, 32, 3)), tf.float32)
    monkeypatch.setattr(method.pools["discriminator"], "exchange", lambda *_: other)
    batch = steps.batch()
    expected = gain_networks.discriminator_loss(0.6, batch["target"].numpy(), other.numpy())
    assert float(method.train_step(batch)["loss/discriminator"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["cyclegan", "distancegan"])
@pytest.mark.slow
def test_two_replicas_equal_one(tiny_settings, two_replicas, monkeypatch, name):
    """Five steps of a global batch of two: gradients, pools and statistics are those of one replica."""
    monkeypatch.setattr(distancegan, "FIRST_DISTANCES", 3)
    settings = tiny_settings(method=name, batch_size=2, pool_images=3, ema_decay=0.0, **_METHODS[name])
    one = gain_networks.build(monkeypatch, settings, _GAINS[name])
    with two_replicas.scope():
        two = gain_networks.build(monkeypatch, settings, _GAINS[name])

    @tf.function
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        def of_replica() -> dict[str, tf.Tensor]:
            place = replicas.replica_index()
            return two.train_step({key: images[place:place + 1] for key, images in batch.items()})

        return {key: two_replicas.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
                for key, value in two_replicas.run(of_replica).items()}

    for seed in range(5):
        batch = steps.batch(2, seed)
        expected = steps.numbers(one.train_step(batch))
        assert steps.numbers(step(batch)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    state = two.state()
    assert set(state) == set(one.state())
    for key, variable in one.state().items():
        np.testing.assert_allclose(state[key].numpy(), variable.numpy(), rtol=1e-4, atol=1e-6, err_msg=key)
    assert int(state["pool/discriminator/count"].numpy()) == 3
    if name == "distancegan":
        assert expected["loss/distance"] > 0.01 and state["distances/source"].numpy()[0] == 5


@pytest.mark.parametrize("name", _METHODS)
@pytest.mark.slow
def test_the_light_generator_trains_resumes_exactly_and_is_exported(tiny_settings, tmp_path, name):
    settings = tiny_settings(method=name, batch_size=2, pool_images=3, generator="mobile", generator_norm="none",
                             discriminator_layers=1, generator_blocks=0, **_METHODS[name])
    method = steps.build(settings, louder=1.0)
    before = steps.weights(method)
    for seed in range(2):
        assert all(np.isfinite(value) for value in steps.numbers(method.train_step(steps.batch(2, seed))).values())
    for network, weights in steps.weights(method).items():
        assert np.abs(weights - before[network]).max() > 1e-5, network
    method.save(tmp_path / "run")
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    assert_same_but_for_rounding(Translator(tmp_path / "run")(picture), method.translate(picture))
    again = steps.build(settings)
    again.restore(tmp_path / "run")
    for one in (method, again):
        one.train_step(steps.batch(2, seed=9))
    state = again.state()
    for key, variable in method.state().items():
        np.testing.assert_allclose(state[key].numpy(), variable.numpy(), rtol=0, atol=1e-6, err_msg=key)
