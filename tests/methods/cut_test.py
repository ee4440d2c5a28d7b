"""The CUT and FastCUT training step: terms, order of updates, random draws, negatives, sizes."""

from __future__ import annotations

import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common import images
from cut_tf.losses import patch_nce
from cut_tf.methods import build_method, cut
from cut_tf.methods.cut import CUT, Draws
from cut_tf.networks.generators.resnet import ResnetGenerator
from tools.check_parity.checks import check_file


@pytest.mark.parametrize("name, compared", [("cut_step1", 95), ("fastcut_step1", 87)])
def test_first_step_equals_the_official_code(testdata, name, compared):
    row = check_file(testdata / "golden" / f"{name}.npz")
    assert row.status == "ok", row.failures
    assert row.compared == compared


# ---- terms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_every_term_by_the_formulas(tiny_settings, flip):
    """Recomputes a step with the networks alone: old generator and projector, old and new discriminator."""
    method = steps.build(tiny_settings(flip_equivariance=True, gan_weight=0.5, nce_weight=2.0, nce_identity_weight=3.0,
                                       l1_identity_weight=5.0, temperature=0.2, learning_rate=1e-2))
    batch = steps.batch()
    ids = {name: [tf.range(first, first + 10) for _ in steps.LAYERS] for name, first in (("source", 0), ("target", 7))}
    generator, discriminator, projector = (method.networks[name] for name in method.networks)

    expected, fakes = {}, {}
    for name, term, weight in (("source", "nce", 2.0), ("target", "nce_identity", 3.0)):
        fakes[name] = generator(steps.mirror(batch[name], flip))
        keys = projector(generator.encode(batch[name], steps.LAYERS), ids[name])
        features = [steps.mirror(feature, flip) for feature in generator.encode(fakes[name], steps.LAYERS)]
        queries = projector(features, ids[name])
        losses = [float(tf.reduce_mean(patch_nce.patch_nce(query, key, 0.2))) for query, key in zip(queries, keys)]
        expected[f"loss/{term}"] = weight * np.mean(losses)
        expected.update({f"metric/{term}_loss/{feature}": loss
                         for feature, loss in zip(generator.feature_names(steps.LAYERS), losses)})
    expected["loss/l1_identity"] = 5.0 * np.abs(fakes["target"] - steps.mirror(batch["target"], flip)).mean()
    expected["loss/discriminator_real"] = np.square(discriminator(batch["target"]) - 1.0).mean()
    expected["loss/discriminator_fake"] = np.square(discriminator(fakes["source"])).mean()
    expected["loss/discriminator"] = (expected["loss/discriminator_real"] + expected["loss/discriminator_fake"]) / 2
    with_old_discriminator = 0.5 * np.square(discriminator(fakes["source"]) - 1.0).mean()

    terms = steps.numbers(method.train_step(batch, Draws(tf.constant(flip), ids["source"], ids["target"])))
    expected["loss/gan"] = 0.5 * np.square(discriminator(fakes["source"]) - 1.0).mean()
    assert abs(expected["loss/gan"] - with_old_discriminator) > 0.01  # the update is large enough to tell
    expected["loss/generator"] = (expected["loss/gan"] + (expected["loss/nce"] + expected["loss/nce_identity"]) / 2
                                  + expected["loss/l1_identity"])
    assert set(expected) <= set(terms)
    for name, value in expected.items():
        assert terms[name] == pytest.approx(value, rel=2e-4), name


@pytest.mark.parametrize("overrides", [
    {"gan_weight": 0.25}, {"nce_identity_weight": 0.0, "nce_weight": 10.0, "flip_equivariance": True},
    {"l1_identity_weight": 5.0}, {"nce_identity_weight": 0.0, "l1_identity_weight": 5.0}, {"nce_weight": 0.0},
    {"nce_weight": 0.0, "nce_identity_weight": 0.0}], ids=str)
def test_generator_loss_is_the_visible_weighted_sum(tiny_settings, overrides):
    settings = tiny_settings(**overrides)
    terms = steps.numbers(steps.build(settings).train_step(steps.batch()))
    contrast = terms["loss/nce"]
    if settings.patch_nce.nce_identity_weight:
        contrast = (contrast + terms["loss/nce_identity"]) / 2
    else:
        assert "loss/nce_identity" not in terms
    assert ("loss/l1_identity" in terms) == (settings.identity.l1_identity_weight > 0)
    expected = terms["loss/gan"] + contrast + terms.get("loss/l1_identity", 0.0)
    assert terms["loss/generator"] == pytest.approx(expected, rel=1e-6)
    assert terms["loss/discriminator"] == pytest.approx(
        (terms["loss/discriminator_real"] + terms["loss/discriminator_fake"]) / 2, rel=1e-6)


