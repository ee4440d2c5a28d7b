"""ODCR: its terms, the manifold under real training, replicas, resuming, and what it refuses."""

from __future__ import annotations

import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.layers.orthogonal import orthogonality_error
from cut_tf.losses import patch_nce
from cut_tf.methods import build_method
from cut_tf.methods.odcr import ODCR, Compared
from cut_tf.methods.optimizers import Adam
from cut_tf.networks.heads.patch_projector import normalise
from cut_tf.settings import Settings

_ODCR = {"method": "odcr", "nce_identity_weight": 0.0, "l1_identity_weight": 5.0, "nce_layers": "0,4,8"}


def _build(settings: Settings, **compile_arguments: object) -> ODCR:
    """Compiled, with weights so large that features differ; the projector stays on the manifold."""
    method = build_method(settings)
    for name in ("generator", "discriminator"):
        for weight in method.networks[name].trainable_variables:
            weight.assign(weight * 10.0)
    method.compile(**compile_arguments)
    return method


def _worst(method: ODCR) -> float:
    weights = compat.named_weights(method.networks["projector"])
    return max(float(orthogonality_error(tf.convert_to_tensor(weight))) for name, weight in weights.items()
               if name.endswith("kernel"))


def test_generator_loss_is_the_visible_weighted_sum_of_equation_15(tiny_settings):
    method = _build(tiny_settings(**_ODCR, nce_weight=2.0))
    terms = steps.numbers(method.train_step(steps.batch()))
    per_layer = [value for name, value in terms.items() if name.startswith("metric/nce_loss/")]
    assert len(per_layer) == 2  # the input is excluded
    assert terms["loss/nce"] == pytest.approx(2.0 * np.mean(per_layer), rel=1e-5)
    assert terms["loss/generator"] == pytest.approx(terms["loss/gan"] + terms["loss/nce"] + terms["loss/l1_identity"],
                                                    rel=1e-5)
    assert 0 <= terms["metric/orthogonality_error"] < 1e-5
    assert terms["loss/classifier"] > 0 and 0 <= terms["metric/classifier_accuracy"] <= 1
    assert {name for name in terms if name.startswith("metric/classifier_accuracy/")} == {
        "metric/classifier_accuracy/04_down1", "metric/classifier_accuracy/08_down2"}


def test_without_clear_patches_the_decoupled_form_is_patch_nce_of_the_contents(tiny_settings):
    method = _build(tiny_settings(**_ODCR, wpnce_form="decoupled", wpnce_clear_patches=0))
    source = steps.batch()["source"]
    features = method.generator.encode(source, method.layers_compared, training=True)
    ids = [tf.range(16)] * 2
    contents = [normalise(content) for content in method.networks["projector"].embed_content(features, ids)]
    queries = method.networks["projector"](features, ids)
    for layer, (query, content) in enumerate(zip(queries, contents)):
        evidence = tuple([method.networks["classifier"](queries)[layer]] * 2)
        compared = Compared(query, query, evidence, method.networks["projector"].embed_content(features, ids)[layer])
        found = compared.loss(query, compared.content, method.settings.odcr, 0.07)
        np.testing.assert_allclose(found, patch_nce.patch_nce(content, content, 0.07), rtol=1e-4)
    terms = steps.numbers(method.train_step(steps.batch()))
    assert all(np.isfinite(value) for value in terms.values())


def test_identity_may_be_patch_nce(tiny_settings):
    method = _build(tiny_settings(**{**_ODCR, "nce_identity_weight": 1.0, "l1_identity_weight": 0.0}))
    terms = steps.numbers(method.train_step(steps.batch()))
    assert terms["loss/generator"] == pytest.approx(
        terms["loss/gan"] + (terms["loss/nce"] + terms["loss/nce_identity"]) / 2.0, rel=1e-5)


