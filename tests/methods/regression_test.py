"""Methods that learn from pairs or from a teacher: loss, target, noise, replicas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from cut_tf.settings import Settings

_MOBILE = {"generator": "mobile", "generator_norm": "none"}


def _batch(count: int = 2) -> dict[str, tf.Tensor]:
    return {name: tf.random.stateless_uniform([count, 32, 32, 3], [seed, 0], -1, 1)
            for seed, name in enumerate(("source", "target"))}


def _built(settings: Settings) -> object:
    method = build_method(settings)
    method.compile()
    return method


@pytest.mark.parametrize("network", [{}, _MOBILE])
def test_paired_loss_is_the_mean_absolute_difference_to_the_target(tiny_settings, network):
    method, batch = _built(tiny_settings(method="paired", **network)), _batch()
    expected = np.abs(method.generator(batch["source"], training=True) - batch["target"]).mean()
    before = [weight.numpy() for weight in method.generator.trainable_variables]
    terms = method.train_step(batch)
    np.testing.assert_allclose(terms["loss/l1"], expected, rtol=1e-5)
    assert set(method.networks) == {"generator"} and int(method.step) == 1
    # Adam's first step moves every weight with a gradient by the learning rate, against the gradient's sign.
    moved = [np.abs(weight.numpy() - old).max() for weight, old in zip(method.generator.trainable_variables, before)]
    np.testing.assert_allclose(max(moved), method.settings.optimizer.learning_rate, rtol=1e-2)


def test_paired_learns_a_known_translation(tiny_settings):
    """y = -0.5 x is within the light generator's reach: gain -1.5, detail scaled by -1.5."""
    method = _built(tiny_settings(method="paired", learning_rate=1e-2, **_MOBILE))
    source = _batch(4)["source"]
    step = tf.function(method.train_step)
    losses = [float(step({"source": source, "target": -0.5 * source})["loss/l1"]) for _ in range(60)]
    assert losses[-1] < 0.15 * losses[0]


def test_noise_is_of_the_asked_strength_and_new_in_every_step(tiny_settings):
    method = _built(tiny_settings(method="paired", source_noise_levels=5.0))
    grey = tf.zeros([2, 64, 64, 3])
    first = method._with_noise(grey).numpy()
    assert abs(first.std() * 127.5 - 5.0) < 0.2 and abs(first.mean() * 127.5) < 0.2
    np.testing.assert_array_equal(method._with_noise(grey), first)
    method.step.assign_add(1)
    assert np.any(method._with_noise(grey).numpy() != first)
    assert _built(tiny_settings(method="paired"))._with_noise(grey) is grey


def test_distill_regresses_the_teachers_pictures(tmp_path, tiny_settings):
    teacher = _built(tiny_settings())
    for weight in teacher.ema_generator.weights:
        weight.assign(weight * 20.0)
    teacher.save(tmp_path / "teacher")
    method, batch = _built(tiny_settings(method="distill", teacher=str(tmp_path / "teacher"), seed=3)), _batch()
    expected = np.abs(method.generator(batch["source"], training=True) - teacher.ema_generator(batch["source"])).mean()
    np.testing.assert_allclose(method.train_step(batch)["loss/l1"], expected, rtol=1e-4)
    # The teacher is no part of what is trained or saved.
    assert set(method.networks) == {"generator"} and not [name for name in method.state() if "teacher" in name]


def test_teacher_is_asked_for_exactly_with_distill(tmp_path, tiny_settings):
    with pytest.raises(InputError, match="--teacher must be the folder of a run with --method=distill, .* found ''"):
        tiny_settings(method="distill")
    with pytest.raises(InputError, match="--teacher must be .* found 'somewhere'"):
        tiny_settings(teacher="somewhere")
    with pytest.raises(InputError, match="found no settings.json in"):
        build_method(tiny_settings(method="distill", teacher=str(tmp_path)))


def test_two_replicas_take_the_step_of_one(tiny_settings, two_replicas):
    """Same global batch, same noise, same weights after two steps."""
    settings = tiny_settings(method="paired", source_noise_levels=4.0, batch_size=2, learning_rate=1e-3, **_MOBILE)
    one, batch = _built(settings), _batch(2)
    for _ in range(2):
        one.train_step(batch)
    with two_replicas.scope():
        two = _built(settings)

    @tf.function
    def step() -> None:
        def parts(context: tf.distribute.ReplicaContext) -> dict[str, tf.Tensor]:
            place = context.replica_id_in_sync_group
            return {name: value[place:place + 1] for name, value in batch.items()}

        def run() -> tf.Tensor:
            return two.train_step(parts(tf.distribute.get_replica_context()))["loss/l1"]

        two_replicas.run(run)

    for _ in range(2):
        step()
    for single, mirrored in zip(one.generator.trainable_variables, two.generator.trainable_variables):
        np.testing.assert_allclose(np.asarray(single), np.asarray(mirrored), atol=2e-5)


@pytest.mark.parametrize("method", ["cut", pytest.param("odcr", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_unpaired_methods_train_the_light_generator_too(tiny_settings, method):
    settings = tiny_settings(method=method, nce_layers="1,2,3,4", nce_identity_weight=0.0, **_MOBILE)
    trained, batch = _built(settings), _batch()
    before = [weight.numpy() for weight in trained.generator.trainable_variables]
    terms = tf.function(trained.train_step)(batch)
    assert all(np.isfinite(float(value)) for value in terms.values())
    for name in ("01_down1", "04_block1"):
        assert f"metric/nce_loss/{name}" in terms, sorted(terms)
    changed = [np.any(weight.numpy() != old) for weight, old in zip(trained.generator.trainable_variables, before)]
    assert np.mean(changed) > 0.9
