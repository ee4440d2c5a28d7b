"""The PatchGAN discriminator: map sizes, the pixels that a score sees, norms and precisions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.networks import build_discriminator
from cut_tf.settings import Settings
from tools.check_parity.checks import check_file

_TINY = Settings.of(ndf=4)


@pytest.mark.parametrize("name", ["nlayerD_aa", "nlayerD_noaa"])
def test_equals_the_official_network(testdata, name):
    row = check_file(testdata / "golden" / f"{name}.npz")
    assert row.status == "ok", row.failures


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("layers, size, scores", [
    (3, (256, 256), (30, 30)), (3, (64, 64), (6, 6)), (3, (72, 56), (7, 5)), (3, (32, 33), (2, 2)),
    (1, (32, 32), (14, 14)), (2, (32, 48), (6, 10)), (4, (128, 96), (6, 4)),
])
def test_shape_of_the_score_map(antialias, layers, size, scores):
    settings = _TINY.having(discriminator_layers=layers, antialias_down=antialias)
    found = build_discriminator(settings)(tf.zeros([2, *size, 3]))
    assert found.shape == [2, *scores, 1]
    assert found.dtype == tf.float32


@pytest.mark.parametrize("row, column", [(60, 60), (0, 127), (37, 90)])
def test_a_score_sees_70_by_70_pixels(row, column):
    """Without biases and norms a black picture scores 0 everywhere, except where one bright pixel is seen."""
    settings = _TINY.having(antialias_down=False, discriminator_norm="none")
    picture = np.zeros((1, 128, 128, 3), np.float32)
    picture[0, row, column] = 100.0
    changed = np.asarray(build_discriminator(settings)(picture))[0, :, :, 0] != 0
    first = 8 * np.arange(14) - 23  # first pixel of score i: stride 8, paddings 1 at strides 1, 2, 4, 8, 8
    seen = [(first <= place) & (place < first + 70) for place in (row, column)]
    np.testing.assert_array_equal(changed, np.outer(*seen))


def test_works_on_sizes_that_are_not_known_before_the_call():
    discriminator = build_discriminator(_TINY)
    score = tf.function(lambda pictures: discriminator(pictures, training=True),
                        input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((64, 64), (45, 60)):
        pictures = tf.random.stateless_uniform([2, *size, 3], size, -1, 1)
        np.testing.assert_allclose(score(pictures), discriminator(pictures), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layers, filters", [(1, [4, 8, 1]), (3, [4, 8, 16, 32, 1]), (5, [4, 8, 16, 32, 32, 32, 1])])
def test_channels_double_up_to_eight_times(layers, filters):
    discriminator = build_discriminator(_TINY.having(discriminator_layers=layers))
    assert [weight.shape[-1] for weight in discriminator.get_weights() if weight.ndim == 4] == filters


@pytest.mark.parametrize("norm, biases", [("instance", 5), ("batch", 2), ("none", 2), ("spectral", 5)])
def test_every_norm_trains_with_the_right_biases(norm, biases):
    discriminator = build_discriminator(_TINY.having(discriminator_norm=norm))
    assert sum("bias" in weight.name for weight in discriminator.weights) == biases
    pictures = tf.random.stateless_uniform([2, 48, 48, 3], [1, 2], -1, 1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(discriminator(pictures, training=True) - 1.0))
    variables = discriminator.trainable_variables
    gradients = tape.gradient(loss, variables)
    without = [tuple(variable.shape) for variable, gradient in zip(variables, gradients) if gradient is None]
    # An instance norm takes the biases of the three convolutions before it away.
    assert without == ([(8,), (16,), (32,)] if norm == "instance" else [])
    for variable, gradient in zip(variables, gradients):
        if gradient is not None:
            assert bool(tf.reduce_all(tf.math.is_finite(gradient)))
            variable.assign(variable - 0.1 * gradient)
    assert float(tf.reduce_mean(tf.square(discriminator(pictures, training=True) - 1.0))) < float(loss) - 1e-3


@pytest.mark.parametrize("policy, tolerance", [("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)])
def test_half_precision_stays_close_to_float32(policy, tolerance):
    exact, rounded = (build_discriminator(_TINY, seed=1, dtype=dtype) for dtype in ("float32", policy))
    pictures = tf.random.stateless_uniform([2, 64, 64, 3], [1, 2], -1, 1)
    for network in (exact, rounded):
        for weight in network.weights:
            weight.assign(weight * 10.0)
    expected, found = exact(pictures), rounded(pictures)
    assert found.dtype == tf.float32
    error = float(tf.math.reduce_std(found - expected) / tf.math.reduce_std(expected))
    assert 0 < error < tolerance
