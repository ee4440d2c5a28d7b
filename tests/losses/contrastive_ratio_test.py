"""Contrastive regularization: numbers by hand, directions of gradients, what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.losses.contrastive_ratio import channel_means, contrastive_ratio, layer_ratios, weighted_sum


def _maps(*values: float) -> list[tf.Tensor]:
    """One feature [B, 1, 1, 2]: both channels of image b are values[b]."""
    return [tf.constant(np.repeat(np.array(values, np.float32)[:, None, None, None], 2, -1))]


def _noise(seed: int, shapes: tuple[tuple[int, ...], ...] = ((2, 4, 4, 3), (2, 2, 2, 5))) -> list[tf.Tensor]:
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.uniform(-1, 1, shape), tf.float32) for shape in shapes]


def _by_numpy(output, positives, negatives, weights):
    """Equation 5, image by image."""
    losses = []
    for image in range(len(output[0])):
        loss = 0.0
        for index, weight in enumerate(weights):
            near, far = (np.mean([np.abs(maps[index][image] - output[index][image]).mean() for maps in others])
                         for others in (positives, negatives))
            loss += weight * near / (far + 1e-7)
        losses.append(loss)
    return losses


def test_by_hand():
    """Image 0: |3 - 1| / |7 - 1| = 1/3; image 1: |0 - 2| / |3 - 2| = 2. The second feature is all thirds of that."""
    output, clear, hazy = (_maps(1, 2) + _maps(0, 0), _maps(3, 0) + _maps(1, 2), _maps(7, 3) + _maps(9, 3))
    ratios = layer_ratios(output, [clear], [hazy])
    np.testing.assert_allclose(ratios[0], [1 / 3, 2], rtol=1e-6)
    np.testing.assert_allclose(ratios[1], [1 / 9, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(contrastive_ratio(output, [clear], [hazy], [0.25, 1.0]),
                               [1 / 12 + 1 / 9, 0.5 + 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("positives, negatives, expected", [
    ([4], [5], 4 / 5), ([4], [5, 15], 4 / 10), ([4, 2], [5], 3 / 5), ([4, 2], [5, 15, 10], 3 / 10),
    ([4], [], 4), ([4, 2], [], 3)])
def test_several_pictures_are_averaged_before_the_fraction(positives, negatives, expected):
    """1:1, 1:r, r:1, r:r, and positives alone, of an output at 0."""
    found = contrastive_ratio(_maps(0), [_maps(value) for value in positives], [_maps(value) for value in negatives],
                              [1.0])
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_equals_the_equation_in_numpy():
    output, positives, negatives = _noise(0), [_noise(1), _noise(2)], [_noise(3), _noise(4), _noise(5)]
    as_arrays = ([np.asarray(feature, np.float64) for feature in output],
                 *([[np.asarray(feature, np.float64) for feature in maps] for maps in others]
                   for others in (positives, negatives)))
    np.testing.assert_allclose(contrastive_ratio(output, positives, negatives, [0.25, 1.0]),
                               _by_numpy(*as_arrays, [0.25, 1.0]), rtol=1e-5)


def test_the_more_copies_of_a_picture_change_nothing():
    once = contrastive_ratio(_noise(0), [_noise(1)], [_noise(2)], [1.0, 1.0])
    np.testing.assert_allclose(contrastive_ratio(_noise(0), [_noise(1)] * 3, [_noise(2)] * 4, [1.0, 1.0]), once,
                               rtol=1e-6)


def test_the_scale_of_features_does_not_matter_to_the_ratio_but_to_the_distance():
    def scaled(seed: int, factor: float) -> list[tf.Tensor]:
        return [feature * factor for feature in _noise(seed)]

    one, thousand = (contrastive_ratio(scaled(0, factor), [scaled(1, factor)], [scaled(2, factor)], [1.0, 1.0])
                     for factor in (1.0, 1000.0))
    np.testing.assert_allclose(thousand, one, rtol=1e-5)
    one, thousand = (contrastive_ratio(scaled(0, factor), [scaled(1, factor)], [], [1.0, 1.0])
                     for factor in (1.0, 1000.0))
    np.testing.assert_allclose(thousand, 1000.0 * one, rtol=1e-5)


def test_ends():
    """0 at the clear picture; 1 where both are equally far; finite at the hazy picture: 2 / 1e-7."""
    np.testing.assert_allclose(contrastive_ratio(_maps(3), [_maps(3)], [_maps(5)], [1.0]), [0], atol=1e-7)
    np.testing.assert_allclose(contrastive_ratio(_maps(4), [_maps(3)], [_maps(5)], [1.0]), [1], rtol=1e-6)
    np.testing.assert_allclose(contrastive_ratio(_maps(5), [_maps(3)], [_maps(5)], [1.0]), [2e7], rtol=1e-4)


@pytest.mark.parametrize("output, clear, hazy, expected", [
    # d/dx of (c - x) / (h - x) = (c - h) / (h - x)^2, and of (x - c) / (h - x) = (h - c) / (h - x)^2.
    (1.0, 3.0, 7.0, -4 / 36), (4.0, 3.0, 7.0, 4 / 9)])
def test_gradient_by_hand_reaches_the_output_alone(output, clear, hazy, expected):
    maps = [_maps(value) for value in (output, clear, hazy)]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        loss = tf.reduce_sum(contrastive_ratio(maps[0], [maps[1]], [maps[2]], [1.0]))
    gradients = tape.gradient(loss, maps)
    # Two channels share the mean.
    np.testing.assert_allclose(np.ravel(gradients[0][0]), [expected / 2] * 2, rtol=1e-5)
    assert gradients[1] == gradients[2] == [None]


def test_a_step_against_the_gradient_goes_to_the_clear_picture_and_away_from_the_hazy_one():
    """Off the line between both: x moves to the clear value, y away from the hazy one, which the clear one shares."""
    output = tf.constant([[[[0.0, 1.0]]]])
    clear, hazy = tf.constant([[[[1.0, 1.0]]]]), tf.constant([[[[0.0, 0.5]]]])
    with tf.GradientTape() as tape:
        tape.watch(output)
        loss = contrastive_ratio([output], [[clear]], [[hazy]], [1.0])
    step = -np.ravel(tape.gradient(loss, output))
    assert step[0] > 0 and step[1] > 0


def test_a_batch_is_the_mean_of_its_images():
    """So that replicas, which see parts of a batch, sum to the gradient of the whole."""
    output, clear, hazy = _noise(0), _noise(1), _noise(2)
    whole = contrastive_ratio(output, [clear], [hazy], [1.0, 0.5])
    parts = [contrastive_ratio(*([feature[image:image + 1] for feature in maps] if first else
                                 [[feature[image:image + 1] for feature in maps]]
                                 for first, maps in ((True, output), (False, clear), (False, hazy))), [1.0, 0.5])
             for image in range(2)]
    np.testing.assert_allclose(tf.concat(parts, 0), whole, rtol=1e-6)


def test_half_precision_features_are_compared_in_float32():
    output, clear, hazy = ([tf.cast(feature, tf.bfloat16) for feature in _noise(seed)] for seed in range(3))
    found = contrastive_ratio(output, [clear], [hazy], [1.0, 1.0])
    exact = contrastive_ratio(*([tf.cast(feature, tf.float32) for feature in maps] if maps is output else
                                [[tf.cast(feature, tf.float32) for feature in maps]]
                                for maps in (output, clear, hazy)), [1.0, 1.0])
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, exact)


def test_channel_means_do_not_know_the_place():
    feature = np.arange(16, dtype=np.float32).reshape(1, 2, 4, 2)
    turned = feature[:, ::-1, ::-1]
    means = channel_means([tf.constant(feature), tf.constant(turned, tf.bfloat16)])
    assert [mean.dtype for mean in means] == [tf.float32] * 2
    for mean in means:
        np.testing.assert_allclose(mean, [[[[7.0, 8.0]]]])


def test_a_weight_for_each_feature():
    with pytest.raises(ValueError, match="a weight for each of 2 features, got 1"):
        weighted_sum([tf.zeros([1]), tf.zeros([1])], [1.0])
