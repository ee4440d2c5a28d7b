"""Translates large pictures with a ResNet with instance norm, in tiles, with the same result as at once.

An instance norm divides by the standard deviation over the whole picture, so tiles cannot be translated one by one. But
only the layers at high resolution take much memory, and these reach only a few pixels. They run in tiles, once for the
statistics of each of their norms and once more for the result. The residual blocks work at a quarter of the resolution,
on the whole picture. Measured with CUT's generator in float32: 1.5 times the time, and a peak of 1.2 GB for 1 megapixel
and of 1.4 GB for 2.4, where translation at once takes 1.7 GB a megapixel.

Statistics of a copy of half the size would cost less, but they change the picture: by 4 levels in the mean and 98 at
most, on 12 hazed photographs with the generator of cut_scenes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.windows import row_bands
from cut_tf.layers.convolution import Convolution
from cut_tf.layers.kernels import fast_at_any_size
from cut_tf.layers.norm import EPSILON
from cut_tf.networks.generators.resnet import MULTIPLE_PX, ResnetGenerator, Stage

# Reach of the layers at high resolution: 3 px for the 7x7 layer, 1 px at its scale for each 3x3 layer and each blur,
# together at most 12 px. 16 leaves a margin and is a multiple of the downsampling, 4.
_HALO_PX = 16
# (mean, variance) over all pixels, float32 [C] each.
Statistics = tuple[tf.Tensor, tf.Tensor]


class ResnetTiles:
    """Translates uint8 pictures of any size.

    Args:
      generator: with instance norm.
      tile_px: side of a tile without its surroundings, a multiple of 4.
    """

    def __init__(self, generator: ResnetGenerator, tile_px: int = 512) -> None:
        first = next(place for place, stage in enumerate(generator.stages) if stage.name.startswith(("block", "up")))
        last = first + sum(stage.kind == "block" for stage in generator.stages)
        self._tile_px = tile_px
        self._mirrors = generator.mirrors_odd_sizes
        self._head = _Parts(generator.stages[:first])
        self._tail = _Parts(generator.stages[last:])
        self._blocks = _compiled(lambda hidden: _run(generator.stages[first:last], (), hidden))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3], H and W of at least images.MIN_SIDE_PX, to the same."""
        height, width = picture.shape[:2]
        if self._mirrors:
            picture = np.pad(picture, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)), "reflect")
        hidden = self._in_tiles(self._head, picture, self._tile_px, _HALO_PX, images.from_bytes)
        hidden = self._blocks(hidden[None], [])[0].numpy()
        output = self._in_tiles(self._tail, hidden, self._tile_px // MULTIPLE_PX, _HALO_PX // MULTIPLE_PX, tf.identity)
        return images.to_bytes(output).numpy()[:height, :width]

    def _in_tiles(self, parts: _Parts, whole: np.ndarray, side: int, halo: int,
                  read: Callable[[np.ndarray], tf.Tensor]) -> np.ndarray:
        """[H, W, C] through some stages: [H', W', C']."""
        statistics: list[Statistics] = []
        for part in parts.before_norms:
            sums = _Sums()
            for _, core in _tiles(lambda tile, part=part: part(read(tile)[None], statistics)[0], whole, side, halo):
                sums.add(core)
            statistics.append(sums.statistics())
        result = None
        for (top, left, scale), core in _tiles(lambda tile: parts.to_the_end(read(tile)[None], statistics)[0], whole,
                                               side, halo):
            if result is None:
                size = [math.ceil(length * scale) for length in whole.shape[:2]]
                result = np.empty([*size, core.shape[-1]], core.dtype.as_numpy_dtype)
            result[top:top + core.shape[0], left:left + core.shape[1]] = core.numpy()
        return result


class _Parts:
    """The compiled runs of a sequence of stages: one up to each of its norms, and one to its end."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        norms = sum(stage.kind == "norm" for stage in stages)
        self.before_norms = [_compiled(lambda hidden, *known: _run(stages, known, hidden)) for _ in range(norms)]
        self.to_the_end = _compiled(lambda hidden, *known: _run(stages, known, hidden))


class _Sums:
    """Mean and variance per channel of pixels that are added in parts. In float64, so that no digits are lost."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, pixels: tf.Tensor) -> None:
        """Adds the pixels of [H, W, C]."""
        exact = tf.cast(pixels, tf.float64)
        self._count += pixels.shape[0] * pixels.shape[1]
        self._sum += tf.reduce_sum(exact, [0, 1])
        self._squares += tf.reduce_sum(exact * exact, [0, 1])

    def statistics(self) -> Statistics:
        mean = self._sum / self._count
        return tf.cast(mean, tf.float32), tf.cast(self._squares / self._count - mean * mean, tf.float32)


def _compiled(function: Callable[..., tf.Tensor]) -> Callable[[tf.Tensor, list[Statistics]], tf.Tensor]:
    """The function, traced once for tiles of all sizes."""

    @tf.function(reduce_retracing=True)
    def traced(hidden: tf.Tensor, *known: tf.Tensor) -> tf.Tensor:
        with fast_at_any_size():
            return function(hidden, *known)

    return lambda hidden, statistics: traced(hidden, *statistics)


def _run(stages: Sequence[Stage], known: Sequence[Statistics], hidden: tf.Tensor) -> tf.Tensor:
    """Runs stages [1, h, w, C] up to the first norm whose statistics are not known."""
    remaining = list(known)
    for index, stage in enumerate(stages):
        if stage.kind == "norm":
            if not remaining:
                return hidden
            mean, variance = remaining.pop(0)
            normed = (tf.cast(hidden, tf.float32) - mean) * tf.math.rsqrt(variance + EPSILON)
            hidden = tf.cast(normed, hidden.dtype)
        elif stage.kind == "relu":
            hidden = tf.nn.relu(hidden)
        elif isinstance(stage.layer, Convolution):
            hidden = stage.layer(hidden, adds_bias=index + 1 == len(stages) or stages[index + 1].kind != "norm")
        else:
            hidden = stage.layer(hidden)
    return hidden


def _tiles(function: Callable[[np.ndarray], tf.Tensor], whole: np.ndarray, side: int,
           halo: int) -> Iterator[tuple[tuple[int, int, float], tf.Tensor]]:
    """Yields ((top, left, scale), core): a tile's result without its surroundings, and its place in the result."""
    for rows, inside_rows, band in row_bands(whole.shape[0], halo, side):
        for columns, inside_columns, strip in row_bands(whole.shape[1], halo, side):
            tile = whole[rows, columns]
            result = function(tile)
            # A power of two; only the last tile of a row or column may have a side that it does not divide, rounded up.
            scale = 2.0 ** round(math.log2(result.shape[0] / tile.shape[0]))
            inside = [slice(int(part.start * scale), math.ceil(part.stop * scale))
                      for part in (inside_rows, inside_columns)]
            yield (int(band.start * scale), int(strip.start * scale), scale), result[inside[0], inside[1]]
