"""PSNR against scikit-image and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.metrics import METRICS
from cut_tf.metrics.psnr import psnr


def _pair(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright gradient as in a hazy sky, and the same with noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[0:height, 0:width]
    clean = np.stack([150 + 80 * row / height, 190 + 50 * column / width, 240 + 0 * row], axis=-1)
    noisy = clean + rng.normal(0, 1 + 4 * seed, clean.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), clean.astype(np.uint8)


@pytest.mark.parametrize("size", [(11, 11), (64, 97), (133, 51)])
def test_equals_scikit_image_for_each_image_of_a_batch(size):
    pairs = [_pair(*size, seed) for seed in range(3)]
    prediction, target = (np.stack(images) for images in zip(*pairs))
    expected = [peak_signal_noise_ratio(clean, noisy, data_range=255) for noisy, clean in pairs]
    result = psnr(prediction, target)
    assert result.dtype == tf.float32 and result.shape == [3]
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_hand_computed():
    target = np.zeros((1, 2, 2, 3), np.uint8)
    prediction = target.copy()
    prediction[0, 0, 0] = 51  # mean squared difference 51^2 / 4, so the ratio is (2 * 255 / 51)^2 = 100
    np.testing.assert_allclose(psnr(prediction, target), [20.0], atol=1e-5)


def test_black_against_white_is_zero_and_differences_do_not_wrap_around():
    black, white = np.zeros((1, 3, 3, 3), np.uint8), np.full((1, 3, 3, 3), 255, np.uint8)
    np.testing.assert_allclose([psnr(black, white)[0], psnr(white, black)[0]], [0.0, 0.0], atol=1e-5)


def test_identical_is_infinite():
    image = _pair(16, 16, 1)[0][None]
    assert np.isposinf(psnr(image, image).numpy()).all()


def test_in_a_graph_of_unknown_sizes():
    prediction, target = (image[None] for image in _pair(20, 31, 1))
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)] * 2
    compiled = tf.function(METRICS["psnr"], input_signature=signature)
    np.testing.assert_allclose(compiled(prediction, target), psnr(prediction, target), atol=1e-5)


def test_other_shapes_are_named():
    image = np.zeros((1, 16, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 16, 12, 3\).*\(1, 16, 13, 3\)"):
        psnr(image, np.zeros((1, 16, 13, 3), np.uint8))
    with pytest.raises(ValueError, match=r"target: expected uint8 \[B, H, W, 3\], got float32"):
        psnr(image, image.astype(np.float32))
    with pytest.raises(ValueError, match=r"prediction: expected uint8 \[B, H, W, 3\], got uint8 \(16, 12, 3\)"):
        psnr(image[0], image[0])
