"""The light generator: sizes, stages, where it starts, what limits it, that it fits phones."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.layers.faint_details import KEPT
from cut_tf.networks import build_generator
from cut_tf.settings import Settings

_TINY = Settings.of(generator="mobile", generator_norm="none", generator_blocks=2, ngf=4)


def _pictures(height: int, width: int, batch: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, height, width, 3], [height, width], -1, 1)


def _set_head(generator: keras.Model, gain: float, offset: float, scale: float) -> None:
    weights = compat.named_weights(generator)
    weights["head/kernel"].assign(tf.zeros_like(weights["head/kernel"]))
    weights["head/bias"].assign(np.repeat([gain, offset, scale], 3))


@pytest.mark.parametrize("size", [(16, 16), (17, 41), (48, 32)])
@pytest.mark.parametrize("norm, output_form", [("none", "details"), ("batch", "details"), ("none", "fitted")])
def test_keeps_size_and_range_and_starts_near_its_input(size, norm, output_form):
    generator = build_generator(Settings.of(generator="mobile", generator_norm=norm, generator_blocks=1, ngf=4,
                                            mobile_output=output_form))
    pictures = _pictures(*size)
    output = generator(pictures, training=False).numpy()
    assert output.shape == pictures.shape and output.dtype == np.float32
    assert np.abs(output).max() <= 1.0
    assert np.abs(output - pictures).mean() < 0.1


def test_output_is_gain_and_offset_of_the_half_sized_picture_and_scaled_detail():
    """With a constant head the translation is linear in the picture: computed again by scipy."""
    generator = build_generator(_TINY)
    _set_head(generator, gain=0.5, offset=-0.1, scale=-0.75)
    picture = 0.3 * _pictures(24, 16, batch=1).numpy()
    half = picture[0].reshape(12, 2, 8, 2, 3).mean((1, 3))
    # Bilinear enlargement by 2 with half-pixel centres and repeated borders.
    rows, columns = (np.arange(24) - 0.5) / 2, (np.arange(16) - 0.5) / 2
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    large = np.stack([ndimage.map_coordinates(half[..., channel], grid, order=1, mode="nearest")
                      for channel in range(3)], -1)
    expected = 1.5 * large - 0.1 + 0.25 * (picture[0] - large)
    np.testing.assert_allclose(generator(picture, training=False)[0], expected, atol=1e-5)


def test_a_fitted_output_is_gain_and_offset_of_the_picture_itself():
    """Details included, which the other form scales apart; with a constant head and much contrast, in closed form."""
    generator = build_generator(_TINY.having(mobile_output="fitted"))
    _set_head(generator, gain=0.5, offset=-0.1, scale=-0.75)
    blocks = np.random.default_rng(2).choice([-0.5, 0.5], [1, 24, 20, 3]).astype(np.float32)
    picture = blocks.repeat(2, 1).repeat(2, 2)
    # The gain of eq. 5 is v / (v + epsilon) of 1.5, and v is 0.25 within the windows' spread.
    np.testing.assert_allclose(generator(picture, training=False)[0], np.clip(1.5 * picture[0] - 0.1, -1, 1), atol=5e-3)


def test_faint_details_of_a_fitted_output_are_not_enhanced():
    """Points on blocks of much contrast, where the gain is v / (v + epsilon) of 2, so 2 within the windows' spread."""
    generator = build_generator(_TINY.having(mobile_output="fitted", faint_levels=3.0))
    _set_head(generator, gain=1.0, offset=0.0, scale=0.0)
    level = 1 / 127.5
    blocks = np.random.default_rng(2).choice([-0.2, 0.2], [1, 12, 12, 3]).astype(np.float32)
    picture = blocks.repeat(8, 1).repeat(8, 2)
    faint = picture.copy()
    faint[:, 4::8, 4::8] += level
    change = (generator(faint, training=False) - generator(picture, training=False)).numpy()[:, 4::8, 4::8]
    # Of a point's 1 - 4/16 above its neighbourhood's mean the kept 0.8 reaches the output, of the rest the whole gain.
    np.testing.assert_allclose(change, (0.75 * KEPT + 0.25 * 2) * level, rtol=0.02)


def test_faint_levels_need_the_fitted_output():
    with pytest.raises(InputError, match="--faint_levels must be 0 with --mobile_output=details.*Found 3$"):
        build_generator(_TINY.having(faint_levels=3.0))


def test_runs_of_one_output_form_can_start_with_weights_of_the_other():
    shapes = [[weight.shape for weight in build_generator(_TINY.having(mobile_output=form)).weights]
              for form in ("details", "fitted")]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("offset, wanted, moves", [(3.0, -1.0, True), (3.0, 1.0, False), (-3.0, 1.0, True)])
