"""SSIM against scikit-image, on noise and on the bright, smooth pictures where float32 is not enough."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skimage import data
from skimage.metrics import structural_similarity

from cut_tf.metrics import METRICS
from cut_tf.metrics.ssim import ssim


def _reference(prediction: np.ndarray, target: np.ndarray) -> float:
    return structural_similarity(target, prediction, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                 channel_axis=-1, data_range=255)


def _disturbed(image: np.ndarray, amount: int) -> np.ndarray:
    noise = np.random.default_rng(amount).integers(-amount, amount + 1, image.shape)
    return np.clip(image.astype(np.int32) + noise, 0, 255).astype(np.uint8)


def _sky(height: int, width: int) -> np.ndarray:
    """A bright gradient, as in a hazy sky: uint8 [H, W, 3]."""
    row, column = np.mgrid[0:height, 0:width]
    return np.stack([200 + 40 * row / height, 210 + 30 * column / width, 245 + 8 * row / height], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (67, 35)])
def test_equals_scikit_image_on_noise_for_each_image_of_a_batch(size):
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, 256, (2, 3, *size, 3), dtype=np.uint8)
    prediction[2] = _disturbed(target[2], 20)
    result = ssim(prediction, target)
    assert result.dtype == tf.float32 and result.shape == [3]
    np.testing.assert_allclose(result, [_reference(*pair) for pair in zip(prediction, target)], atol=1e-6)


@pytest.mark.parametrize("amount", [1, 5])
def test_equals_scikit_image_on_bright_smooth_pictures(amount):
    target = _sky(401, 243)
    prediction = _disturbed(target, amount)
    np.testing.assert_allclose(ssim(prediction[None], target[None]), [_reference(prediction, target)], atol=1e-6)


def test_equals_scikit_image_on_a_photograph_and_its_hazy_version():
    target = data.astronaut()[:301, 100:]
    hazy = (0.4 * target + 150).astype(np.uint8)
    expected = _reference(hazy, target)
    assert 0.3 < expected < 0.9
    np.testing.assert_allclose(ssim(hazy[None], target[None]), [expected], atol=1e-6)


def test_bands_of_a_tall_picture_leave_no_seam():
    target = np.concatenate([_sky(300, 13), data.astronaut()[:260, :13]])  # bands of unlike content
    prediction = _disturbed(target, 9)
    np.testing.assert_allclose(ssim(prediction[None], target[None]), [_reference(prediction, target)], atol=1e-6)


def test_two_flat_pictures_have_the_luminance_term_alone():
    dark, light = np.full((1, 12, 15, 3), 100, np.uint8), np.full((1, 12, 15, 3), 200, np.uint8)
    constant = 2.55**2
    expected = (2 * 100 * 200 + constant) / (100**2 + 200**2 + constant)
    np.testing.assert_allclose(ssim(dark, light), [expected], atol=1e-6)


def test_identical_is_one():
    image = _disturbed(_sky(30, 41), 30)[None]
    np.testing.assert_allclose(ssim(image, image), [1.0], atol=1e-7)


def test_in_a_graph_of_unknown_sizes():
    target = _sky(300, 31)[None]
    prediction = _disturbed(target, 5)
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)] * 2
    compiled = tf.function(METRICS["ssim"], input_signature=signature)
    np.testing.assert_allclose(compiled(prediction, target), ssim(prediction, target), atol=1e-6)


def test_small_sides_and_other_shapes_are_named():
    image = np.zeros((1, 11, 10, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11 px, found 10x11"):
        ssim(image, image)
    with pytest.raises(ValueError, match=r"\(1, 11, 10, 3\).*\(2, 11, 10, 3\)"):
        ssim(image, np.zeros((2, 11, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="target: expected uint8"):
        ssim(image, image / 255)
