"""What every measure of a picture against another keeps to: walks the table `METRICS`."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import color, metrics as reference

from cut_tf.metrics import METRICS

_LEVELS = 255


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    """skimage's with the window of the paper, over windows inside the picture."""
    return reference.structural_similarity(one, other, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                           use_sample_covariance=False, data_range=_LEVELS)


# Of an independent library, for uint8 pictures [H, W, 3].
_REFERENCE = {
    "psnr": lambda one, other: reference.peak_signal_noise_ratio(other, one, data_range=_LEVELS),
    "ssim": _ssim,
    "mse": reference.mean_squared_error,
    "ciede2000": lambda one, other: np.mean(color.deltaE_ciede2000(color.rgb2lab(one), color.rgb2lab(other))),
}
every_measure = pytest.mark.parametrize("name, measure", METRICS.items())


def _pair(noise: float, shape: tuple[int, ...] = (40, 52, 3)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    one = np.clip(np.linspace(0, 255, shape[1])[None, :, None] + rng.normal(0, 20, shape), 0, 255)
    return one.astype(np.uint8), np.clip(one + rng.normal(0, noise, shape), 0, 255).astype(np.uint8)


def _value(measure: object, one: np.ndarray, other: np.ndarray) -> float:
    return float(np.squeeze(measure(one[None], other[None])))


@every_measure
def test_it_is_that_of_an_independent_library(name, measure):
    for noise in (1.0, 8.0, 60.0):
        one, other = _pair(noise)
        assert _value(measure, one, other) == pytest.approx(_REFERENCE[name](one, other), rel=2e-4), noise


@every_measure
def test_it_tells_equal_pictures_worse_ones_and_the_order(name, measure):
    one, other = _pair(10.0)
    assert _value(measure, one, other) == pytest.approx(_value(measure, other, one), rel=1e-5)
    values = [_value(measure, *_pair(noise)) for noise in (0.0, 5.0, 20.0, 60.0)]
    assert values == sorted(values, reverse=METRICS[name].better == "higher")
    assert values[0] == pytest.approx({"psnr": np.inf, "ssim": 1.0}.get(name, 0.0), abs=1e-6)


@every_measure
def test_pictures_of_a_batch_are_measured_one_by_one(name, measure):
    pairs = [_pair(5.0), _pair(30.0)]
    together = np.asarray(measure(np.stack([one for one, _ in pairs]), np.stack([other for _, other in pairs])))
    assert together.shape == (2,)
    assert together == pytest.approx([_value(measure, *pair) for pair in pairs], rel=1e-5)


@every_measure
def test_pictures_of_other_sizes_are_refused(name, measure):
    one, other = _pair(1.0)[0], _pair(1.0, (40, 50, 3))[0]
    with pytest.raises(ValueError, match="40"):
        measure(one[None], other[None])
