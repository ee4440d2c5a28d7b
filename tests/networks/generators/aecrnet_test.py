"""AECR-Net: weights counted by hand, its parts against NumPy, sizes, stages, ablations, whitening, export."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import linalg

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.layers.patch_whitening import PatchWhiteningConvolution, inverse_square_root
from cut_tf.networks import build_generator
from cut_tf.networks.generators.aecrnet import AdaptiveMixup, FeatureAttentionBlock
from cut_tf.settings import Settings

_TINY = {"generator": "aecrnet", "ngf": 4}


def _pictures(height: int, width: int, batch: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, height, width, 3], [height, width], -1, 1)


@pytest.fixture(scope="module")
def generator():
    """Of the default structure."""
    return build_generator(Settings.of(**_TINY))


def _conv(kernel_px: int, inputs: int, outputs: int) -> int:
    return (kernel_px**2 * inputs + 1) * outputs


def _weights_by_hand(width: int, blocks: int, deformables: int) -> int:
    """Kernels and biases of the paper's figure 2, without mixup."""
    wide, hidden = 4 * width, width // 2
    block = (2 * _conv(3, wide, wide) + _conv(1, wide, hidden) + _conv(1, hidden, wide)
             + _conv(1, wide, hidden) + _conv(1, hidden, 1))
    deformable = _conv(3, wide, wide) + _conv(3, wide, 27)  # 18 offsets and 9 masks
    ends = _conv(7, 3, width) + _conv(3, width, 2 * width) + _conv(3, 2 * width, wide) + _conv(7, width, 3)
    ups = _conv(3, wide, 2 * width) + _conv(3, 2 * width, width)
    return ends + blocks * block + deformables * deformable + ups


@pytest.mark.parametrize("flags, expected", [
    # Two thetas of adaptive mixup; 3 to 3 channels of the whitening layer, as in the released code.
    ({"ngf": 64, "aecr_whitening": True}, _weights_by_hand(64, 1, 1) + 2 + _conv(3, 3, 3)),
    ({"ngf": 8, "aecr_shared": False}, _weights_by_hand(8, 6, 2) + 2),
    ({"ngf": 8, "aecr_dfe": False, "aecr_mixup": False}, _weights_by_hand(8, 1, 0)),
], ids=str)
def test_number_of_weights(flags, expected):
    network = build_generator(Settings.of(**{**_TINY, **flags}))
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_variables) == expected
    if flags["ngf"] == 64:
        assert expected == 2_614_229  # what the released code counts


@pytest.mark.parametrize("size", [(16, 16), (17, 30)])
def test_keeps_size_and_range(generator, size):
    pictures = _pictures(*size)
    output = generator(pictures, training=False).numpy()
    assert output.shape == pictures.shape and output.dtype == np.float32
    assert np.abs(output).max() < 1.0 and output.std() > 1e-3


def test_crop_undoes_the_mirrored_padding(generator):
    pictures = _pictures(17, 30)
    mirrored = np.pad(pictures, [(0, 0), (0, 3), (0, 2), (0, 0)], "reflect")
    np.testing.assert_allclose(generator(pictures), generator(mirrored)[:, :17, :30], atol=1e-6)


def _weights(layer, seed: int = 0) -> dict[str, np.ndarray]:
    """Gives every weight of a layer a value that counts; by name."""
    rng, values = np.random.default_rng(seed), {}
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.3)
    for name, weight in compat.named_weights(_Holder(layer)).items():
        values[name] = weight.numpy().astype(np.float64)
    return values


class _Holder(keras.Model):
    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer


