"""What can be asked of an export, whatever its format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from cut_tf.common import images
from cut_tf.common.errors import InputError

# Of an encoded picture, in pixels: a server must not be filled by one request.
DEFAULT_PIXEL_LIMIT = 1_048_576
# --quantize of TFLite. What each does and what it must keep is in `tflite.conversion`.
QUANTIZATIONS = {"none": "float32", "float16": "weights in float16", "dynamic": "weights in int8",
                 "int8": "convolutions in int8"}

# --precision of SavedModels. The second one has a quality gate.
HALF = "bfloat16"
PRECISIONS = {"float32": "as exact as training in it", HALF: "half of the digits, less time"}
# --serve_on.
SERVE_ON = {"cpu": "forms that take less time on CPUs, picture by picture", "gpu": "TensorFlow's own operations"}


class Size(NamedTuple):
    """Height and width of a picture, in pixels."""

    height_px: int
    width_px: int

    def __str__(self) -> str:
        return f"{self.height_px}x{self.width_px}"


class ExportOptions(NamedTuple):
    """How a generator is exported. A format leaves what does not concern it alone.

    Attributes:
      sizes: saved_model, hub: sizes of the warm-up pictures, none makes no warm-up. tflite, hub: input sizes, a file
        each; none makes one file that takes any size.
      pixel_limit: saved_model, hub, space: greatest height times width of an encoded picture.
      quantize: tflite, hub: a key of QUANTIZATIONS.
      representative: tflite, hub, saved_model in bfloat16: typical inputs, see `cut_tf.export.representative`; what
        the quality gate and int8 look at, and what a hub folder shows.
      allow_quality_loss: the same formats: write the model even if it misses the gate's PSNR.
      license: tflite, hub, space: of the weights, for the metadata inside the file, and for the card.
      unit_range: tflite, hub: input and output of .tflite files in [0, 1] instead of [-1, 1].
      precision: saved_model: a key of PRECISIONS; that of the training if empty.
      serve_on: saved_model: a key of SERVE_ON; the kind that this machine has if empty.
    """

    sizes: tuple[Size, ...] = ()
    pixel_limit: int = DEFAULT_PIXEL_LIMIT
    quantize: str = "none"
    representative: str | Path = "scenes"
    allow_quality_loss: bool = False
    license: str = "not stated"
    unit_range: bool = False
    precision: str = ""
    serve_on: str = ""


DEFAULTS = ExportOptions()


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Sizes from `HxW[,HxW...]`, such as 256x256,480x640; none from an empty text.

    Raises:
      InputError: if it is written otherwise, a side is below images.MIN_SIDE_PX, or a size stands there twice.
    """
    sizes = []
    for part in text.split(",") if text else []:
        found = re.fullmatch(r"\s*([0-9]{1,5})x([0-9]{1,5})\s*", part)
        if not found:
            raise InputError(f"--size must be height x width in pixels, such as 256x256,480x640, found {text!r}")
        sizes.append(Size(int(found[1]), int(found[2])))
        if min(sizes[-1]) < images.MIN_SIDE_PX:
            raise InputError(f"--size must have sides of at least {images.MIN_SIDE_PX} px, found {sizes[-1]}")
    if len(set(sizes)) < len(sizes):
        raise InputError(f"--size must name every size once, found {text!r}")
    return tuple(sizes)
