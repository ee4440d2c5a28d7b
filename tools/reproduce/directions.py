"""Where a move of an output picture leads: towards the truth, out of the haze, back to the content.

By the scattering model a hazy picture is I = J t + A (1 - t), so the line from it to the truth J is
J - I = (J - A) (1 - t), with the true transmission t and airlight A. That is the haze direction of a picture. What an
output Y still lacks, J - Y, has a part along it, which is haze, and a part orthogonal to it, which is content: lost or
invented detail, and colours that no haze explains.

A picture is one vector of H W 3 numbers here. All arrays are float [B, H, W, 3] on one scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """What outputs lack.

    Attributes:
      haze: [B, H, W, 3], the direction truth - hazy.
      haze_left: [B], part of the haze that the output still has: 1 for the hazy input, 0 for the truth, below 0 if
        more was taken off than there was.
      content: [B, H, W, 3], truth - output without its part along the haze direction.
    """

    haze: np.ndarray
    haze_left: np.ndarray
    content: np.ndarray


class Alignment(NamedTuple):
    """Cosines of moves, each [B] in [-1, 1]; 0 where one of the two vectors is 0.

    Attributes:
      truth: with truth - output.
      haze: with truth - hazy; above 0 takes haze off, below 0 adds it.
      content: with the content that the output lacks; above 0 restores it.
    """

    truth: np.ndarray
    haze: np.ndarray
    content: np.ndarray


def split(output: np.ndarray, hazy: np.ndarray, truth: np.ndarray) -> Split:
    """The haze direction of each picture, and how far and where else the output is from the truth.

    Raises:
      ValueError: if the shapes differ, or are not [B, H, W, 3].
    """
    if not (output.ndim == 4 and output.shape == hazy.shape == truth.shape):
        raise ValueError(f"output, hazy and truth must have one shape [B, H, W, 3], found {list(output.shape)}, "
                         f"{list(hazy.shape)} and {list(truth.shape)}")
    output, hazy, truth = (np.asarray(pictures, np.float64) for pictures in (output, hazy, truth))
    haze, lacking = truth - hazy, truth - output
    square = _dot(haze, haze)
    left = np.divide(_dot(lacking, haze), square, out=np.zeros_like(square), where=square > 0)
    return Split(haze, left, lacking - left[:, None, None, None] * haze)


def alignment(move: np.ndarray, output: np.ndarray, hazy: np.ndarray, truth: np.ndarray) -> Alignment:
    """Cosines of a move of each output, such as the descent direction of a loss, with the three directions.

    Args:
      move: [B, H, W, 3], what would be added to the output.
      output: [B, H, W, 3].
      hazy: [B, H, W, 3], of the same scenes.
      truth: [B, H, W, 3], of the same scenes.

    Raises:
      ValueError: if the shapes differ.
    """
    parts = split(output, hazy, truth)
    if move.shape != output.shape:
        raise ValueError(f"move must have the shape of output, {list(output.shape)}, found {list(move.shape)}")
    lacking = np.asarray(truth, np.float64) - output
    return Alignment(*(cosine(move, direction) for direction in (lacking, parts.haze, parts.content)))


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of each pair of pictures, [B]; 0 where one of them is 0."""
    one, other = (np.asarray(pictures, np.float64) for pictures in (one, other))
    lengths = np.sqrt(_dot(one, one) * _dot(other, other))
    return np.divide(_dot(one, other), lengths, out=np.zeros_like(lengths), where=lengths > 0)


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis; 0 where one of the two does not vary."""
    one, other = (values - values.mean(-1, keepdims=True) for values in (one.astype(np.float64), other))
    lengths = np.sqrt((one * one).sum(-1) * (other * other).sum(-1))
    return np.divide((one * other).sum(-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("bhwc,bhwc->b", one, other)
