"""BRISQUE (Mittal, Moorthy, Bovik, TIP 2012) as the package `brisque` (extra `quality`) computes it, with its model.

How natural a picture looks, without another to compare with: lower is better, about 0 to 100. It was learned from
people's opinions of blur, noise and JPEG, not of haze: dehazed pictures that are crisp and wrong get good values.
Values of other implementations differ by several points, since each has a model of its own.
"""

from __future__ import annotations

import importlib.metadata
import math
import warnings
from collections.abc import Callable

import numpy as np

from cut_tf.common.errors import InputError

_LEAST_SIDE_PX = 16
# Those of scikit-image's rgb2gray, which the package takes, of values in [0, 1].
_LUMA_WEIGHTS = np.array([0.2125, 0.7154, 0.0721]) / 255.0
DEFINITION = (
    "BRISQUE (Mittal et al. 2012): how natural a picture looks, about 0 to 100, lower is better; of the luma of the "
    "whole picture and of half its size, by the Python package brisque {version} and the model in it. It does not "
    "compare with values of other implementations, and has no finite value for flat pictures.")


def brisque_scorer() -> Callable[[np.ndarray], float]:
    """A function of a picture, uint8 [H, W, 3] RGB, that returns its BRISQUE, NaN if it is flat or below 16 px.

    Raises:
      InputError: if the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old names of SciPy's modules
            from brisque import BRISQUE
    except ImportError as error:
        raise InputError(f"--brisque must be left out unless the package brisque is installed (pip install "
                         f"'.[quality]'), found {error}") from error
    scorer = BRISQUE(url=False)
    return lambda picture: _score(scorer, picture)


def definition() -> str:
    """What was computed, with the version of the package."""
    return DEFINITION.format(version=importlib.metadata.version("brisque"))


def _score(scorer: object, picture: np.ndarray) -> float:
    """What `scorer.score` computes, but for its mixture of numbers and arrays, which NumPy 2.4 refuses."""
    if min(picture.shape[:2]) < _LEAST_SIDE_PX or np.ptp(picture) == 0:
        return math.nan
    import cv2  # the package needs it too

    grey = picture.astype(np.float64) @ _LUMA_WEIGHTS
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        features = [np.asarray(value).item() for scale in (grey, half)
                    for value in scorer.calculate_brisque_features(scale, kernel_size=7, sigma=7 / 6)]
    return float(scorer.calculate_image_quality_score(features)) if np.isfinite(features).all() else math.nan
