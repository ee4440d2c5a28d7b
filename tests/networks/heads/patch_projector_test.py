"""Patch sampling, embedding and the length-1 normalisation of the patch projector."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.networks.heads.patch_projector import PatchProjector, draw_patch_ids, normalise, sample_patches
from tools.check_parity.checks import check_file


def test_equals_the_official_network(testdata):
    row = check_file(testdata / "golden" / "patchsample.npz")
    assert row.status == "ok", row.failures
    assert row.compared == 8


def test_patch_id_is_y_times_width_plus_x():
    height, width = 4, 7
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([y, x], -1).astype(np.float32)
    features = np.stack([image, image + 100])
    ids = [3 * width + 2, 0, width - 1, width]
    expected = np.array([[3, 2], [0, 0], [0, 6], [1, 0]], np.float32)
    np.testing.assert_array_equal(sample_patches(tf.constant(features), ids), [expected, expected + 100])


@pytest.mark.parametrize("locations, num_patches", [(100, 16), (30, 64), (16, 16), (1, 4)])
def test_ids_are_distinct_and_in_range(locations, num_patches):
    ids = draw_patch_ids(tf.constant(locations), num_patches, tf.constant([1, 2])).numpy()
    assert ids.dtype == np.int32
    assert len(ids) == len(set(ids)) == min(num_patches, locations)
    assert ids.min() >= 0 and ids.max() < locations


def test_the_seed_decides_the_ids_also_in_a_graph():
    draw = tf.function(lambda seed: draw_patch_ids(tf.constant(400), 64, seed))
    first = draw_patch_ids(tf.constant(400), 64, tf.constant([1, 2])).numpy()
    np.testing.assert_array_equal(draw(tf.constant([1, 2])), first)
    for other in ([1, 3], [2, 2]):
        assert not np.array_equal(draw(tf.constant(other)), first)


def test_every_location_is_drawn_equally_often():
    counts = np.zeros(20)
    for seed in range(400):
        counts[draw_patch_ids(tf.constant(20), 5, tf.constant([seed, 0])).numpy()] += 1
    # 100 expected each, standard deviation 8.7.
    assert counts.min() > 60 and counts.max() < 140


def test_epsilon_is_added_to_the_length():
    vectors = np.array([[3.0, 4.0], [3e-9, 4e-9], [6e-8, 8e-8], [0.0, 0.0]])
    length = np.array([5.0, 5e-9, 1e-7, 0.0])
    expected = vectors / (length + 1e-7)[:, None]
    np.testing.assert_allclose(normalise(tf.constant(vectors, tf.float32)), expected, rtol=1e-5)
    assert expected[2, 0] == pytest.approx(0.3)  # half of the unit vector: not what l2_normalize gives


def test_gradient_of_a_tiny_vector_is_that_of_the_formula():
    vector = tf.Variable([3e-9, 4e-9])
    with tf.GradientTape() as tape:
        first = normalise(vector)[0]
    length, epsilon = 5e-9, 1e-7
    expected = [1 / (length + epsilon) - 3e-9 * 0.6 / (length + epsilon) ** 2,
                -3e-9 * 0.8 / (length + epsilon) ** 2]
    np.testing.assert_allclose(tape.gradient(first, vector), expected, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-25, 1e-15])
def test_gradient_of_an_all_but_zero_vector_is_finite(value):
    """Without norms the features of a fresh generator are so small that their squares underflow."""
    vectors = tf.Variable([[value, -value], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(normalise(vectors)[:, 0])
    assert np.isfinite(np.asarray(tape.gradient(total, vectors))).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_embeddings_are_float32_vectors_of_length_1(dtype):
    projector = PatchProjector([3, 8], width=16, seed=1)
    for mlp in projector.mlps:
        for layer in mlp:
            layer.kernel.assign(layer.kernel * 100.0)
    features = [tf.cast(tf.random.stateless_normal([2, 5, 6, channels], [channels, 0]), dtype) for channels in (3, 8)]
    ids = [tf.range(12), tf.range(30)]
    embeddings = projector(features, ids)
    assert [tuple(embedding.shape) for embedding in embeddings] == [(2, 12, 16), (2, 30, 16)]
    for embedding in embeddings:
        assert embedding.dtype == tf.float32
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1.0, rtol=1e-4)


def test_layers_are_linear_relu_linear():
    projector = PatchProjector([4], width=8, seed=1)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=weight.shape) for weight in projector.get_weights()]
    projector.set_weights(values)
    kernel1, bias1, kernel2, bias2 = values
    patches = rng.normal(size=(2, 5, 4))
    hidden = np.maximum(patches @ kernel1 + bias1, 0) @ kernel2 + bias2
    expected = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    np.testing.assert_allclose(projector.embed(0, tf.constant(patches, tf.float32)), expected, atol=1e-5)


def test_without_mlp_patches_are_only_normalised():
    projector = PatchProjector([3, 5], width=16, use_mlp=False)
    assert projector.weights == [] and projector.widths == [3, 5]
    patches = np.random.default_rng(0).normal(size=(2, 6, 5))
    expected = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    np.testing.assert_allclose(projector.embed(1, tf.constant(patches, tf.float32)), expected, atol=1e-5)


def test_all_weights_exist_before_the_first_call():
    projector = PatchProjector([3, 8], width=16, seed=2)
    assert [weight.shape for weight in projector.get_weights()] == [
        (3, 16), (16,), (16, 16), (16,), (8, 16), (16,), (16, 16), (16,)]
    kernels = [weight for weight in projector.get_weights() if weight.ndim == 2]
    assert np.abs(kernels[1] - kernels[3]).max() > 1e-3  # same shape, other weights
    assert projector.widths == [16, 16]
