"""CIEDE2000, the colour difference of CIE 142-2001, between 8-bit sRGB pictures. Computed with NumPy.

The formula is that of Sharma, Wu, Dalal: The CIEDE2000 Color-Difference Formula, Color Research and Application 30
(2005). The code keeps its names: L', C' and h' are lightness, chroma and hue; G, T, R_C and S are its own terms.
scikit-image has the same function, and tests compare with it. It is no run-time package because of its size.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cut_tf.metrics.psnr import MAX_LEVEL, check_pair

# Linear sRGB (primaries of ITU-R BT.709) to CIE XYZ, and the white D65 for the 2 degree observer.
_XYZ_OF_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_LAB_LINEAR_BELOW = (6 / 29) ** 3
_CHROMA_25_7 = 25.0**7
# Pixels at a time, which bounds the memory for photographs of many megapixels.
_CHUNK_PIXELS = 1 << 15


def ciede2000(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean CIEDE2000 colour difference, for each image over all its pixels.

    Colours are sRGB under D65 (2 degree observer), the weights kL, kC and kH are 1. The same number as the mean of
    scikit-image's `deltaE_ciede2000(rgb2lab(target), rgb2lab(prediction))`. Not for use in a graph.

    Args:
      prediction: uint8 [B, H, W, 3], tensor or array.
      target: uint8 of the same shape.

    Returns:
      float32 [B], zero or more; 100 between black and white, about 1 is just noticeable, 0 where both pictures are
      identical. Lower is better.

    Raises:
      ValueError: if dtype or shape differ from that, or the shapes differ.
    """
    check_pair(tf.convert_to_tensor(prediction), tf.convert_to_tensor(target))
    pairs = zip(np.asarray(prediction), np.asarray(target))
    return tf.constant([_mean_difference(one, other) for one, other in pairs], tf.float32)


def _mean_difference(prediction: np.ndarray, target: np.ndarray) -> float:
    """uint8 [H, W, 3] twice."""
    one, other, total = prediction.reshape(-1, 3), target.reshape(-1, 3), 0.0
    for start in range(0, len(one), _CHUNK_PIXELS):
        chunk = slice(start, start + _CHUNK_PIXELS)
        total += float(colour_difference(lab_of_rgb(one[chunk]), lab_of_rgb(other[chunk])).sum())
    return total / len(one)


def lab_of_rgb(colours: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours: uint8 [..., 3] to float64 [..., 3], L* in [0, 100], a* and b* within about +-110."""
    level = np.arange(256) / MAX_LEVEL
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    relative = linear[colours] @ (_XYZ_OF_RGB.T / _WHITE_D65)
    root = np.where(relative > _LAB_LINEAR_BELOW, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 with kL = kC = kH = 1, of CIELAB colours: float [..., 3] twice to float64 [...]. Symmetric."""
    (light_1, a_1, b_1), (light_2, a_2, b_2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    stretch = 1.5 - 0.5 * _saturation((np.hypot(a_1, b_1) + np.hypot(a_2, b_2)) / 2)  # 1 + G
    (chroma_1, hue_1), (chroma_2, hue_2) = _polar(stretch * a_1, b_1), _polar(stretch * a_2, b_2)
    grey = (chroma_1 == 0) | (chroma_2 == 0)
    turn, hue = _turn_and_mean(hue_1, hue_2, grey)
    light, chroma = (light_1 + light_2) / 2, (chroma_1 + chroma_2) / 2

    tint = (1 - 0.17 * np.cos(hue - np.radians(30)) + 0.24 * np.cos(2 * hue)
            + 0.32 * np.cos(3 * hue + np.radians(6)) - 0.20 * np.cos(4 * hue - np.radians(63)))  # T
    light_scale = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)  # S_L
    light_part = (light_2 - light_1) / light_scale
    chroma_part = (chroma_2 - chroma_1) / (1 + 0.045 * chroma)
    hue_part = 2 * np.sqrt(chroma_1 * chroma_2) * np.sin(turn / 2) / (1 + 0.015 * chroma * tint)
    rotation = np.radians(60) * np.exp(-((np.degrees(hue) - 275) / 25) ** 2)  # 2 delta theta, in the blue
    mixed = -2 * _saturation(chroma) * np.sin(rotation) * chroma_part * hue_part
    return np.sqrt(np.maximum(light_part**2 + chroma_part**2 + hue_part**2 + mixed, 0.0))


def _saturation(chroma: np.ndarray) -> np.ndarray:
    """Half of R_C: 0 for greys, close to 1 for vivid colours."""
    power = chroma**7
    return np.sqrt(power / (power + _CHROMA_25_7))


def _polar(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chroma, and hue in [0, 2 pi), which is 0 for greys."""
    chroma = np.hypot(a, b)
    return chroma, np.where(chroma == 0, 0.0, np.arctan2(b, a) % (2 * np.pi))


def _turn_and_mean(hue_1: np.ndarray, hue_2: np.ndarray, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shorter way from one hue to the other, and the hue half-way. If one colour is grey, the other's hue."""
    turn, total = hue_2 - hue_1, hue_1 + hue_2
    far = np.abs(turn) > np.pi
    turn = np.where(far, turn - 2 * np.pi * np.sign(turn), turn)
    half_way = np.where(far, total + np.where(total < 2 * np.pi, 2 * np.pi, -2 * np.pi), total) / 2
    return turn, np.where(grey, total, half_way)
