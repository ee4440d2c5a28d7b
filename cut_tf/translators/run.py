"""The trained generator of a run, ready to translate pictures of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from cut_tf import compat, networks
from cut_tf.checkpoints import CheckpointStore, read_settings, run_and_step
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.common.windows import row_bands
from cut_tf.data.transforms import Preprocessing
from cut_tf.layers.kernels import fast_at_any_size
from cut_tf.networks.generators.resnet import ResnetGenerator
from cut_tf.translators.tiles import ResnetTiles

# Side of a tile. SinCUT's generator needs about half a GB for the features of one.
TILE_PX = 512
# Pixels of the largest picture that CUT's ResNet translates as a whole. It takes 1.7 KB for each of them.
MOST_PIXELS_AT_ONCE = 2**20
# Pixels of the largest picture for generators that average over all of it, and so cannot work in tiles. They take 156 B
# (mobile), 290 B (gunet) and 1 KB (aecrnet) per pixel: 10 GB for the largest.
MOST_PIXELS = {"mobile": 2**26, "gunet": 2**25, "aecrnet": 2**23}


class Translator:
    """Translates uint8 pictures with the generator of a run.

    Generators with a finite reach, `reach_px`, translate large pictures in tiles, with the same result, in a memory
    that does not depend on the picture's size. ResNets with instance norm do so from MOST_PIXELS_AT_ONCE pixels on, by
    `ResnetTiles`. All others refuse pictures of more than MOST_PIXELS pixels.

    Args:
      run: folder of the run, or DIR@STEP for one of its checkpoints.
      weights: best, the checkpoint with the best metric; ema, the newest one; both with the running means of the
        weights if the run kept them; last, the newest one's raw weights. ema if empty.
      size: native translates at the picture's own size; train resizes to the size that training saw first, and the
        result back to the picture's size.
      precision: float32 or bfloat16; that of the training if empty.

    Raises:
      InputError: if the folder is no run, or has no such weights.
    """

    def __init__(self, run: str | Path, weights: str = "", size: str = "native",
                 precision: str = "") -> None:
        run, step = run_and_step(run)
        self.settings = read_settings(run)
        keeps_means = self.settings.optimizer.ema_decay > 0
        if weights == "ema" and not keeps_means:
            raise InputError(f"--weights=ema needs a run with --ema_decay above 0, found 0 in {run / 'settings.json'}")
        store = self._store = CheckpointStore(run, keep=1, writes=False)
        if step is not None and weights == "best":
            raise InputError(f"--weights must be ema or last with --run=DIR@STEP, found best with {run}@{step}")
        self.step = store.find(weights or "ema") if step is None else store.check(step)
        policy = networks.POLICIES[precision or self.settings.devices.precision]
        self.generator = networks.build_generator(self.settings, dtype=policy)
        prefix = "ema_generator" if keeps_means and weights != "last" else "generator"
        self.restore(self.generator, prefix)
        self._preprocessing = Preprocessing.of(self.settings.data) if size == "train" else None
        self._compiled = compile_generator(self.generator)
        sees_all = self.generator.reach_px is None
        self._tiles = ResnetTiles(self.generator) if sees_all and isinstance(self.generator, ResnetGenerator) else None

    def has(self, network: str) -> bool:
        """Whether the checkpoint holds that network of the run, such as discriminator."""
        return network in self._store.networks(self.step)

    def restore(self, network: keras.Model, name: str) -> None:
        """Sets all weights of a network from those that the checkpoint has under that network's name.

        Raises:
          InputError: if the checkpoint is damaged or has other weights.
        """
        named = compat.named_weights(network)
        self._store.restore({f"{name}/{key}": variable for key, variable in named.items()}, self.step, partial=True)

    @property
    def traces(self) -> int:
        """How many times the generator was traced: once, however many sizes it has translated."""
        return self._compiled.experimental_get_tracing_count()

    def __call__(self, picture: np.ndarray, where: str = "picture") -> np.ndarray:
        """Translates one picture.

        Args:
          picture: uint8 [H, W, 3].
          where: its name, for messages.

        Returns:
          uint8 [H, W, 3].

        Raises:
          InputError: if a side is below images.MIN_SIDE_PX, or the picture too large for this generator.
        """
        images.check_image(picture, where)
        seen = picture if self._preprocessing is None else self._preprocessing.resize(picture)
        output = self._translated(seen, where)
        if output.shape == picture.shape:
            return output
        size = (picture.shape[1], picture.shape[0])
        return np.asarray(Image.fromarray(output).resize(size, Image.Resampling.BICUBIC))

    def _translated(self, picture: np.ndarray, where: str) -> np.ndarray:
        pixels, reach_px = picture.shape[0] * picture.shape[1], self.generator.reach_px
        if self._tiles is not None and pixels > MOST_PIXELS_AT_ONCE:
            return self._tiles(picture)
        name = self.settings.generator.generator
        if pixels > MOST_PIXELS.get(name, pixels):
            raise InputError(f"{where}: pictures must have at most {MOST_PIXELS[name]} pixels for --generator={name}, "
                             f"found {picture.shape[1]}x{picture.shape[0]}; --size=train makes it smaller")
        return translate_in_tiles(self._compiled, picture, reach_px)


def translate_in_tiles(translate: Callable[[np.ndarray], tf.Tensor], picture: np.ndarray, reach_px: int | None,
                       tile_px: int = TILE_PX) -> np.ndarray:
    """Translates a picture in tiles that overlap by the generator's reach.

    Args:
      translate: uint8 [1, H, W, 3] to uint8 of the same shape.
      picture: uint8 [H, W, 3].
      reach_px: a pixel of the result depends on pixels up to this distance; a multiple of the generator's downsampling.
        None if it depends on the whole picture, which is then translated at once.
      tile_px: side of a tile without its surroundings; a multiple of the generator's downsampling.

    Returns:
      uint8 [H, W, 3].
    """
    if reach_px is None or max(picture.shape[:2]) <= tile_px:
        return translate(picture[None]).numpy()[0]
    output = np.empty_like(picture)
    for rows, inside_rows, band in row_bands(picture.shape[0], reach_px, tile_px):
        for columns, inside_columns, strip in row_bands(picture.shape[1], reach_px, tile_px):
            tile = translate(picture[rows, columns][None]).numpy()[0]
            output[band, strip] = tile[inside_rows, inside_columns]
    return output


def compile_generator(generator: keras.Model) -> tf.types.experimental.GenericFunction:
    """uint8 [1, H, W, 3] to uint8 of the same shape, traced once for all sizes."""

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)], autograph=False)
    def translate(picture: tf.Tensor) -> tf.Tensor:
        with fast_at_any_size():
            return images.to_bytes(generator(images.from_bytes(picture), training=False))

    return translate
