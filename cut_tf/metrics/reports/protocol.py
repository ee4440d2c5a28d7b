"""How the numbers of a folder report were computed."""

from __future__ import annotations

from collections.abc import Collection

import PIL
from PIL import features

from cut_tf.metrics import brisque
from cut_tf.metrics.no_reference import DEFINITIONS

_PAIRS = (
    "PSNR in dB with peak 255 over all pixels and channels. SSIM with an 11x11 Gaussian window of sigma 1.5, K1 0.01, "
    "K2 0.03, population covariance, mean over windows inside the image and over channels. CIEDE2000: mean over pixels "
    "of the colour difference in CIELAB (sRGB, D65, kL = kC = kH = 1). MSE in squared levels of 0 to 255. Identical "
    "images have no finite PSNR."
)


def decoder() -> str:
    """Names and versions of the libraries that turn files into pixels: what a JPEG holds depends on them."""
    turbo = features.version("libjpeg_turbo")
    return f"Pillow {PIL.__version__}, {f'libjpeg-turbo {turbo}' if turbo else 'libjpeg ' + features.version('jpg')}"


def protocol(measures: Collection[str], target_border_px: int = 0) -> list[str]:
    """How these measures were computed, a paragraph each.

    Args:
      measures: names out of `METRICS`, `NO_REFERENCE` and `QUALITY`.
      target_border_px: what was cut off each side of the targets.
    """
    cut = f", but for {target_border_px} px cut off each side of the targets" if target_border_px else ""
    paragraphs = [f"Full-size 8-bit RGB as decoded by {decoder()} (EXIF orientation applied, alpha dropped, no colour "
                  f"management); no resizing, no crop{cut}, no luma channel, as results on SOTS are reported. Mean "
                  "and standard deviation (divisor n) over the images with a finite value."]
    if "psnr" in measures:
        paragraphs.append(_PAIRS)
    if "contrast_gain" in measures:
        paragraphs.append("Without a true picture these say what changed, not whether it is right.")
        paragraphs += DEFINITIONS.values()
    if "brisque_output" in measures:
        paragraphs.append(brisque.definition())
    return paragraphs
