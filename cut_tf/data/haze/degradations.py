"""Degradations besides haze: dusk, noise, JPEG, as in the training of RIDCP (Wu et al., CVPR 2023).

Pictures are uint8 [H, W, 3] sRGB. Levels are those of 0 to 255.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from cut_tf.settings.haze import NOISE_KINDS


def darken(picture: np.ndarray, gamma: float) -> np.ndarray:
    """value^gamma of every value in [0, 1], rounded to levels: darker for gamma > 1. uint8 [H, W, 3]."""
    table = np.rint(255.0 * (np.arange(256) / 255.0) ** gamma).astype(np.uint8)
    return table[picture]


def noise(rng: np.random.Generator, height: int, width: int, deviation: float, kind: str) -> np.ndarray:
    """Gaussian noise of mean 0.

    Args:
      rng: source of randomness.
      height: rows.
      width: columns.
      deviation: standard deviation in levels; of `correlated` noise the root mean square over the channels.
      kind: `colour`, independent channels; `grey`, one noise for all channels; `correlated`, channels with a covariance
        matrix of random axes and random variances, as BSRGAN (Zhang et al., ICCV 2021) draws it.

    Returns:
      float32 [height, width, 3] in levels.

    Raises:
      ValueError: if the kind is another.
    """
    if kind not in NOISE_KINDS:
        raise ValueError(f"kind must be one of {', '.join(NOISE_KINDS)}, got {kind!r}")
    if kind == "grey":
        one = rng.standard_normal((height, width, 1), np.float32)
        return np.repeat(np.float32(deviation) * one, 3, axis=2)
    independent = rng.standard_normal((height, width, 3), np.float32)
    if kind == "colour":
        return np.float32(deviation) * independent
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    variances = rng.uniform(0.0, 1.0, 3)
    root = axes * np.sqrt(variances / variances.mean())
    return independent @ (deviation * root.T).astype(np.float32)


def add_noise(picture: np.ndarray, rng: np.random.Generator, deviation: float, kind: str) -> np.ndarray:
    """The picture with noise, rounded and cut to levels. Arguments as for `noise`."""
    noisy = picture + noise(rng, picture.shape[0], picture.shape[1], deviation, kind)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def compress(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture after Pillow's JPEG of a quality of 1 to 100, with its usual halved colour resolution."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
    with Image.open(file, formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))
