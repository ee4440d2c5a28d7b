"""The declared preprocessing: what is done to every picture, and what is drawn at random in training.

As in the official code it is bicubic resizing by Pillow, then a random crop, then random mirroring. --quarter_turns
adds random quarter turns.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from cut_tf.settings import DataSettings

# --preprocess=none cuts pictures to a multiple of this.
_MULTIPLE_PX = 4
# Largest factor by which zoom_and_crop reduces width and height, as in SinCUT's official code.
_MOST_ZOOM = 3.0
# Reach of the bicubic kernel, in pixels of the result.
_BICUBIC_REACH_PX = 2


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the settings say about sizes; saved with the run and used again at inference.

    Attributes:
      kind: resize_and_crop, scale_width, crop, zoom_and_crop or none.
      load_size_px: side or width after resizing; with zoom_and_crop, the largest length of the shorter side.
      crop_size_px: side of the training crop.
      flip: whether half of the training crops are mirrored.
      quarter_turns: whether training crops are turned by 0, 90, 180 or 270 degrees, with equal probability.
    """

    kind: str
    load_size_px: int
    crop_size_px: int
    flip: bool
    quarter_turns: bool = False

    @staticmethod
    def of(settings: DataSettings) -> Preprocessing:
        return Preprocessing(settings.preprocess, settings.load_size_px, settings.crop_size_px, settings.flip,
                             settings.quarter_turns)

    def size_after_resize(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels after `resize` of a picture of that size."""
        if self.kind == "resize_and_crop":
            return self.load_size_px, self.load_size_px
        if self.kind == "scale_width":
            scaled = int(self.load_size_px * height / width)
            return self.load_size_px, max(scaled, self.crop_size_px)
        if self.kind == "zoom_and_crop" and min(width, height) > self.load_size_px:
            scale = self.load_size_px / min(width, height)
            return round(width * scale), round(height * scale)
        return width, height

    def resize(self, image: np.ndarray) -> np.ndarray:
        """The part that is the same in training and at inference: uint8 [H, W, 3] to uint8 [h, w, 3]."""
        size = self.size_after_resize(image.shape[1], image.shape[0])
        if size == (image.shape[1], image.shape[0]):
            return image
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))

    def too_small(self, width: int, height: int) -> str:
        """The rule that a picture of that size breaks, or an empty string."""
        if min(self.size_after_resize(width, height)) < self.crop_size_px and self.kind != "none":
            return f"sides must be at least the crop of {self.crop_size_px} px with --preprocess={self.kind}"
        return ""

    def size_of_crop(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the training crop of a picture that has that size before `resize`."""
        if self.kind != "none":
            return self.crop_size_px, self.crop_size_px
        return width - width % _MULTIPLE_PX, height - height % _MULTIPLE_PX

    def crop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The random part: uint8 [h, w, 3] to uint8 [crop, crop, 3], or to a multiple of 4 with `none`."""
        height, width = image.shape[:2]
        if self.kind == "none":
            image = image[:height - height % _MULTIPLE_PX, :width - width % _MULTIPLE_PX]
        elif self.kind == "zoom_and_crop":
            image = self._zoomed_crop(image, rng)
        else:
            top = int(rng.integers(height - self.crop_size_px + 1))
            left = int(rng.integers(width - self.crop_size_px + 1))
            image = image[top:top + self.crop_size_px, left:left + self.crop_size_px]
        if self.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        if self.quarter_turns:
            image = np.rot90(image, int(rng.integers(4)))
        return np.ascontiguousarray(image)

    def _zoomed_crop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A crop of the picture reduced by a random factor per direction, drawn as in SinCUT's official code.

        Only the part that the crop shows is resized, with the pixels around it that bicubic interpolation needs.
        """
        sides, parts = [], []  # of columns and rows: the crop's place within the part that is resized
        for length, zoom in zip(image.shape[1::-1], rng.uniform(1.0 / _MOST_ZOOM, 1.0, size=2)):
            reduced = max(round(length * zoom), self.crop_size_px)
            first = int(rng.integers(reduced - self.crop_size_px + 1))
            start, end = first * length / reduced, (first + self.crop_size_px) * length / reduced
            margin = int(_BICUBIC_REACH_PX * length / reduced) + 2
            parts.append(slice(max(int(start) - margin, 0), int(end) + margin))
            sides.append((start - parts[-1].start, end - parts[-1].start))
        (left, right), (top, bottom) = sides
        part = Image.fromarray(image[parts[1], parts[0]])
        return np.asarray(part.resize((self.crop_size_px, self.crop_size_px), Image.Resampling.BICUBIC,
                                      box=(left, top, right, bottom)))
