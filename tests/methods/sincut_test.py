"""SinCUT: its loss, its noise, replicas, resuming, what it refuses."""

from __future__ import annotations

import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from cut_tf.methods.sincut import SinCUT
from cut_tf.networks.generators.stylegan2 import StyleGAN2Generator

_SINCUT = {"method": "sincut", "generator": "stylegan2", "discriminator": "stylegan2", "stylegan2_size_px": 32,
           "ngf": 1, "ndf": 1, "generator_blocks": 2, "gan_mode": "nonsaturating", "r1_weight": 1.0, "nce_weight": 4.0,
           "nce_identity_weight": 4.0, "l1_identity_weight": 1.0, "nce_layers": "0,2,3", "negatives": "minibatch",
           "num_patches": 1, "batch_size": 2, "learning_rate": 2e-3, "beta_1": 0.0, "beta_2": 0.99, "ema_decay": 0.5}
_NETWORKS = ("generator", "discriminator", "projector")


def _build(settings: object, strength: float = 0.5, **compile_arguments: object) -> SinCUT:
    method = build_method(settings)
    method.generator.ups[0].noise_strength.assign([strength])
    for weight in method.networks["projector"].trainable_variables:
        weight.assign(weight * 10.0)
    method.compile(**compile_arguments)
    return method


@pytest.fixture(scope="module", name="trained")
def _trained(tiny_settings) -> tuple[SinCUT, list[dict[str, float]], list[list], list[list]]:
    """After two steps: the method, their terms, what each pass through the generator was given, and what was embedded.
    """
    method = _build(tiny_settings(**_SINCUT))
    passes, terms, embedded = [], [], []
    translate, encode, embed = StyleGAN2Generator.translate_with_features, StyleGAN2Generator.encode, SinCUT._embed

    def record_pass(self, images, layers, training=None, noise=()):
        passes[-1].append(("full", images, [one.numpy() for one in noise]))
        return translate(self, images, layers, training, noise)

    def record_encoding(self, images, layers, training=None):
        passes[-1].append(("encoder", images, []))
        return encode(self, images, layers, training)

    def record_embedding(self, features, patch_ids):
        found = embed(self, features, patch_ids)
        embedded[-1].append([one.numpy().astype(np.float64) for one in found])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SinCUT, "_embed", record_embedding)
        patch.setattr(StyleGAN2Generator, "translate_with_features", record_pass)
        patch.setattr(StyleGAN2Generator, "encode", record_encoding)
        for number in range(2):
            passes.append([])
            embedded.append([])
            terms.append(steps.numbers(method.train_step(steps.batch(seed=number))))
    return method, terms, passes, embedded


def test_generator_loss_is_the_visible_weighted_sum(trained):
    for terms in trained[1]:
        expected = terms["loss/gan"] + (terms["loss/nce"] + terms["loss/nce_identity"]) / 2 + terms["loss/l1_identity"]
        assert terms["loss/generator"] == pytest.approx(expected, rel=1e-5)
        per_layer = [value for name, value in terms.items() if name.startswith("metric/nce_loss/")]
        assert len(per_layer) == 3 and terms["loss/nce"] == pytest.approx(4 * np.mean(per_layer), rel=1e-5)


def test_r1_is_outside_the_half_sum(trained):
    for terms in trained[1]:
        expected = (terms["loss/discriminator_real"] + terms["loss/discriminator_fake"]) / 2 + terms["loss/r1"]
        assert terms["loss/discriminator"] == pytest.approx(expected, rel=1e-5) and terms["loss/r1"] > 0


def test_full_passes_have_fresh_noise_and_encoder_passes_none(trained):
    passes = trained[2]
    seen = []
    for number, taken in enumerate(passes):
        assert [kind for kind, _, _ in taken] == ["full", "encoder"]
        (_, images, (noise,)), (_, outputs, _) = taken
        batch = steps.batch(seed=number)
        np.testing.assert_array_equal(images, np.concatenate([batch["source"], batch["target"]]))
        assert outputs.shape == images.shape and noise.shape == (4, 32, 32, 1)
        assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
        seen.extend(noise)
    correlations = np.corrcoef(np.reshape(seen, (8, -1))) - np.eye(8)
    assert np.abs(correlations).max() < 0.2, "every image of every step has its own noise"