def test_block_is_that_of_the_paper():
    block = FeatureAttentionBlock(16, iter(range(1, 99)), "block", "float32")
    inputs = np.random.default_rng(1).normal(size=(2, 5, 6, 16)).astype(np.float32)
    block(inputs)
    weights = _weights(block)

    def conv(values: np.ndarray, label: str) -> np.ndarray:
        kernel, bias = weights[f"block_{label}/kernel"], weights[f"block_{label}/bias"]
        reach = kernel.shape[0] // 2
        framed = np.pad(values, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
        height, width = values.shape[1:3]
        return bias + sum(framed[:, y:y + height, x:x + width] @ kernel[y, x]
                          for y in range(kernel.shape[0]) for x in range(kernel.shape[1]))

    def relu(values: np.ndarray) -> np.ndarray:
        return np.maximum(values, 0)

    def sigmoid(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    hidden = conv(relu(conv(inputs, "conv1")) + inputs, "conv2")
    hidden = hidden * sigmoid(conv(relu(conv(hidden.mean((1, 2), keepdims=True), "channel1")), "channel2"))
    hidden = hidden * sigmoid(conv(relu(conv(hidden, "pixel1")), "pixel2"))
    np.testing.assert_allclose(block(inputs), inputs + hidden, atol=1e-4)


def test_mixup_starts_where_the_paper_starts():
    down, up = tf.ones([1, 1, 1, 2]), tf.zeros([1, 1, 1, 2])
    for theta, share in ((-1.0, 0.26894142), (-0.6, 0.35434369)):
        np.testing.assert_allclose(np.ravel(AdaptiveMixup(theta, "mixup", "float32")(down, up)), share, rtol=1e-6)


def test_thetas_of_the_network(generator):
    weights = compat.named_weights(generator)
    assert [float(weights[f"mixup{number}/theta"]) for number in (1, 2)] == pytest.approx([-1.0, -0.6])
    assert "block1_conv1/kernel" in weights and "block2_conv1/kernel" not in weights


def test_stages_by_number(generator):
    layers = [0, 1, 2, 3, 9, 11]
    pictures = _pictures(32, 24)
    features = generator.encode(pictures, layers)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (32, 24, 3), (32, 24, 4), (16, 12, 8), (8, 6, 16), (8, 6, 16), (8, 6, 16)]
    assert generator.feature_channels(layers) == [3, 4, 8, 16, 16, 16]
    assert generator.feature_names(layers) == ["00_input", "01_stem", "02_down1", "03_down2", "09_block6",
                                               "11_deformable2"]
    _, same = generator.translate_with_features(pictures, layers)
    for one, other in zip(features, same):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(InputError, match="--nce_layers must be below 12, .* found 16"):
        generator.check_layers([0, 16])


def test_shared_blocks_are_one_function_six_times(generator):
    pictures = _pictures(16, 16)
    start, *later = generator.encode(pictures, list(range(3, 10)))
    for feature in later:
        start = generator.blocks[0](start)
        np.testing.assert_allclose(feature, start, atol=1e-6)


def test_gradients_are_finite_in_bfloat16_and_reach_every_weight():
    # With fewer channels a ReLU of the attentions may be zero everywhere.
    network = build_generator(Settings.of(generator="aecrnet", ngf=8, aecr_whitening=True), dtype="mixed_bfloat16")
    variables = [compat.raw_variable(weight) for weight in network.trainable_variables]
    with tf.GradientTape() as tape:
        output = network(_pictures(16, 16), training=True)
        loss = tf.reduce_mean(tf.abs(output - 0.5))
    assert output.dtype == tf.float32
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        assert np.isfinite(gradient.numpy()).all() and np.abs(gradient.numpy()).max() > 0, variable.name


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_newton_schulz_finds_the_inverse_square_root(spread):
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    matrix = basis @ np.diag(np.geomspace(1.0, spread, 6)) @ basis.T
    found = inverse_square_root(tf.constant(matrix), 12)
    np.testing.assert_allclose(found, linalg.inv(linalg.sqrtm(matrix)), atol=1e-9)


def test_whitened_patches_have_no_correlation():
    """Noise blurred a little: with a kernel that picks single whitened values, their covariance is the identity."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(4, 60, 60, 1))
    pictures = (pictures + 0.5 * np.roll(pictures, 1, 2) + 2.0).astype(np.float32)
    layer = PatchWhiteningConvolution(9, seed=1)
    layer.build(pictures.shape)
    layer.kernel.assign(np.eye(9).reshape(3, 3, 1, 9))
    values = layer(pictures, training=True).numpy()[:, 1:-1:3, 1:-1:3].reshape(-1, 9).astype(np.float64)
    np.testing.assert_allclose(values.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(values.T, bias=True), np.eye(9), atol=0.02)


def test_whitening_uses_running_means_for_inference():
    pictures = _pictures(30, 30)
    layer = PatchWhiteningConvolution(3, seed=1)
    plain = layer(pictures, training=False)
    np.testing.assert_allclose(plain, tf.nn.conv2d(pictures, tf.convert_to_tensor(layer.kernel), 1, "SAME"), atol=1e-6)
    trained = layer(pictures, training=True)
    # One step moves the mean by a tenth of that of the patches, every third pixel in both directions.
    values = pictures.numpy().reshape(2, 10, 3, 10, 3, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 27)
    np.testing.assert_allclose(tf.convert_to_tensor(layer.mean), 0.1 * values.mean(0), atol=1e-6)
    for _ in range(100):
        layer(pictures, training=True)
    np.testing.assert_allclose(layer(pictures, training=False), trained, atol=1e-3)


def test_whitening_of_two_replicas_is_that_of_their_whole_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"],
                                              cross_device_ops=tf.distribute.ReductionToOneDevice())
    pictures = _pictures(18, 21)
    whole = PatchWhiteningConvolution(3, seed=1)
    expected = whole(pictures, training=True)
    with strategy.scope():
        shared = PatchWhiteningConvolution(3, seed=1)
        shared.build(pictures.shape)

    def halves(context: tf.distribute.ValueContext) -> tf.Tensor:
        return pictures[context.replica_id_in_sync_group][None]

    parts = strategy.experimental_distribute_values_from_function(halves)
    run = tf.function(lambda values: strategy.run(lambda part: shared(part, training=True), args=(values,)))
    found = tf.concat(strategy.experimental_local_results(run(parts)), 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for name in ("mean", "whitening"):
        for value in strategy.experimental_local_results(compat.raw_variable(getattr(shared, name))):
            np.testing.assert_allclose(value, tf.convert_to_tensor(getattr(whole, name)), atol=1e-4)


@pytest.mark.slow
def test_tflite_needs_no_other_operations_and_draws_the_same(generator):
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    from cut_tf.export.tflite import conversion, report
    from cut_tf.translators.exported import TFLiteTranslator

    # Offsets of several pixels, over the borders too.
    places = compat.named_weights(generator)["deformable1_places/kernel"]
    places.assign(tf.random.stateless_normal(places.shape, [0, 0]) * 10.0)
    picture = _pictures(22, 35, batch=1).numpy()
    expected = generator(picture, training=False)
    model, _ = conversion.convert(generator, None, "none", [picture])
    places.assign(tf.zeros_like(places))
    np.testing.assert_allclose(TFLiteTranslator(model).translate_floats(picture), expected, atol=1e-4)
    operations = report.operations(model, (22, 35))["operations"]
    assert "GATHER" in operations and not any("Flex" in name or "CUSTOM" in name for name in operations)
