"""Dusk, noise and JPEG against scikit-image, TensorFlow's codec and the statistics that define them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skimage.exposure import adjust_gamma
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.data.haze import degradations


def _picture(seed=0, height=48, width=64):
    """Smooth colours with some texture, as JPEG is made for."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 20.0
    waves = np.stack([np.sin(rows + phase) + np.cos(columns * (1 + phase)) for phase in range(3)], axis=2)
    return np.clip(128 + 50 * waves + rng.normal(0, 4, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.2, 3.0])
def test_darkening_is_a_gamma(gamma):
    every_level = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found, expected = degradations.darken(every_level, gamma), adjust_gamma(every_level / 255.0, gamma) * 255.0
    assert np.abs(found - expected).max() <= 0.5 + 1e-9
    assert (found <= every_level).all()


@pytest.mark.parametrize("kind", ["colour", "grey", "correlated"])
def test_noise_has_the_deviation_that_was_asked_for(kind):
    found = degradations.noise(np.random.default_rng(1), 300, 300, 12.0, kind)
    assert found.shape == (300, 300, 3) and found.dtype == np.float32
    assert abs(found.mean()) < 0.3
    assert np.sqrt((found.astype(np.float64) ** 2).mean()) == pytest.approx(12.0, rel=0.02)
    # No pixel knows of its neighbour.
    assert abs(np.corrcoef(found[:, :-1, 0].ravel(), found[:, 1:, 0].ravel())[0, 1]) < 0.02


def test_kinds_of_noise_differ_in_how_channels_go_together():
    rng = np.random.default_rng(2)
    colour, grey, correlated = (np.corrcoef(degradations.noise(rng, 200, 200, 9.0, kind).reshape(-1, 3).T)[0, 1]
                                for kind in ("colour", "grey", "correlated"))
    assert abs(colour) < 0.02 and grey == pytest.approx(1.0) and 0.05 < abs(correlated) < 0.999
    with pytest.raises(ValueError, match="kind must be one of colour, grey, correlated, got 'pink'"):
        degradations.noise(rng, 4, 4, 1.0, "pink")


def test_noise_is_cut_to_levels():
    white = np.full((40, 40, 3), 255, np.uint8)
    noisy = degradations.add_noise(white, np.random.default_rng(0), 20.0, "colour")
    assert noisy.dtype == np.uint8 and 0.4 < (noisy == 255).mean() < 0.6


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_jpeg_loses_what_another_encoder_loses(quality):
    picture = _picture()
    encoded = tf.io.encode_jpeg(picture, quality=quality, chroma_downsampling=True)
    other = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy()
    found = degradations.compress(picture, quality)
    lost, lost_there = (peak_signal_noise_ratio(picture, jpeg) for jpeg in (found, other))
    assert lost == pytest.approx(lost_there, abs=0.5)
    assert np.abs(found.astype(int) - other).mean() < 0.5


def test_less_quality_loses_more():
    picture = _picture()
    losses = [peak_signal_noise_ratio(picture, degradations.compress(picture, quality)) for quality in (10, 50, 95)]
    assert losses == sorted(losses) and losses[2] - losses[0] > 5