def test_one_negative_per_other_image_of_the_minibatch(trained):
    """P 1: of two images, a query has the other one's patch as its only real negative; by hand, temperature 0.07."""
    method, terms, _, embedded = trained
    for found, (*source, identity_query, identity_key) in zip(terms, embedded):
        for name, queries, keys in (("nce", *source), ("nce_identity", identity_query, identity_key)):
            for feature, query, key in zip(method.feature_names, queries, keys):
                assert query.shape == key.shape == (2, 1, 16)
                losses = []
                for image in (0, 1):
                    right, wrong = (query[image, 0] @ key[other, 0] / 0.07 for other in (image, 1 - image))
                    losses.append(np.log(np.exp(right) + np.exp(wrong) + np.exp(-10 / 0.07)) - right)
                assert found[f"metric/{name}_loss/{feature}"] == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-5)


def test_a_resumed_step_is_the_same_step(trained, tiny_settings, tmp_path):
    method = trained[0]
    method.save(tmp_path / "run")
    again = _build(tiny_settings(**_SINCUT))
    again.restore(tmp_path / "run")
    first, second = (steps.numbers(one.train_step(steps.batch(seed=7))) for one in (method, again))
    assert second == pytest.approx(first, rel=1e-5, abs=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (33, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(method.translate(picture), method.translate(picture))
    assert method.translate(picture).shape == picture.shape


def test_replicas_take_their_part_of_the_noise_of_one(trained, two_replicas):
    method = trained[0]
    batch = tf.zeros([4, 32, 32, 3])
    (together,) = method._draw_noise(batch, 400)
    parts = two_replicas.run(lambda: method._draw_noise(batch[:2], 400)[0])
    parts = two_replicas.experimental_local_results(parts)
    np.testing.assert_array_equal(np.concatenate(parts), together)
    assert np.any(method._draw_noise(batch, 401)[0] != together)


@pytest.mark.slow
def test_two_replicas_equal_one(tiny_settings, two_replicas):
    settings = tiny_settings(**{**_SINCUT, "generator_blocks": 0, "nce_layers": "0,2"})
    found = []
    for strategy in (tf.distribute.MirroredStrategy(["CPU:0"]), two_replicas):
        with strategy.scope():
            method = _build(settings, optimizers={name: keras.optimizers.SGD(1e-3) for name in _NETWORKS},
                            run_eagerly=strategy.num_replicas_in_sync == 1)
        dataset = strategy.distribute_datasets_from_function(
            lambda _, strategy=strategy: tf.data.Dataset.from_tensor_slices(steps.batch(4)).batch(
                2 // strategy.num_replicas_in_sync))
        train_function, iterator = method.make_train_function(), iter(dataset)
        for _ in range(2):
            train_function(iterator)
        found.append((steps.numbers(method.step_logs), steps.weights(method)))
    (one_terms, one), (two_terms, two) = found
    for name, value in one_terms.items():
        tolerance = 1.0 if "_accuracy/" in name else 1e-3
        assert two_terms[name] == pytest.approx(value, rel=1e-3, abs=tolerance), name
    for name, weights in one.items():
        np.testing.assert_allclose(two[name], weights, rtol=1e-3, atol=1e-4, err_msg=name)


def test_other_generators_are_refused(tiny_settings):
    with pytest.raises(InputError, match="--generator must be stylegan2 with --method=sincut, found resnet"):
        build_method(tiny_settings(**{**_SINCUT, "generator": "resnet", "ngf": 4}))


@pytest.mark.parametrize("overrides, message", [
    ({"crop_size_px": 24}, r"--crop_size_px must be --stylegan2_size_px \(32\) with --discriminator=.*, found 24"),
    ({"preprocess": "none", "batch_size": 1}, "--crop_size_px must be --stylegan2_size_px .* found 'pictures of any"),
])
def test_crops_must_fit_the_discriminator(tiny_settings, overrides, message):
    with pytest.raises(InputError, match=message):
        tiny_settings(**{**_SINCUT, **overrides})
