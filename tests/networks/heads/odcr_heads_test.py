"""ODCR's projector and feature classifier: orthonormal kernels, channels that never mix, haze that is recognised."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.layers.orthogonal import orthogonality_error
from cut_tf.losses.weighted_patch_nce import classifier_loss
from cut_tf.networks.heads.feature_classifier import CLEAR, HAZY, FeatureClassifier
from cut_tf.networks.heads.orthogonal_projector import OrthogonalPatchProjector


def _features(channels: tuple[int, ...]) -> list[tf.Tensor]:
    rng = np.random.default_rng(0)
    return [tf.constant(rng.normal(size=(2, 6, 5, count)), tf.float32) for count in channels]


def test_projector_has_orthonormal_kernels_and_keeps_three_channels():
    projector = OrthogonalPatchProjector([3, 8, 40], width=16, seed=1)
    assert projector.widths == [3, 16, 16]
    found = projector(_features((3, 8, 40)), [tf.constant([0, 7, 29])] * 3)
    assert [embedding.shape.as_list() for embedding in found] == [[2, 3, 3], [2, 3, 16], [2, 3, 16]]
    kernels = [weight for name, weight in compat.named_weights(projector).items() if name.endswith("kernel")]
    assert [kernel.shape.as_list() for kernel in kernels] == [[3, 3], [3, 3], [8, 16], [16, 16], [40, 16], [16, 16]]
    assert all(float(orthogonality_error(kernel)) < 1e-5 for kernel in kernels)
    assert float(projector.orthogonality_error()) == max(float(orthogonality_error(kernel)) for kernel in kernels)
    kernels[3].assign(kernels[3] * 2.0)
    assert float(projector.orthogonality_error()) == pytest.approx(3.0, rel=1e-4)


def test_projector_is_two_matrix_products_around_a_relu_with_the_running_means_taken_off():
    projector = OrthogonalPatchProjector([8], width=4, seed=1)
    feature, other = _features((8,)), [values * 2.0 + 1.0 for values in _features((8,))]
    ids = [tf.constant([4, 11])]
    weights = compat.named_weights(projector)
    first, second = (weights[f"feature0_dense{number}/kernel"].numpy() for number in (1, 2))
    patches, others = (values[0].numpy().reshape(2, 30, 8)[:, [4, 11]] for values in (feature, other))
    np.testing.assert_allclose(projector(feature, ids)[0], np.maximum(patches @ first, 0) @ second, atol=1e-5)
    projector.move_centres([(feature, ids), (other, ids)], tf.identity)
    mean = (patches.mean((0, 1)) + others.mean((0, 1))) / 2
    hidden, other_hidden = (np.maximum((values - mean) @ first, 0) for values in (patches, others))
    hidden_mean = (hidden.mean((0, 1)) + other_hidden.mean((0, 1))) / 2
    np.testing.assert_allclose(weights["feature0_centre1/mean"], mean, atol=1e-5)
    np.testing.assert_allclose(weights["feature0_centre2/mean"], hidden_mean, atol=1e-5)
    expected = (hidden - hidden_mean) @ second
    np.testing.assert_allclose(projector(feature, ids)[0], expected, atol=1e-5)
    # Not normalised: magnitudes are evidence for the classifier.
    assert np.ptp(np.linalg.norm(expected, axis=-1)) > 0.1
    projector.move_centres([(other, ids)], tf.identity)
    np.testing.assert_allclose(weights["feature0_centre1/mean"], 0.95 * mean + 0.05 * others.mean((0, 1)), atol=1e-5)


def _classifier(channels: int, units: int = 8) -> FeatureClassifier:
    classifier = FeatureClassifier([channels], units, seed=0)
    classifier.heads[0].mean_square.assign(1.0)
    classifier.heads[0].variance.assign(np.ones(channels))
    return classifier


def test_contents_do_not_change_with_even_haze():
    """Haze of one density is a x + b with 0 < a <= 1, other a and b for every picture and channel."""
    projector = OrthogonalPatchProjector([8], width=16, seed=1)
    feature, ids = _features((8,)), [tf.range(30)]
    share, light = (np.random.default_rng(seed).uniform(0.2, 1.0, (2, 1, 1, 8)) for seed in (1, 2))
    hazed = [tf.cast(feature[0] * share + light, tf.float32)]
    clear = projector.embed_content(feature, ids)[0]
    np.testing.assert_allclose(projector.embed_content(hazed, ids)[0], clear, atol=1e-4)
    assert np.abs(projector(hazed, ids)[0] - projector(feature, ids)[0]).max() > 0.1
    weights = compat.named_weights(projector)
    first, second = (weights[f"feature0_dense{number}/kernel"].numpy() for number in (1, 2))
    patches = feature[0].numpy().reshape(2, 30, 8)
    hidden = np.maximum((patches - patches.mean(1, keepdims=True)) / patches.std(1, keepdims=True) @ first, 0)
    np.testing.assert_allclose(clear, (hidden - hidden.mean(1, keepdims=True)) @ second, atol=1e-4)
    flat = projector.embed_content([tf.ones([1, 6, 5, 8])], ids)[0]
    assert np.isfinite(flat).all()


def test_contributions_add_up_to_the_logits_and_channels_never_mix():
    classifier = _classifier(6)
    values = np.random.default_rng(0).normal(size=(3, 10, 6)).astype(np.float32)
    evidence = classifier([values])[0]
    np.testing.assert_allclose(evidence.logits, evidence.contributions.numpy().sum(-1), atol=1e-5)  # bias starts at 0
    changed = values.copy()
    changed[:, :, 2] += 1.0
    difference = np.abs(classifier([changed])[0].contributions - evidence.contributions).max(axis=(0, 1))
    assert difference[2] > 1e-3 and difference[[0, 1, 3, 4, 5]].max() == 0.0


def test_one_channel_by_hand():
    classifier = FeatureClassifier([1], units=2, seed=0)
    head = classifier.heads[0]
    for weight, value in ((head.slope, [[1.0], [-2.0]]), (head.offset, [[0.5], [1.0]]), (head.mix, [[3.0], [10.0]]),
                          (head.theta, [[2.0], [-1.0]]), (head.bias, [0.25, 0.0]), (head.mean_square, 4.0),
                          (head.mean, [7.25]), (head.variance, [4.0])):
        weight.assign(value)
    # Scaled by 1/2: 1 and -1. relu(z + 0.5) = 1.5, 0; relu(1 - 2 z) = 0, 3; means 0.75 and 1.5; 2.25 + 15 = 17.25.
    # Standardised: (17.25 - 7.25) / 2 = 5.
    evidence = classifier([tf.constant([[[2.0], [-2.0]]])])[0]
    np.testing.assert_allclose(evidence.contributions[0, :, 0], [10.0, -5.0], rtol=1e-5)
    np.testing.assert_allclose(evidence.logits[0], [10.25, -5.0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["contrast", "shape"])
def test_classifier_finds_the_planted_channels(kind):
    """Channels 0 to 3 of hazy images have another contrast, or the same mean and deviation but heavier tails."""
    rng = np.random.default_rng(0)
    classifier = _classifier(16)
    optimizer = keras.optimizers.Adam(5e-3)
    compat.build_optimizer(optimizer, classifier.trainable_variables)

    def images(hazy: bool, count: int = 8) -> np.ndarray:
        values = rng.normal(size=(count, 128, 16))
        if hazy:
            values[:, :, :4] = (0.6 * values[:, :, :4] if kind == "contrast"
                                else rng.laplace(scale=0.5**0.5, size=(count, 128, 4)))
        return values.astype(np.float32)

    @tf.function
    def step(hazy: tf.Tensor, clear: tf.Tensor) -> None:
        classifier.heads[0].move_statistics(hazy, clear, tf.identity)
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_mean(classifier_loss(classifier([part])[0].logits, flag))
                       for part, flag in ((hazy, True), (clear, False)))
        variables = [compat.raw_variable(weight) for weight in classifier.trainable_variables]
        compat.apply_summed_gradients(optimizer, tape.gradient(loss, variables), classifier.trainable_variables)

    for _ in range(400):
        step(images(True), images(False))
    hazy, clear = (classifier([images(flag, 100)])[0] for flag in (True, False))
    right = np.concatenate([hazy.logits[:, HAZY] > hazy.logits[:, CLEAR],
                            clear.logits[:, CLEAR] > clear.logits[:, HAZY]])
    assert right.mean() > 0.9
    size = np.abs(hazy.contributions[:, HAZY]).mean(0)
    assert size[:4].min() > size[4:].max()


def test_running_statistics_start_with_the_first_values_and_move_slowly():
    head = FeatureClassifier([2], units=3, seed=0).heads[0]
    rng = np.random.default_rng(0)
    hazy, clear, later = (rng.normal(size=(4, 5, 2)).astype(np.float32) for _ in range(3))
    head.move_statistics(tf.constant(hazy), tf.constant(clear), tf.identity)
    first = float(tf.convert_to_tensor(head.mean_square))
    assert first == pytest.approx(np.mean(np.concatenate([hazy, clear]) ** 2), rel=1e-5)
    x = np.concatenate([head.pool(tf.constant(part)) for part in (hazy, clear)])
    np.testing.assert_allclose(tf.convert_to_tensor(head.mean), x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(tf.convert_to_tensor(head.variance), x.var(0), rtol=1e-4)
    head.move_statistics(tf.constant(later), tf.constant(later), tf.identity)
    assert float(tf.convert_to_tensor(head.mean_square)) == pytest.approx(
        0.95 * first + 0.05 * np.mean(later**2), rel=1e-5)
