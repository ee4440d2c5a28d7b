"""A haze that no training here uses, to measure on: another model of light, another kind of depths.

Physical where `cut_tf.data.haze.scattering` follows RESIDE: light adds up in linear values, short waves are scattered
more, and the airlight is brighter on the side of the sun.
"""

from __future__ import annotations

import hashlib

import numpy as np

from cut_tf.data.haze.made_up_depths import make_up_depth
from cut_tf.data.haze.recipe import SKY_DEPTH_M

# The kind of depths that the flagfiles dehaze and dehaze_mobile leave out.
UNSEEN_DEPTHS = "ridges"
# Wavelengths of R, G and B in micrometres. Beta goes with their power -e: 0 in fog, 1.3 in dust-free haze (Angstrom).
_WAVES_UM = np.array([0.62, 0.54, 0.46])
_ANGSTROM = (0.2, 1.3)
_OPTICAL_DEPTH = (0.5, 2.5)
_AIRLIGHT = (0.55, 0.95)
# The airlight of the far side of the picture, as a share of that at the sun's.
_FAR_SIDE = (0.6, 0.95)
_SRGB_GAMMA = 2.2


def add_unseen_haze(image: np.ndarray, name: str) -> np.ndarray:
    """Haze that depends on the picture and its name alone: uint8 [H, W, 3] to the same."""
    rng = np.random.default_rng(list(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()))
    depth = np.minimum(make_up_depth(image, UNSEEN_DEPTHS, rng), SKY_DEPTH_M)
    far = np.quantile(depth, 0.98)
    beta = rng.uniform(*_OPTICAL_DEPTH) / far * (_WAVES_UM / _WAVES_UM[1])**-rng.uniform(*_ANGSTROM)
    share = np.exp(-depth[:, :, None] * beta)
    across = np.linspace(1.0, rng.uniform(*_FAR_SIDE), image.shape[1])[None, :, None]
    across = across[:, ::-1] if rng.random() < 0.5 else across
    light = rng.uniform(*_AIRLIGHT)**_SRGB_GAMMA * across
    linear = (image / 255.0)**_SRGB_GAMMA * share + light * (1 - share)
    return np.rint(255.0 * linear**(1 / _SRGB_GAMMA)).astype(np.uint8)
