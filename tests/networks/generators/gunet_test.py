"""The gated U-Net: stages, where it starts, its reconstruction, its size, and that it draws no frames."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.export.options import Size
from cut_tf.export.representative import psnr_db
from cut_tf.layers.faint_details import KEPT
from cut_tf.networks import build_generator
from cut_tf.networks.generators.gunet import Fusion, GatedBlock
from cut_tf.settings import Settings

_TINY = Settings.of(generator="gunet", generator_blocks=1, ngf=4)


def _pictures(height: int, width: int, batch: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, height, width, 3], [height, width], -1, 1)


def _disturbed(generator: keras.Model) -> keras.Model:
    """With weights as large as training may make them."""
    rng = np.random.default_rng(0)
    for weight in generator.trainable_variables:
        spread = 0.5 / np.sqrt(np.prod(weight.shape[:-1])) if len(weight.shape) == 4 else 0.1
        weight.assign_add(rng.standard_normal(weight.shape).astype(np.float32) * spread)
    return generator


@pytest.mark.parametrize("size", [(16, 16), (17, 41), (48, 32)])
def test_keeps_size_and_starts_as_nearly_its_input(size):
    pictures = _pictures(*size)
    output = build_generator(_TINY)(pictures, training=False).numpy()
    assert output.shape == pictures.shape and output.dtype == np.float32
    assert np.abs(output - pictures).mean() < 0.02


def test_output_is_the_haze_model_turned_round():
    """With a constant head: J = K x - B + x, one K for the colours, one B for each; cut to [-1, 1]."""
    generator = build_generator(_TINY)
    weights = compat.named_weights(generator)
    weights["head/kernel"].assign(tf.zeros_like(weights["head/kernel"]))
    # Haze of transmission 0.5 and of this colour: K = 1 / t - 1, B = A (1 / t - 1).
    airlight = np.array([0.4, 0.3, 0.2], np.float32)
    weights["head/bias"].assign(np.tile([1.0, *airlight], 4))
    clear = np.random.default_rng(0).uniform(-0.9, 0.9, [1, 24, 16, 3]).astype(np.float32)
    np.testing.assert_allclose(generator(0.5 * clear + 0.5 * airlight, training=False), clear, atol=1e-6)
    np.testing.assert_array_equal(generator(np.full_like(clear, -1.0), training=True), np.full_like(clear, -1.0))


@pytest.mark.parametrize("maps", ["pixels", "smooth"])
def test_faint_details_are_not_enhanced(maps):
    """A gain K + 1 of 2: of a point's 12/16 above its neighbourhood's mean the kept 0.8 reaches the output."""
    generator = build_generator(_TINY.having(gunet_maps=maps, faint_levels=2.0))
    weights = compat.named_weights(generator)
    weights["head/kernel"].assign(tf.zeros_like(weights["head/kernel"]))
    weights["head/bias"].assign(np.tile(np.float32([1, 0, 0, 0]), weights["head/bias"].shape[0] // 4))
    level, picture = 1 / 127.5, np.zeros([1, 16, 24, 3], np.float32)
    picture[:, 8, 6], picture[:, 8, 18] = level, 16 * level
    output = generator(picture, training=False).numpy()
    np.testing.assert_allclose(output[0, 8, 6], (0.75 * KEPT + 0.25 * 2) * level, rtol=1e-4)
    # A bright point is 12 levels above the mean, and loses of 2 levels only.
    np.testing.assert_allclose(output[0, 8, 18], (32 - (2 - KEPT) * 2) * level, rtol=1e-4)


@pytest.mark.parametrize("maps", ["pixels", "smooth"])
def test_half_precision_draws_the_same_picture_within_its_rounding(maps):
    settings = _TINY.having(gunet_maps=maps)
    exact, half = (_disturbed(build_generator(settings, dtype=dtype)) for dtype in ("float32", "mixed_bfloat16"))
    pictures = _pictures(24, 40)
    expected = exact(pictures, training=False).numpy()
    found = half(pictures, training=False).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.abs(found - expected).mean() < 2.0**-7 < expected.std()


def test_smooth_maps_are_enlarged_between_the_pixels_of_the_head():
    """Of a black picture the reconstruction is -B: 3/4 of the nearer value of the head and 1/4 of the farther."""
    generator = _disturbed(build_generator(_TINY.having(gunet_maps="smooth")))
    hidden = np.random.default_rng(0).normal(size=[1, 12, 10, 4]).astype(np.float32)
    offset = -generator._reconstruct(tf.zeros([1, 24, 20, 3]), hidden).numpy()
    kernel, bias = (compat.named_weights(generator)[f"head/{name}"].numpy() for name in ("kernel", "bias"))
    # The head in the middle of the picture, 3x3 around the pixels 4 and 5 of column 5.
    above, below = (np.einsum("ijc,ijcf->f", hidden[0, row - 1:row + 2, 4:7], kernel) + bias for row in (4, 5))
    right = np.einsum("ijc,ijcf->f", hidden[0, 3:6, 5:8], kernel) + bias
    far = np.einsum("ijc,ijcf->f", hidden[0, 4:7, 5:8], kernel) + bias
    expected = (9 * above + 3 * below + 3 * right + far)[1:] / 16
    np.testing.assert_allclose(offset[0, 9, 11], expected, atol=1e-5)


def test_a_block_adds_what_its_gate_lets_through():
    """x + P(D(V x) * sigmoid(G x)), computed again with NumPy in the middle of the picture."""
    block = GatedBlock(3, iter(range(9)), "block", "float32")
    block.build((None, None, None, 3))
    weights = {name: value.numpy() for name, value in compat.named_weights(block).items()}
    weights["block_depthwise/bias"] = np.array([0.1, -0.2, 0.3], np.float32)
    block.depthwise.bias.assign(weights["block_depthwise/bias"])
    pixels = np.random.default_rng(0).normal(size=[1, 7, 7, 3]).astype(np.float32)
    value = pixels[0] @ weights["block_value/kernel"][0, 0]
    centre = np.einsum("ijc,ijc->c", value[1:6, 1:6], weights["block_depthwise/kernel"][..., 0])
    centre += weights["block_depthwise/bias"]
    gate = 1 / (1 + np.exp(-(pixels[0, 3, 3] @ weights["block_gate/kernel"][0, 0] + weights["block_gate/bias"])))
    expected = pixels[0, 3, 3] + (centre * gate) @ weights["block_branch/kernel"][0, 0] + weights["block_branch/bias"]
    np.testing.assert_allclose(block(pixels)[0, 3, 3], expected, atol=1e-5)
    assert np.abs(expected - pixels[0, 3, 3]).max() > 0.01


def test_a_fusion_of_equal_features_is_these_features_and_else_between_both():
    fusion = Fusion(16, iter(range(9)), "fusion", "float32")
    fusion.build((None, None, None, 16))
    one, other = tf.random.stateless_normal([2, 2, 5, 4, 16], [0, 0])
    np.testing.assert_allclose(fusion(one, one), one, atol=1e-6)
    mixed = fusion(one, other).numpy()
    assert (mixed >= np.minimum(one, other) - 1e-6).all() and (mixed <= np.maximum(one, other) + 1e-6).all()


def test_a_picture_of_one_colour_stays_of_one_colour_up_to_its_borders():
    """Zeros around it would give it a frame."""
    generator = _disturbed(build_generator(_TINY))
    for size in ((16, 16), (40, 33)):
        output = generator(np.broadcast_to(np.float32([0.6, 0.1, -0.3]), (1, *size, 3)), training=False).numpy()
        middle = output[:, 8:10, 8:10].mean((0, 1, 2))
        assert np.abs(middle - [0.6, 0.1, -0.3]).max() > 0.05
        # Four pixels of an output of the decoder are drawn by filters of their own.
        repeated = np.tile(output[:, 8:10, 8:10], (1, size[0] // 2 + 1, size[1] // 2 + 1, 1))
        np.testing.assert_allclose(output, repeated[:, :size[0], :size[1]], atol=1e-5)


def test_stages_by_number():
    generator = build_generator(_TINY)
    layers = [0, 1, 2, 3, 4, 5, 7]
    features = generator.encode(_pictures(32, 24), layers)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (32, 24, 3), (16, 12, 4), (16, 12, 4), (8, 6, 8), (8, 6, 8), (4, 3, 16), (4, 3, 16)]
    assert generator.feature_channels(layers) == [3, 4, 4, 8, 8, 16, 16]
    assert generator.feature_names(layers) == [
        "00_input", "01_down1", "02_encoder1_block1", "03_down2", "04_encoder2_block1", "05_down3",
        "07_encoder3_block2"]
    with pytest.raises(InputError, match="--nce_layers must be below 8, .* found 8"):
        generator.check_layers([0, 8])


def test_the_usual_size_has_the_promised_number_of_weights_and_products():
    """48 channels and 2 blocks; counted by hand: 0.7 million weights, 1.8 billion products at 256x256 px."""
    generator = build_generator(Settings.of(generator="gunet", generator_blocks=2, ngf=48))

    def block(width: int) -> tuple[int, int]:
        return 3 * width**2 + 28 * width, 3 * width**2 + 25 * width

    halves = {2: 48, 4: 96, 8: 192}
    weights = products = 0
    for scale, width in halves.items():
        count, pixels = {2: 4, 4: 4, 8: 4}[scale], (256 // scale)**2
        before = {2: 3, 4: 48, 8: 96}[scale]
        weights += count * block(width)[0] + 4 * before * width + width
        products += pixels * (count * block(width)[1] + 4 * before * width)
    for scale, width in ((2, 48), (4, 96)):
        hidden = width // 8
        weights += (2 * width + 1) * width + (width + 1) * hidden + (hidden + 1) * width
        products += (128 // scale)**2 * 2 * width**2
    weights += (9 * 48 + 1) * 16
    products += 128**2 * 9 * 48 * 16
    assert generator.count_params() == weights == 744_466
    assert round(products / 1e9, 1) == 1.8


def test_in_8_bits_one_part_for_xnnpack_takes_all_of_it():
    """Depthwise kernels that the converter quantises would leave it; 48 channels of 5x5 are 1,200 elements."""
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    from cut_tf.export.tflite import conversion, report

    generator = _disturbed(build_generator(Settings.of(generator="gunet", generator_blocks=1, ngf=48)))
    picture = _pictures(32, 40, batch=1).numpy()
    plain, dynamic = conversion.convert(generator, Size(32, 40), "dynamic", [picture])
    expected = np.asarray(generator(picture, training=False))
    for model, least_db in ((plain, 90), (dynamic, 35)):
        found = report.operations(model)
        assert found["xnnpack_partitions"] == 1 and found["operations_outside_xnnpack"] == {}
        output = conversion.TFLiteTranslator(model).translate_floats(picture)
        assert psnr_db([expected], [output]) > least_db
