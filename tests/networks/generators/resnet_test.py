"""The ResNet generator: size, features by official stage number, norms and precisions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.networks import build_generator
from cut_tf.settings import Settings
from tools.check_parity.checks import check_file

_TINY = Settings.of(generator_blocks=1, ngf=4)
_PLAIN = _TINY.having(antialias_down=False, antialias_up=False)


def _pictures(height: int, width: int, batch: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, height, width, 3], [height, width], -1, 1)


def _louder(generator: keras.Model, factor: float = 20.0) -> keras.Model:
    """Multiplies all kernels, so that nothing is too small to be noticed."""
    for weight in generator.trainable_variables:
        weight.assign(weight * factor)
    return generator


def test_default_has_the_official_number_of_parameters():
    generator = build_generator(Settings.of())
    assert generator.count_params() == 11_378_179
    assert sum(int(np.prod(weight.shape)) for weight in generator.trainable_variables) == 11_378_179


@pytest.mark.parametrize("name", ["resnetG_noaa_3blk_nonsquare", "resnetG_noaaup_3blk_nonsquare"])
def test_equals_the_official_network(testdata, name):
    row = check_file(testdata / "golden" / f"{name}.npz")
    assert row.status == "ok", row.failures
    assert row.compared >= 9


@pytest.mark.parametrize("settings", [_TINY, _PLAIN], ids=["antialias", "plain"])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (33, 47), (64, 64)])
def test_output_has_the_size_of_the_input(settings, size):
    output = build_generator(settings)(_pictures(*size))
    assert output.shape == [2, *size, 3]
    assert output.dtype == tf.float32
    assert float(tf.reduce_max(tf.abs(output))) <= 1.0


def test_other_sizes_are_mirrored_up_at_bottom_and_right_and_cropped_back():
    generator = _louder(build_generator(_TINY))
    pictures = _pictures(17, 23)
    padded = np.pad(pictures, [(0, 0), (0, 3), (0, 1), (0, 0)], "reflect")
    np.testing.assert_allclose(generator(pictures), generator(padded)[:, :17, :23], atol=1e-5)


@pytest.mark.parametrize("settings", [_TINY, _PLAIN], ids=["antialias", "plain"])
def test_official_odd_sizes_round_up_in_the_layers(settings):
    """As the official networks: no pixel is added before them. What they draw is in tests/official."""
    generator = _louder(build_generator(settings.having(odd_sizes="official")))
    pictures = _pictures(21, 18)
    features = generator.encode(pictures, [0, 4, 10 if settings is _PLAIN else 12])
    assert [tuple(feature.shape[1:3]) for feature in features] == [
        (27, 24), (11, 9) if settings is _PLAIN else (21, 18), (6, 5)]
    output = generator(pictures)
    assert output.shape == [2, 21, 18, 3]
    mirrored = _louder(build_generator(settings))
    assert float(tf.reduce_max(tf.abs(output - mirrored(pictures)))) > 1e-3
    np.testing.assert_array_equal(generator(_pictures(16, 20)), mirrored(_pictures(16, 20)))


@pytest.mark.parametrize("settings", [_TINY, _PLAIN, _TINY.having(odd_sizes="official")],
                         ids=["antialias", "plain", "official"])
def test_works_on_sizes_that_are_not_known_before_the_call(settings):
    generator = _louder(build_generator(settings))
    translate = tf.function(lambda pictures: generator(pictures, training=False),
                            input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in ((17, 23), (32, 16)):
        pictures = _pictures(*size)
        np.testing.assert_allclose(translate(pictures), generator(pictures), atol=1e-5)


def test_images_of_a_batch_do_not_see_each_other():
    generator = _louder(build_generator(_TINY))
    pictures = _pictures(16, 20, batch=3)
    single = tf.concat([generator(pictures[index:index + 1]) for index in range(3)], 0)
    np.testing.assert_allclose(generator(pictures), single, atol=1e-5)


def test_feature_shapes_and_channels_by_stage_number():
    generator = build_generator(_TINY)
    features = generator.encode(_pictures(32, 48), [0, 4, 8, 12])
    assert [tuple(feature.shape) for feature in features] == [(2, 38, 54, 3), (2, 32, 48, 8), (2, 16, 24, 16),
                                                              (2, 8, 12, 16)]
    assert generator.feature_channels([0, 4, 8, 12]) == [3, 8, 16, 16]
    assert generator.feature_names([0, 4, 8, 12]) == ["00_input", "04_down1", "08_down2", "12_block1"]


def test_feature_0_is_the_mirrored_image():
    pictures = _pictures(16, 24)
    expected = np.pad(pictures, [(0, 0), (3, 3), (3, 3), (0, 0)], "reflect")
    np.testing.assert_array_equal(build_generator(_TINY).encode(pictures, [0])[0], expected)


@pytest.mark.parametrize("symmetric", [False, True], ids=["any kernels", "mirrored kernels"])
def test_features_of_a_mirrored_picture_are_not_the_mirrored_features(symmetric):
    """So FastCUT's mirrored steps must encode their keys: those of the generator's own pass, mirrored, are others.

    Kernels differ from their mirror image. Were they equal, the features would be up to the first downsampling: it
    keeps every second column, the even ones, which in the mirrored picture of even width are the odd ones.
    """
    generator, layers = _louder(build_generator(_TINY)), [0, 2, 8]
    if symmetric:
        for weight in generator.trainable_variables:
            if len(weight.shape) == 4:
                weight.assign((weight + tf.reverse(weight, [1])) / 2)
    pictures = _pictures(16, 24)
    mirrored = generator.encode(tf.reverse(pictures, [2]), layers)
    features = generator.encode(pictures, layers)
    differences = [np.abs(found - tf.reverse(feature, [2])).max() / np.abs(feature).max()
                   for found, feature in zip(mirrored, features)]
    assert differences[0] == 0
    assert differences[1] < 1e-5 if symmetric else differences[1] > 0.1
    assert differences[2] > 0.1


def test_features_of_plain_downsampling_are_one_size_smaller():
    features = build_generator(_PLAIN).encode(_pictures(32, 48), [0, 4, 8])
    assert [tuple(feature.shape) for feature in features] == [(2, 38, 54, 3), (2, 16, 24, 8), (2, 8, 12, 16)]


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("layers", [(0, 4, 8, 12), (4, 5), (2, 3, 8), (8, 9)])
def test_translation_keeps_the_features_that_encode_gives(norm, antialias, layers):
    settings = _TINY.having(generator_norm=norm, antialias_down=antialias)
    generator = _louder(build_generator(settings))
    pictures = _pictures(20, 18)
    output, kept = generator.translate_with_features(pictures, layers)
    np.testing.assert_allclose(output, generator(pictures), atol=1e-6)
    for layer, feature, again in zip(layers, generator.encode(pictures, layers), kept):
        assert feature.shape[-1] == generator.feature_channels([layer])[0]
        np.testing.assert_allclose(again, feature, atol=1e-6, err_msg=f"feature {layer}")


def test_a_tapped_norm_is_seen_after_its_relu_unless_it_is_the_last_layer():
    generator = _louder(build_generator(_PLAIN))
    pictures = _pictures(32, 32)
    before = generator.encode(pictures, [8])[0]  # stage 8 is the norm of the second strided convolution
    assert float(tf.reduce_min(before)) < -0.1
    after = generator.encode(pictures, [0, 4, 8, 12])[2]
    np.testing.assert_allclose(after, tf.nn.relu(before), atol=1e-6)
    last = generator.translate_with_features(pictures, [0, 4, 8])[1][2]
    np.testing.assert_allclose(last, before, atol=1e-6)


def test_a_tapped_convolution_before_its_norm_is_not_changed_by_the_relu():
    generator = _louder(build_generator(_TINY))
    pictures = _pictures(32, 32)
    alone = generator.encode(pictures, [4])[0]
    assert float(tf.reduce_min(alone)) < -0.1
    np.testing.assert_array_equal(generator.encode(pictures, [0, 4, 8, 12])[1], alone)


def test_without_norm_the_relu_changes_a_tapped_convolution_too():
    generator = _louder(build_generator(_TINY.having(generator_norm="none")))
    pictures = _pictures(32, 32)
    alone = generator.encode(pictures, [4])[0]
    np.testing.assert_allclose(generator.encode(pictures, [4, 8])[0], tf.nn.relu(alone), atol=1e-6)


@pytest.mark.parametrize("blocks, stages", [(9, 32), (1, 24)])
def test_too_large_a_layer_number_is_refused(blocks, stages):
    generator = build_generator(_TINY.having(generator_blocks=blocks))
    generator.check_layers([0, stages - 1])
    with pytest.raises(InputError, match=f"--nce_layers must be below {stages}, .*, found {stages}"):
        generator.check_layers([0, stages])


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("antialias_up", [True, False])
def test_every_norm_trains(norm, antialias_up):
    generator = build_generator(_TINY.having(generator_norm=norm, antialias_up=antialias_up))
    pictures = _pictures(16, 16)
    with tf.GradientTape() as tape:
        before = generator(pictures, training=True)
        loss = tf.reduce_mean(tf.square(before - 0.5))
    variables = generator.trainable_variables
    gradients = tape.gradient(loss, variables)
    # An instance norm takes away the biases before it: all but that of the output, and transposed convolutions'.
    without = 0 if norm != "instance" else 7 if antialias_up else 5
    assert sum(gradient is None for gradient in gradients) == without
    for variable, gradient in zip(variables, gradients):
        if gradient is not None:
            assert bool(tf.reduce_all(tf.math.is_finite(gradient)))
            variable.assign(variable - 0.1 * gradient)
    after = generator(pictures, training=True)
    assert float(tf.reduce_mean(tf.square(after - 0.5))) < float(loss) - 1e-3


@pytest.mark.parametrize("norm, biases", [("instance", 8), ("batch", 1), ("none", 1)])
def test_convolutions_before_instance_norm_keep_their_bias(norm, biases):
    generator = build_generator(_TINY.having(generator_norm=norm))
    # Stem, two down, two in the block, two up, output; without instance norm only the output.
    assert sum("bias" in weight.name for weight in generator.weights) == biases


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("policy, tolerance", [("mixed_bfloat16", 0.05), ("mixed_float16", 0.01)])
def test_half_precision_stays_close_to_float32(norm, policy, tolerance):
    settings = _TINY.having(generator_norm=norm)
    exact, rounded = (_louder(build_generator(settings, seed=1, dtype=dtype)) for dtype in ("float32", policy))
    for mine, theirs in zip(exact.weights, rounded.weights):
        assert "float32" in str(theirs.dtype)
        np.testing.assert_array_equal(mine, theirs)
    pictures = _pictures(32, 32)
    expected, found = exact(pictures, training=True), rounded(pictures, training=True)
    assert found.dtype == tf.float32
    error = float(tf.math.reduce_std(found - expected) / tf.math.reduce_std(expected))
    assert 0 < error < tolerance


def test_the_seed_decides_the_weights():
    def weights(seed: int) -> np.ndarray:
        return np.concatenate([np.ravel(weight) for weight in build_generator(_TINY, seed).get_weights()])

    np.testing.assert_array_equal(weights(3), weights(3))
    assert np.abs(weights(3) - weights(4)).max() > 1e-3


def test_layers_of_the_same_shape_get_different_weights():
    kernels = [weight for weight in build_generator(_TINY.having(generator_blocks=3)).get_weights()
               if weight.shape == (3, 3, 16, 16)]
    assert len(kernels) == 6
    for index, kernel in enumerate(kernels):
        assert all(np.abs(kernel - other).max() > 1e-4 for other in kernels[index + 1:])
