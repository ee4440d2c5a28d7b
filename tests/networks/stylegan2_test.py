"""StyleGAN2-style generator and discriminator: sizes, widths, stages, noise, how far a pixel sees, what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.networks import build_discriminator, build_generator
from cut_tf.settings import Settings
from cut_tf.translators import run

_TINY = Settings.of(generator="stylegan2", discriminator="stylegan2", generator_blocks=2, stylegan2_size_px=32,
                    crop_size_px=32, ngf=1, ndf=1)


def _pictures(height: int, width: int, batch: int = 2) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, height, width, 3], [height, width], -1, 1)


@pytest.fixture(scope="module", name="generator")
def _generator() -> keras.Model:
    return build_generator(_TINY, seed=1)


def test_the_sizes_of_sincut_have_the_promised_numbers_of_weights():
    """By hand from the official table: 80 and 160 channels at 64 and 32 px for ngf 10, 32 to 384 for ndf 8."""
    paper = Settings.of(generator="stylegan2", discriminator="stylegan2", generator_blocks=6, ngf=10, ndf=8,
                        crop_size_px=64)
    block = 2 * (9 * 160 * 160 + 160)
    expected = (3 * 80 + 80) + (9 * 80 * 80 + 80) + (9 * 80 * 160 + 160) + 80 * 160 + 6 * block
    expected += 9 * 160 * 80 + 1 + 80 + 80 * 3 + 3
    assert build_generator(paper).count_params() == expected == 3_068_404
    widths = [32, 64, 128, 256, 384]
    expected = 3 * 32 + 32 + sum((9 * one * one + one) + (9 * one * other + other) + one * other
                                 for one, other in zip(widths, widths[1:]))
    expected += (9 * 384 * 384 + 384) + (16 * 384 * 384 + 384) + 384 + 1
    assert build_discriminator(paper).count_params() == expected == 5_885_473


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_any_size_is_kept_and_stages_are_numbered(halvings):
    generator = build_generator(_TINY.having(stylegan2_downsamplings=halvings))
    assert generator(_pictures(17, 23), training=False).shape == (2, 17, 23, 3)
    layers = list(range(3 + halvings))
    side = [32, 32, 16, 8, 8]
    channels = {0: [3, 16, 16], 1: [3, 16, 32, 32], 2: [3, 16, 32, 64, 64]}[halvings]
    features, pictures = generator.encode(_pictures(32, 32), layers), _pictures(32, 32)
    sides = side[:2 + halvings] + [side[1 + halvings]]
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (one, one, count) for one, count in zip(sides, channels)]
    assert generator.feature_channels(layers) == channels
    names = ["00_input", "01_stem", *(f"{2 + number:02d}_down{number + 1}" for number in range(halvings)),
             f"{2 + halvings:02d}_block1"]
    assert generator.feature_names(layers) == names
    for one, other in zip(features, generator.translate_with_features(pictures, layers)[1]):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_array_equal(features[0], pictures)
    with pytest.raises(InputError, match=f"--nce_layers must be below {3 + halvings}, .* found 16"):
        generator.check_layers([0, 16])


def test_odd_sizes_are_mirrored_and_cut(generator):
    picture = _pictures(18, 21, 1).numpy()
    padded = np.pad(picture, ((0, 0), (0, 0), (0, 1), (0, 0)), mode="reflect")
    np.testing.assert_allclose(generator(picture, training=False), generator(padded, training=False)[:, :, :21],
                               atol=1e-5)


def test_noise_counts_as_far_as_it_has_learned_to_and_inference_has_none(generator):
    picture, up = _pictures(17, 20), generator.ups[0]
    shapes = generator.noise_shapes(picture)
    assert shapes == [[2, 18, 20, 1]]
    noise = [tf.random.stateless_normal(shape, [1, 1]) for shape in shapes]
    plain = generator(picture, training=False)
    np.testing.assert_array_equal(generator.translate_with_features(picture, [], True, noise)[0], plain)
    up.noise_strength.assign([0.5])
    try:
        noisy = generator.translate_with_features(picture, [], True, noise)[0]
        assert np.abs(noisy - plain).mean() > 0.01
        np.testing.assert_array_equal(generator(picture, training=False), plain)
        np.testing.assert_array_equal(generator(picture, training=True), plain)
    finally:
        up.noise_strength.assign([0.0])


@pytest.mark.parametrize("blocks, halvings", [(2, 1), (1, 2)])
def test_a_pixel_sees_no_further_than_it_says(blocks, halvings):
    generator = build_generator(_TINY.having(generator_blocks=blocks, stylegan2_downsamplings=halvings))
    reach, centre = generator.reach_px, 64
    assert reach % 2**halvings == 0
    for offset in range(2**halvings):
        picture = _pictures(128, 128, 1)
        with tf.GradientTape() as tape:
            tape.watch(picture)
            pixel = tf.reduce_sum(generator(picture)[0, centre + offset, centre + offset])
        seen = np.flatnonzero(np.abs(tape.gradient(pixel, picture)[0]).sum((1, 2)))
        assert centre + offset - reach <= seen[0] and seen[-1] <= centre + offset + reach
        assert seen[-1] - seen[0] > 1.5 * reach - 8, "the reach is no wild overestimate"


def test_tiles_give_the_whole_picture(generator):
    """reach 16, tiles of 24 px: edges, corners and an odd size. A level of difference is rounding."""
    translate = run.compile_generator(generator)
    picture = np.random.default_rng(0).integers(0, 256, (75, 60, 3), dtype=np.uint8)
    whole = run.translate_in_tiles(translate, picture, None)
    assert whole.std() > 20
    tiles = run.translate_in_tiles(translate, picture, generator.reach_px, tile_px=24)
    assert np.abs(tiles.astype(int) - whole).max() <= 1
    # The test sees seams where there are some.
    seams = run.translate_in_tiles(translate, picture, 2, tile_px=24)
    assert np.abs(seams.astype(int) - whole).max() > 10


def test_scores_are_one_per_picture_and_flattened_by_channel():
    discriminator = build_discriminator(_TINY, seed=2)
    pictures = _pictures(32, 32, 3)
    scores = discriminator(pictures, training=True)
    assert scores.shape == (3, 1) and scores.dtype == tf.float32
    hidden = discriminator.stem(pictures)
    for block in discriminator.blocks:
        hidden = block(hidden)
    hidden = discriminator.last_conv(hidden).numpy()
    assert hidden.shape == (3, 4, 4, 64)
    kernel = discriminator.dense.kernel.numpy().reshape(64, 4, 4, 64)  # channel, row, column
    dense = np.sqrt(2) * tf.nn.leaky_relu(np.einsum("byxc,cyxu->bu", hidden, kernel) / 32, 0.2).numpy()
    np.testing.assert_allclose(scores, dense @ discriminator.score.kernel.numpy() / 8, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_close_and_ends_in_float32(generator, policy):
    rounded = build_generator(_TINY, seed=1, dtype=policy)
    pictures = _pictures(32, 32)
    output = rounded(pictures)
    assert output.dtype == tf.float32 and rounded.encode(pictures, [2])[0].dtype == policy.replace("mixed_", "")
    np.testing.assert_allclose(output, generator(pictures), atol=0.2)
    assert build_discriminator(_TINY, dtype=policy)(pictures).dtype == tf.float32


@pytest.mark.parametrize("changes, message", [
    ({"stylegan2_size_px": 48}, "--stylegan2_size_px must be one of 8, 16, .*, 1024 here, found 48"),
    ({"stylegan2_size_px": 8, "stylegan2_downsamplings": 2}, "--stylegan2_size_px must be one of 16, .* found 8"),
    ({"stylegan2_size_px": 1024, "ngf": 1}, "--ngf must be higher with --stylegan2_size_px=1024"),
])
def test_sizes_without_a_place_in_the_table_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        build_generator(_TINY.having(discriminator="patch", **changes))


def test_the_discriminator_refuses_other_sizes():
    with pytest.raises(InputError, match="--ndf must be higher"):
        build_discriminator(_TINY.having(stylegan2_size_px=512, crop_size_px=512, load_size_px=512))
    with pytest.raises(InputError, match="--stylegan2_size_px must be the size of the pic.* found 32 and .* 16x32"):
        build_discriminator(_TINY)(_pictures(32, 16))


def test_output_beyond_the_range_is_cut_for_users(generator):
    output = generator(10.0 * _pictures(16, 16))
    assert float(tf.reduce_max(output)) > 1 and images.to_bytes(output).dtype == tf.uint8