@pytest.mark.parametrize("overrides", [
    {"wpnce_roles": "printed", "wpnce_form": "printed", "wpnce_scale": "softmax"}, {"wpnce_scale": "sigmoid"},
    {"wpnce_form": "decoupled", "wpnce_scale": "max1"}, {"wpnce_form": "decoupled", "precision": "bfloat16"},
    {"wpnce_scale": "normalise_after"}, {"wpnce_clear_patches": 0}, {"input_layer": "own"},
    {"precision": "bfloat16"}, {"flip_equivariance": True}, {"gan_mode": "wgangp"}, {"l1_identity_weight": 0.0},
], ids=lambda overrides: ",".join(f"{name}={value}" for name, value in overrides.items()))
@pytest.mark.slow
def test_every_reading_trains_all_networks(tiny_settings, overrides):
    method = _build(tiny_settings(**{**_ODCR, **overrides}), learning_rate=1e-3)
    before = steps.weights(method)
    for _ in range(2):
        terms = steps.numbers(method.train_step(steps.batch()))
        assert all(np.isfinite(value) for value in terms.values())
    for name, weights in steps.weights(method).items():
        assert np.abs(weights - before[name]).max() > 1e-5, name
    assert _worst(method) < 1e-5
    kernels = [weight for weight in method.networks["projector"].trainable_variables if len(weight.shape) == 2]
    assert all(weight.dtype in ("float32", tf.float32) for weight in kernels)
    assert kernels[0].shape[0] == (3 if overrides.get("input_layer") == "own" else 8)


@pytest.mark.parametrize("make", [pytest.param(lambda: keras.optimizers.SGD(0.5), id="sgd", marks=pytest.mark.slow),
                                  pytest.param(lambda: Adam(5e-3), id="adam")])
@pytest.mark.slow
def test_kernels_stay_orthonormal_through_training_saving_and_resuming(tiny_settings, tmp_path, make):
    settings = tiny_settings(**_ODCR)
    method = _build(settings, optimizers={"projector": make()})
    start = steps.weights(method)["projector"]
    step = tf.function(method.train_step)
    for number in range(20):
        step(steps.batch(seed=number))
    assert _worst(method) < 1e-5
    assert np.abs(steps.weights(method)["projector"] - start).max() > 0.02
    method.save(tmp_path / "run")
    again = _build(settings, optimizers={"projector": make()})
    again.restore(tmp_path / "run")
    assert _worst(again) < 1e-5
    for one in (method, again):
        one.last_terms = steps.numbers(one.train_step(steps.batch(seed=99)))
    assert again.last_terms == pytest.approx(method.last_terms, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(steps.weights(again)["projector"], steps.weights(method)["projector"], atol=1e-6)


def test_the_classifiers_step_changes_no_other_network(tiny_settings):
    """Its weights are constants in the loss: how fast it learns makes no difference to this step."""
    found = []
    for rate in (1e-6, 0.1):
        method = _build(tiny_settings(**_ODCR, classifier_learning_rate=rate))
        method.train_step(steps.batch())
        found.append(steps.weights(method))
    for name in ("generator", "discriminator", "projector"):
        np.testing.assert_array_equal(found[0][name], found[1][name], err_msg=name)
    assert np.abs(found[0]["classifier"] - found[1]["classifier"]).max() > 0.01


def test_warm_up_is_plain_patch_nce(tiny_settings, monkeypatch):
    """Without weights and clear patches, each layer's loss is CUT's, of the orthonormal embeddings."""
    method = _build(tiny_settings(**_ODCR, classifier_warmup_steps=5, wpnce_clear_patches=0))
    seen = []
    weighted = ODCR._weighted_nce

    def record(self, layer, query, compared):
        result = weighted(self, layer, query, compared)
        seen.append((normalise(query[0]), normalise(compared.hazy), result))
        return result

    monkeypatch.setattr(ODCR, "_weighted_nce", record)
    method.train_step(steps.batch())
    assert len(seen) == 2
    for query, hazy, loss in seen:
        expected = float(tf.reduce_mean(patch_nce.patch_nce(query, hazy, method.settings.patch_nce.temperature)))
        assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_channel_weights_are_remembered_for_histograms(tiny_settings):
    method = _build(tiny_settings(**_ODCR))
    method.train_step(steps.batch())
    histograms = {name: values.numpy() for name, values in method.histograms().items()}
    assert set(histograms) == {f"{kind}_weights/{feature}" for kind in ("hazy", "clear")
                               for feature in ("04_down1", "08_down2")}
    for values in histograms.values():
        assert values.shape == (16,) and 0 < values.max() <= 1 and values.min() >= 0 and np.ptp(values) > 0


@pytest.mark.parametrize("overrides, message", [
    ({"negatives": "minibatch"}, "--negatives must be internal with --method=odcr, found minibatch"),
    ({"num_negatives": 4}, "--num_negatives must be 0 with --method=odcr, found 4"),
    ({"nce_layers": "0"}, "--nce_layers must name a layer besides the input with --input_layer=exclude, found 0"),
])
def test_settings_without_a_meaning_are_refused(tiny_settings, overrides, message):
    with pytest.raises(InputError, match=message):
        build_method(tiny_settings(**{**_ODCR, **overrides}))
