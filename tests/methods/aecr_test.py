"""AECR and contrastive regularization in all methods: terms by hand, choice of pictures, replicas, resume, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.losses.contrastive_ratio import channel_means, contrastive_ratio
from cut_tf.methods import build_method, regularization
from cut_tf.methods.regularization import ContrastiveRegularization, load_features
from cut_tf.networks.generators.base import Generator
from cut_tf.networks.vgg_features import depth_weights, random_features
from cut_tf.settings import Settings
from cut_tf.training import trainer

_AECR = {"method": "aecr", "contrastive_weight": 0.1, "contrastive_features": "random", "generator_blocks": 0,
         "batch_size": 2}


def _loss(output: tf.Tensor, positives: list[tf.Tensor], negatives: list[tf.Tensor],
          by_place: bool = True) -> tf.Tensor:
    """The regularization of whole pictures, whose pure functions have tests of their own."""
    def maps(pictures: tf.Tensor) -> list[tf.Tensor]:
        found = random_features().encode(pictures)
        return found if by_place else channel_means(found)

    return tf.reduce_mean(contrastive_ratio(maps(output), [maps(one) for one in positives],
                                            [maps(one) for one in negatives], depth_weights(5)))


def _built(settings: Settings) -> object:
    method = build_method(settings)
    method.compile()
    return method


@pytest.fixture(name="method", scope="module")
def _method(tiny_settings):
    return _built(tiny_settings(**_AECR))


def test_loss_and_gradient_are_those_of_l1_and_the_weighted_ratio(method):
    batch, variables = steps.batch(), [compat.raw_variable(weight) for weight in method.generator.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        output = method.generator(batch["source"], training=True)
        l1 = tf.reduce_mean(tf.abs(output - batch["target"]))
        ratio = _loss(output, [batch["target"]], [batch["source"]])
        loss = l1 + 0.1 * ratio
    norm, of_l1 = (float(tf.linalg.global_norm(tape.gradient(value, variables))) for value in (loss, l1))
    terms = steps.numbers(method.train_step(batch))
    assert terms["loss/l1"] == pytest.approx(float(l1), rel=1e-5)
    assert terms["loss/contrastive"] == pytest.approx(0.1 * float(ratio), rel=1e-4)
    assert terms["loss/generator"] == pytest.approx(float(loss), rel=1e-5)
    assert terms["gradient_norm/generator"] == pytest.approx(norm, rel=1e-3)
    assert abs(norm - of_l1) > 0.01 * norm, "the comparison shows nothing if the ratio has no gradient"
    assert sum(name.startswith("metric/contrastive/conv") for name in terms) == 5


def test_frozen_features_are_no_part_of_what_is_trained_or_saved(method, tiny_settings):
    plain = _built(tiny_settings(**{**_AECR, "method": "paired", "contrastive_weight": 0.0}))
    assert set(method.networks) == {"generator"} and set(method.state()) == set(plain.state())
    assert len(method.weights) == len(plain.weights) and len(method.variables) == len(plain.variables)


def test_weight_zero_is_paired_without_any_features(tiny_settings):
    plain = tiny_settings(method="paired", contrastive_features="nonsense")
    assert build_method(plain).regularize(None, None, None, True) == {}


def _pictures(count: int, seed: int) -> tf.Tensor:
    return tf.random.stateless_uniform([count, 16, 16, 3], [seed, 5], -1, 1)


@pytest.mark.parametrize("positives, negatives", [(1, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("same_scene", [True, False])
def test_further_pictures_are_the_next_ones_of_the_batch(tiny_settings, positives, negatives, same_scene):
    terms = ContrastiveRegularization(tiny_settings(**{
        **_AECR, "batch_size": 3, "contrastive_positives": positives, "contrastive_negatives": negatives})).terms
    output, clear, hazy = (_pictures(3, seed) for seed in range(3))
    expected = _loss(output, [np.roll(clear, -shift, 0) for shift in range(positives)],
                     [np.roll(hazy, -shift, 0) for shift in range(negatives)], same_scene)
    found = terms(output, clear, hazy, same_scene)["loss/contrastive"]
    assert float(found) == pytest.approx(0.1 * float(expected), rel=1e-4)


def test_positives_alone_know_no_hazy_picture(tiny_settings):
    terms = ContrastiveRegularization(tiny_settings(**{**_AECR, "contrastive_form": "positives"})).terms
    output, clear, hazy = (_pictures(2, seed) for seed in range(3))
    one, other = (float(terms(output, clear, negative, True)["loss/contrastive"]) for negative in (hazy, clear))
    assert one == other == pytest.approx(0.1 * float(_loss(output, [clear], [])), rel=1e-4)


def test_unpaired_pictures_may_differ_in_size(tiny_settings):
    """--preprocess=none."""
    terms = ContrastiveRegularization(tiny_settings(**_AECR)).terms
    output, hazy = _pictures(1, 0), _pictures(1, 1)
    wide = tf.random.stateless_uniform([1, 32, 48, 3], [9, 9], -1, 1)
    assert np.isfinite(float(terms(output, wide, hazy, False)["loss/contrastive"]))


def test_two_replicas_see_the_loss_and_the_gradient_of_one(tiny_settings, two_replicas):
    """With negatives and positives from the whole global batch."""
    settings = tiny_settings(**{**_AECR, "batch_size": 4, "contrastive_negatives": 3, "contrastive_positives": 2})
    pictures = [_pictures(4, seed) for seed in range(3)]

    def loss_and_gradient(terms: object, output: tf.Tensor, clear: tf.Tensor, hazy: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(output)
            loss = terms(output, clear, hazy, True)["loss/contrastive"]
        return loss, tape.gradient(loss, output)

    loss, gradient = loss_and_gradient(ContrastiveRegularization(settings).terms, *pictures)
    with two_replicas.scope():
        terms = ContrastiveRegularization(settings).terms

    def half() -> tuple:
        first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
        return loss_and_gradient(terms, *(one[first:first + 2] for one in pictures))

    losses, gradients = tf.function(lambda: two_replicas.run(half))()
    assert np.mean(two_replicas.experimental_local_results(losses)) == pytest.approx(float(loss), rel=1e-5)
    halves = np.concatenate([part.numpy() for part in two_replicas.experimental_local_results(gradients)])
    np.testing.assert_allclose(halves / 2.0, gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


def test_bfloat16(tiny_settings):
    exact, rounded = (steps.numbers(_built(tiny_settings(**_AECR, precision=name)).train_step(steps.batch()))
                      for name in ("float32", "bfloat16"))
    assert rounded["loss/contrastive"] == pytest.approx(exact["loss/contrastive"], rel=0.05)
    assert rounded["gradient_norm/generator"] == pytest.approx(exact["gradient_norm/generator"], rel=0.2)


@pytest.mark.parametrize("name", ["cut", "odcr"])
def test_unpaired_methods_add_the_term_of_channel_means(tiny_settings, name):
    settings = {"contrastive_weight": 0.5, "contrastive_features": "random", "nce_identity_weight": 0.0,
                "generator_blocks": 0, "discriminator_layers": 1, "nce_layers": "4,8", "method": name}
    method, batch = _built(tiny_settings(**settings)), steps.batch()
    output = method.generator(batch["source"], training=True)
    terms = steps.numbers(method.train_step(batch))
    assert terms["loss/contrastive"] == pytest.approx(
        0.5 * float(_loss(output, [batch["target"]], [batch["source"]], by_place=False)), rel=1e-4)
    assert terms["loss/generator"] == pytest.approx(terms["loss/gan"] + terms["loss/nce"] + terms["loss/contrastive"],
                                                    rel=1e-5)


@pytest.fixture(name="teacher", scope="module")
def _teacher(tiny_settings, tmp_path_factory):
    """A saved run whose default layers, but the input and the last two, are stages of its generator."""
    method = _built(tiny_settings(method="paired", generator="mobile", generator_norm="none", generator_blocks=2,
                                  nce_layers="0,1,2,5,8,12"))
    folder = tmp_path_factory.mktemp("teacher") / "run"
    method.save(folder)
    return method, folder


def test_encoder_of_a_run(tiny_settings, teacher):
    method, folder = teacher
    settings = tiny_settings(**{**_AECR, "contrastive_features": f"run:{folder}"})
    features = load_features(settings.contrastive, tf.float32)
    assert features.names == ["01_down1", "02_down2", "05_block2"] and features.weights == [1 / 8, 1 / 4, 1]
    pictures = _pictures(2, 3)
    for found, expected in zip(features.encode(pictures), method.ema_generator.encode(pictures, [1, 2, 5])):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    trained = _built(settings)
    before = [np.asarray(feature) for feature in features.encode(pictures)]
    terms = steps.numbers(trained.train_step(steps.batch()))
    assert terms["loss/contrastive"] > 0 and "metric/contrastive/05_block2" in terms
    for found, expected in zip(features.encode(pictures), before):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("overrides, message", [
    ({"contrastive_weight": 0.0}, r"--contrastive_weight must be more than zero with --method=aecr .*, found 0.0"),
    ({"contrastive_negatives": 3}, r"--contrastive_negatives must be at least 1 and at most --batch_size \(2\).* 3"),
    ({"contrastive_positives": 3}, r"--contrastive_positives must be at least 1 and at most --batch_size \(2\).* 3"),
    ({"contrastive_negatives": 0}, r"--contrastive_negatives must be at least 1 .*, found 0"),
    ({"contrastive_features": "vgg16"}, "--contrastive_features must be vgg19, hed, random or run:DIR, found 'vgg16'"),
    ({"contrastive_features": "random:x"}, "--contrastive_features must be .*, found 'random:x'"),
    ({"contrastive_features": "run"}, "--contrastive_features must be .*, found 'run'"),
    ({"contrastive_features": "run:no"}, "--contrastive_features=run:no: --run must be the folder .* settings.json"),
    ({"contrastive_features": "vgg19", "vgg_weights": "none.h5"}, "--vgg_weights must be a file .* none.h5"),
    ({"vgg_weights": "some.h5"}, "--vgg_weights must be empty unless .* is vgg19 or hed, found 'some.h5'"),
])
def test_settings_without_a_meaning_are_refused(tiny_settings, overrides, message):
    with pytest.raises(InputError, match=message):
        build_method(tiny_settings(**{**_AECR, **overrides}))


def test_a_run_without_such_layers_is_refused(teacher, monkeypatch):
    _, folder = teacher
    monkeypatch.setattr(Generator, "has_layer", lambda generator, layer: False)
    with pytest.raises(InputError, match=r"--contrastive_features=run:.* must be a run whose --nce_layers names stages "
                                         "of its generator besides the input, found 0,1,2,5,8,12 with "
                                         "--generator=mobile"):
        regularization.run_features(str(folder))


def _weights(run: Path, step: int) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"step_{step:010d}" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name.startswith("state")}


@pytest.mark.slow
def test_a_continued_run_equals_an_uninterrupted_one(tiny_settings, tmp_path):
    """With the cosine schedule and quarter turns, from the data to the last checkpoint."""
    def settings(run: Path) -> Settings:
        return tiny_settings(**_AECR, run=str(run), schedule="cosine", quarter_turns=True, preprocess="crop",
                             crop_size_px=24, checkpoint_steps=2, steps_per_epoch=2, constant_epochs=0, decay_epochs=2,
                             test_images=1)

    run = trainer.Run(settings(tmp_path / "whole"))
    assert run.train(verbose=0).finished
    # The fourth of four steps: base (1 + cos(3 pi / 4)) / 2.
    assert float(run.method.step_logs["learning_rate/generator"]) == pytest.approx(2e-4 * 0.1464466, rel=1e-5)
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken/checkpoints/step_0000000004")
    again = trainer.Run(settings(tmp_path / "broken"))
    assert int(again.method.step.numpy()) == 2 and again.train(verbose=0).step == 4
    expected, found = (_weights(tmp_path / name, 4) for name in ("whole", "broken"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