def test_values_beyond_the_range_are_cut_and_get_the_gradient_that_brings_them_back(offset, wanted, moves):
    generator = build_generator(_TINY)
    _set_head(generator, gain=0.0, offset=offset, scale=0.0)
    pictures, bias = _pictures(16, 16), compat.named_weights(generator)["head/bias"]
    with tf.GradientTape() as tape:
        output = generator(pictures, training=True)
        # Descends where the output should fall, climbs where it should rise.
        loss = -wanted * tf.reduce_mean(output)
    np.testing.assert_array_equal(output, np.full_like(output, np.sign(offset)))
    np.testing.assert_allclose(tape.gradient(loss, bias)[3:6], [-wanted / 3 if moves else 0.0] * 3, atol=1e-5)
    np.testing.assert_array_equal(generator(pictures, training=False), output)


def test_stages_by_number():
    generator = build_generator(_TINY)
    layers = [0, 1, 2, 3, 5]
    pictures = _pictures(32, 24)
    features = generator.encode(pictures, layers)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (32, 24, 3), (16, 12, 4), (8, 6, 8), (4, 3, 16), (4, 3, 16)]
    assert generator.feature_channels(layers) == [3, 4, 8, 16, 16]
    assert generator.feature_names(layers) == ["00_input", "01_down1", "02_down2", "03_down3", "05_block2"]
    _, same = generator.translate_with_features(pictures, layers)
    for one, other in zip(features, same):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_unknown_stages_and_norms_are_refused():
    generator = build_generator(_TINY)
    with pytest.raises(InputError, match="--nce_layers must be below 6, .* found 16"):
        generator.check_layers([0, 16])
    with pytest.raises(InputError, match="--generator_norm must be one of none, batch with --generator=mobile"):
        build_generator(Settings.of(generator="mobile"))


def test_the_size_for_phones_has_the_promised_number_of_weights():
    generator = build_generator(Settings.of(generator="mobile", generator_norm="none", generator_blocks=4, ngf=16))
    # Kernels and biases by hand: three halvings, context, eight of the blocks, two doublings, head.
    kernels = [(9 * 3, 16), (9 * 16, 32), (9 * 32, 64), (64, 64), *[(9 * 64, 64)] * 8, (9 * 64, 32), (9 * 32, 16),
               (9 * 16, 9)]
    assert generator.count_params() == sum((rows + 1) * columns for rows, columns in kernels) == 347_561


def _disturbed(padding: str, form: str = "details") -> keras.Model:
    """A generator with weights as large as training may make them."""
    generator = build_generator(_TINY.having(mobile_padding=padding, mobile_output=form))
    rng = np.random.default_rng(1)
    for weight in generator.trainable_variables:
        spread = 0.5 / np.sqrt(np.prod(weight.shape[:-1])) if len(weight.shape) == 4 else 0.1
        weight.assign_add(rng.standard_normal(weight.shape).astype(np.float32) * spread)
    return generator


@pytest.mark.parametrize("form", ["details", "fitted"])
@pytest.mark.parametrize("size", [(16, 16), (48, 33), (96, 120)])
def test_a_picture_of_one_colour_gets_no_frame(size, form):
    """Zeros beyond the borders are what draws frames: an error of one level inside is several in the outer 4 px."""
    picture = np.broadcast_to(np.float32([0.6, 0.1, -0.3]), (1, *size, 3))
    repeated, zeros = (_disturbed(padding, form)(picture, training=False).numpy()
                       for padding in ("repeat", "zeros"))
    assert np.abs(repeated - picture).max() > 0.05
    np.testing.assert_allclose(repeated, np.broadcast_to(repeated[:, 8:9, 8:9], repeated.shape), atol=1e-5)
    if min(size) > 16:  # There one window of a fit covers all.
        assert np.ptp(zeros[0, :, 8], axis=0).max() > 2 / 255
    if min(size) > 64:
        assert _outer_over_inner(repeated) <= 1.3 < _outer_over_inner(zeros)


def _outer_over_inner(output: np.ndarray) -> float:
    """Mean error in the outer 4 px over that inside, where the middle of the picture is off by one level."""
    middle = output[0, output.shape[1] // 2, output.shape[2] // 2]
    error = np.abs(output[0] - (middle - 2 / 255)).mean(-1)
    inside = np.zeros_like(error, bool)
    inside[4:-4, 4:-4] = True
    return float(error[~inside].mean() / error[inside].mean())
