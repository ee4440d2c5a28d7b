"""How much of a translation is kept: what --strength means, for pictures and in graphs. One definition for both.

input + strength (output - input), in levels from 0 to 255 and float32, rounded to the nearest level; halves to the even
one. At 0 that is the input and at 1 the output, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.common.images import Translate

if TYPE_CHECKING:
    import tensorflow as tf

# All of the translation, which is also what is meant if nobody says a strength.
FULL = 1.0
FLAG_HELP = "from 0, the input, to 1, all that the generator makes of it: input + strength (output - input)"


def check_strength(strength: float, name: str = "--strength") -> None:
    """Raises InputError, naming the flag or argument, unless the number lies in [0, 1]."""
    if not 0.0 <= strength <= FULL:
        raise InputError(f"{name} must be from 0, the input, to 1, the output, found {strength}")


def blend(source: np.ndarray, output: np.ndarray, strength: float, where: str = "picture") -> np.ndarray:
    """source + strength (output - source).

    Args:
      source: uint8 [..., 3].
      output: uint8 of the same shape.
      strength: from 0, the source, to 1, the output.
      where: the picture's name, for messages.

    Returns:
      uint8 of the same shape.

    Raises:
      InputError: if the strength is out of range, or the output has another size or other channels than the source.
    """
    check_strength(strength, "strength")
    if source.shape != output.shape or source.dtype != np.uint8 or output.dtype != np.uint8:
        raise InputError(f"{where}: input and output must be uint8 of one shape for a strength between them, found "
                         f"{source.dtype} {list(source.shape)} and {output.dtype} {list(output.shape)}")
    before = source.astype(np.float32)
    return np.rint(before + np.float32(strength) * (output.astype(np.float32) - before)).astype(np.uint8)


def blend_tensors(source: tf.Tensor, output: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """The same as `blend`, in a graph.

    Args:
      source: uint8, any shape.
      output: uint8 of the same shape.
      strength: float32 in [0, 1], scalar.
    """
    import tensorflow as tf  # here, so that --help need not wait for it

    before = tf.cast(source, tf.float32)
    return tf.cast(tf.round(before + strength * (tf.cast(output, tf.float32) - before)), tf.uint8)


def at_strength(translate: Translate, strength: float) -> Translate:
    """The same translation at a strength; it has a method `many` if the translation has one.

    Args:
      translate: uint8 [H, W, 3] to the same.
      strength: from 0 to 1, where nothing is added to the translation.

    Raises:
      InputError: if the strength is out of range. Calls raise it as `blend` does.
    """
    check_strength(strength)
    if strength == FULL:
        return translate
    return (_BlendedMany if hasattr(translate, "many") else _Blended)(translate, strength)


class _Blended:
    """A translation at a strength."""

    def __init__(self, translate: Translate, strength: float) -> None:
        self._translate, self._strength = translate, strength

    def __call__(self, picture: np.ndarray, where: str = "picture") -> np.ndarray:
        return blend(picture, self._translate(picture, where), self._strength, where)


class _BlendedMany(_Blended):
    """A translation that takes several pictures of one size at once."""

    def many(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As of the translation."""
        return [blend(picture, output, self._strength)
                for picture, output in zip(pictures, self._translate.many(pictures))]