def test_gradient_penalty_is_added_to_the_discriminators_loss(tiny_settings):
    method = steps.build(tiny_settings(gan_mode="wgangp", gradient_penalty_weight=7.0))
    terms = steps.numbers(method.train_step(steps.batch()))
    halves = (terms["loss/discriminator_real"] + terms["loss/discriminator_fake"]) / 2
    assert terms["loss/gradient_penalty"] > 0.01
    assert terms["loss/discriminator"] == pytest.approx(halves + terms["loss/gradient_penalty"], rel=1e-5)
    method = steps.build(tiny_settings(gan_mode="wgangp", gradient_penalty_weight=14.0))
    double = steps.numbers(method.train_step(steps.batch()))
    assert double["loss/gradient_penalty"] == pytest.approx(2 * terms["loss/gradient_penalty"], rel=1e-5)


# ---- order and reach of the updates ----------------------------------------------------------------------------------


def _still() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.0)


def test_generator_sees_the_updated_discriminator(tiny_settings):
    settings = tiny_settings(learning_rate=1e-2)
    moving = steps.numbers(steps.build(settings).train_step(steps.batch()))
    still = steps.numbers(steps.build(settings, optimizers={"discriminator": _still()}).train_step(steps.batch()))
    for name in ("loss/discriminator_real", "loss/discriminator_fake", "loss/discriminator", "loss/nce"):
        assert moving[name] == pytest.approx(still[name], rel=1e-6), name
    assert abs(moving["loss/gan"] - still["loss/gan"]) > 0.01


def test_discriminator_does_not_see_the_generators_update(tiny_settings):
    settings = tiny_settings(learning_rate=1e-2)
    methods = [steps.build(settings), steps.build(settings, optimizers={"generator": _still(), "projector": _still()})]
    moving, still = (steps.numbers(method.train_step(steps.batch())) for method in methods)
    for name in moving:
        if not name.startswith("learning_rate/"):
            assert moving[name] == pytest.approx(still[name], rel=1e-6), name
    after = [steps.weights(method) for method in methods]
    np.testing.assert_allclose(after[0]["discriminator"], after[1]["discriminator"], atol=1e-7)
    assert np.abs(after[0]["generator"] - after[1]["generator"]).max() > 1e-3


@pytest.mark.parametrize("name", ["generator", "discriminator", "projector"])
def test_each_network_has_its_own_optimizer(tiny_settings, name):
    method = steps.build(tiny_settings(), optimizers={name: _still()})
    before = steps.weights(method)
    method.train_step(steps.batch())
    moved = {key: float(np.abs(value - before[key]).max()) for key, value in steps.weights(method).items()}
    assert moved.pop(name) == 0
    assert min(moved.values()) > 1e-5


def test_discriminator_takes_no_gradient_from_the_generators_terms(tiny_settings):
    """With a far larger weight of the generator's adversarial loss the discriminator moves the same way."""
    after = []
    for weight in (1.0, 1000.0):
        method = steps.build(tiny_settings(gan_weight=weight),
                             optimizers={"discriminator": keras.optimizers.SGD(0.1)})
        method.train_step(steps.batch())
        after.append(steps.weights(method)["discriminator"])
    np.testing.assert_allclose(after[0], after[1], atol=1e-7)


# ---- mirroring -------------------------------------------------------------------------------------------------------


def _record_inputs(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the generator is given to translate, from now on."""
    seen = []
    original = ResnetGenerator.translate_with_features

    def recorder(self: ResnetGenerator, pictures: tf.Tensor, layers: tuple, training: bool | None = None) -> tuple:
        if layers:  # inference asks for no features
            seen.append(np.asarray(pictures))
        return original(self, pictures, layers, training)

    monkeypatch.setattr(ResnetGenerator, "translate_with_features", recorder)
    return seen


def test_about_half_of_the_steps_are_mirrored(tiny_settings):
    method = build_method(tiny_settings(flip_equivariance=True))
    flips = []
    for step in range(300):
        method.step.assign(step)
        flips.append(bool(method._draw_flip()))
    assert 120 < sum(flips) < 180
    assert 100 < sum(first != second for first, second in zip(flips, flips[1:])) < 200  # no pattern


def test_a_mirrored_step_mirrors_what_the_generator_sees(tiny_settings, monkeypatch):
    method = steps.build(tiny_settings(flip_equivariance=True, nce_identity_weight=0.0))
    seen = _record_inputs(monkeypatch)
    batch = steps.batch()
    flips = []
    for _ in range(8):
        flips.append(bool(method._draw_flip()))
        method.train_step(batch)
    assert set(flips) == {True, False}
    for flip, pictures in zip(flips, seen):
        np.testing.assert_array_equal(pictures, steps.mirror(batch["source"], flip))


def test_without_flip_equivariance_nothing_is_mirrored(tiny_settings, monkeypatch):
    method = steps.build(tiny_settings())
    seen = _record_inputs(monkeypatch)
    batch = steps.batch()
    for _ in range(4):
        method.train_step(batch)
    for pictures in seen:
        np.testing.assert_array_equal(pictures, tf.concat([batch["source"], batch["target"]], 0))


def test_translation_never_mirrors(tiny_settings):
    method = steps.build(tiny_settings(flip_equivariance=True, ema_decay=0.0))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 33, 3), dtype=np.uint8)
    flips = []
    for _ in range(6):
        flips.append(bool(method._draw_flip()))
        method.train_step(steps.batch())
        direct = method.generator(images.from_bytes(pictures), training=False)
        np.testing.assert_array_equal(method.translate(pictures), images.to_bytes(direct))
        np.testing.assert_allclose(method(images.from_bytes(pictures)), direct, atol=1e-6)
    assert set(flips) == {True, False}


# ---- features, patches, negatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [{}, {"nce_identity_weight": 0.0}, {"antialias_down": False},
                                       {"flip_equivariance": True}], ids=str)
def test_reused_key_features_equal_encoded_ones(tiny_settings, monkeypatch, overrides):
    reused = steps.numbers(steps.build(tiny_settings(**overrides)).train_step(steps.batch()))
    monkeypatch.setattr(CUT, "_key_features", lambda self, real, *_: [
        self.generator.encode(part, self.layers_compared) for part in real])
    encoded = steps.numbers(steps.build(tiny_settings(**overrides)).train_step(steps.batch()))
    assert reused == pytest.approx(encoded, rel=1e-4)  # losses and norms of the gradients


def test_real_images_are_encoded_once(tiny_settings, monkeypatch):
    method = steps.build(tiny_settings())
    encoded = []
    original = ResnetGenerator.encode
    monkeypatch.setattr(ResnetGenerator, "encode", lambda self, *args, **kwargs: encoded.append(1) or original(
        self, *args, **kwargs))
    method.train_step(steps.batch())
    assert len(encoded) == 1  # the translations


def test_without_identity_terms_the_target_is_not_translated(tiny_settings, monkeypatch):
    seen = _record_inputs(monkeypatch)
    for overrides in ({"nce_identity_weight": 0.0}, {}, {"nce_identity_weight": 0.0, "l1_identity_weight": 1.0}):
        steps.build(tiny_settings(**overrides)).train_step(steps.batch())
    assert [len(pictures) for pictures in seen] == [2, 4, 4]


def test_patches_are_drawn_anew_per_layer_term_and_step(tiny_settings, monkeypatch):
    drawn = []
    original = cut.draw_patch_ids

    def recorder(locations: tf.Tensor, num_patches: int, seed: tf.Tensor) -> tf.Tensor:
        drawn.append(tuple(original(locations, num_patches, seed).numpy()))
        return original(locations, num_patches, seed)

    monkeypatch.setattr(cut, "draw_patch_ids", recorder)
    method = steps.build(tiny_settings(nce_layers="4,5,6"))  # three layers of the same size
    for _ in range(2):
        method.train_step(steps.batch())
    assert len(drawn) == len(set(drawn)) == 2 * 2 * 3
    assert all(len(ids) == 16 and max(ids) > 256 for ids in drawn)  # of 32 x 32 places


@pytest.mark.slow
def test_a_run_is_repeated_with_its_seed_only(tiny_settings):
    def losses(seed: int) -> list[float]:
        method = steps.build(tiny_settings(seed=seed, flip_equivariance=True))
        return [steps.numbers(method.train_step(steps.batch(seed=step)))["loss/generator"] for step in range(2)]

    first = losses(1)
    assert losses(1) == pytest.approx(first, rel=1e-5)
    assert losses(2) != pytest.approx(first, rel=1e-3)


def test_sample_projector_compares_the_features_themselves(tiny_settings):
    method = steps.build(tiny_settings(projector="sample"))
    assert method.networks["projector"].weights == []
    assert set(method.optimizers_by_network) == {"generator", "discriminator"}
    before = steps.weights(method)["generator"]
    terms = steps.numbers(method.train_step(steps.batch()))
    assert terms["loss/nce"] > 0 and "gradient_norm/projector" not in terms
    assert np.abs(steps.weights(method)["generator"] - before).max() > 1e-5


def test_external_negatives_come_from_earlier_steps(tiny_settings):
    method = steps.build(tiny_settings(negatives="external"))
    first = steps.numbers(method.train_step(steps.batch(seed=0)))
    assert first["loss/nce"] == 0 and first["loss/nce_identity"] == 0  # there are none yet
    queue = method.queues["nce"]
    assert all(bool(tf.reduce_all(present)) for present in queue.present)
    assert [tuple(keys.shape) for keys in queue.keys] == [(15, 16)] * 4
    np.testing.assert_allclose(np.linalg.norm(queue.keys[1], axis=-1), 1.0, rtol=1e-3)
    kept = queue.keys[1].numpy()
    second = steps.numbers(method.train_step(steps.batch(seed=1)))
    assert second["loss/nce"] > 0.1 and second["loss/nce_identity"] > 0.1
    assert np.abs(queue.keys[1].numpy() - kept).max() > 1e-3


def test_internal_and_external_negatives_together_make_the_question_harder(tiny_settings):
    """The first step has no negatives of other images, so that its terms are those of internal ones alone."""
    internal, both = (steps.build(tiny_settings(negatives=kind, nce_layers="0,4", nce_identity_weight=0.0))
                      for kind in ("internal", "internal_external"))
    first, other = (steps.numbers(method.train_step(steps.batch(seed=0))) for method in (internal, both))
    assert other == pytest.approx(first, rel=1e-4, abs=1e-5)
    first, other = (steps.numbers(method.train_step(steps.batch(seed=1))) for method in (internal, both))
    assert other["loss/nce"] > first["loss/nce"] + 0.1


@pytest.mark.parametrize("overrides", [
    {"negatives": "internal"}, {"negatives": "minibatch"}, {"negatives": "external"}, {"num_negatives": 3},
    {"num_patches": 5000}, {"gan_mode": "vanilla"}, {"gan_mode": "nonsaturating"}, {"gan_mode": "wgangp"},
    {"gan_mode": "wgangp", "gradient_penalty_weight": 0.0},
    {"generator_norm": "batch", "discriminator_norm": "batch"},
    {"generator_norm": "none", "discriminator_norm": "none"},
    {"generator_norm": "batch", "flip_equivariance": True, "nce_identity_weight": 0.0},
    {"antialias_down": False, "antialias_up": False}, {"precision": "bfloat16"},
    {"precision": "bfloat16", "gan_mode": "wgangp"}, {"precision": "float16"}, {"ema_decay": 0.0},
], ids=str)
@pytest.mark.slow
def test_two_steps_are_finite_and_train_all_networks(tiny_settings, overrides):
    method = steps.build(tiny_settings(**overrides), louder=1.0)
    if method.settings.devices.precision == "float16":
        method.loss_scaling.scale.assign(16.0)  # where the first steps of this network would bring it
    before = steps.weights(method)
    for step in range(2):
        terms = steps.numbers(method.train_step(steps.batch(seed=step)))
        assert {name: value for name, value in terms.items() if not np.isfinite(value)} == {}
        assert {name: value for name, value in terms.items() if name.startswith("non_finite/") and value != -1} == {}
    assert int(method.step) == 2
    for name, after in steps.weights(method).items():
        assert np.isfinite(after).all()
        assert np.abs(after - before[name]).max() > 1e-5, name


@pytest.mark.parametrize("overrides", [{}, {"nce_identity_weight": 0.0}, {"flip_equivariance": True},
                                       {"l1_identity_weight": 1.0}], ids=str)
def test_source_and_target_may_differ_in_size_without_preprocessing(tiny_settings, overrides):
    method = steps.build(tiny_settings(preprocess="none", **overrides))
    batch = {"source": steps.batch(1)["source"], "target": tf.tile(steps.batch(1)["target"], [1, 2, 1, 1])[:, :44]}
    terms = steps.numbers(method.train_step(batch))
    assert {name: value for name, value in terms.items() if not np.isfinite(value)} == {}


def test_images_taken_one_by_one_or_together_give_the_same_terms(tiny_settings):
    apart, together = (steps.numbers(steps.build(tiny_settings(preprocess=preprocess)).train_step(steps.batch(1)))
                       for preprocess in ("none", "crop"))
    assert apart == pytest.approx(together, rel=1e-4, abs=1e-6)
