"""What is measured: of pairs, of clear pictures, and of pictures without truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cut_tf import command_line
from cut_tf.data.image_files import read_image
from cut_tf.metrics import METRICS
from cut_tf.metrics.no_reference import no_reference_scores
from cut_tf.metrics.skies import added_to_skies
from cut_tf.metrics.temporal import noise_gain
from tools.evaluate_dehazing.sets import Pair

# uint8 [H, W, 3] to the same.
Dehaze = Callable[[np.ndarray], np.ndarray]
PAIR_METRICS = ("psnr", "ssim", "ciede2000")
# Standard deviation, in levels, of the noise of a phone's sensor in daylight.
_NOISE_LEVELS = 2.0


def of_pairs(pairs: Iterable[Pair], models: Mapping[str, Dehaze], count: int) -> dict[str, dict[str, float]]:
    """Means of PAIR_METRICS over the pairs, by the model's name."""
    found: dict[str, list[list[float]]] = {name: [] for name in models}
    progress = command_line.progress_bar(count, "pair")
    for pair in pairs:
        for name, dehaze in models.items():
            output = dehaze(pair.hazy)
            found[name].append([float(METRICS[metric](output[None], pair.clear[None])[0]) for metric in PAIR_METRICS])
        progress.add(1)
    return {name: dict(zip(PAIR_METRICS, np.mean(scores, axis=0).tolist())) for name, scores in found.items()}


def of_clear(paths: Sequence[Path], pairs: Sequence[Pair], rendered: Mapping[str, Sequence[Pair]],
             dehaze: Dehaze) -> dict[str, float]:
    """What a model does to pictures that need no dehazing, and does when it is used again.

    Args:
      paths: photographs without haze.
      pairs: some with haze.
      rendered: more of them, by the kind of picture, for the noise alone.
      dehaze: the model.

    Returns:
      `clear_psnr`, in dB, mean and `clear_psnr_least` of output against input for pictures without haze;
      `once_psnr` and `twice_psnr`, against the truth, of one and of two applications to hazy pictures; `noise`, change
      of the output of a still picture with sensor noise as a multiple of the input's, the mean over hazy pictures, and
      `noise_KIND` of those of each kind.
    """
    kept = []
    for path in paths:
        picture = read_image(path)
        kept.append(min(_psnr(dehaze(picture), picture), 100.0))
    once = [dehaze(pair.hazy) for pair in pairs]
    return {"clear_psnr": float(np.mean(kept)), "clear_psnr_least": float(np.min(kept)),
            "once_psnr": float(np.mean([_psnr(output, pair.clear) for output, pair in zip(once, pairs)])),
            "twice_psnr": float(np.mean([_psnr(dehaze(output), pair.clear) for output, pair in zip(once, pairs)])),
            "noise": _noise(pairs, dehaze), **{f"noise_{kind}": _noise(of_kind, dehaze)
                                               for kind, of_kind in rendered.items()}}


def _noise(pairs: Sequence[Pair], dehaze: Dehaze) -> float:
    return float(np.mean([noise_gain(dehaze, pair.hazy, _NOISE_LEVELS) for pair in pairs]))


def _psnr(output: np.ndarray, target: np.ndarray) -> float:
    return float(METRICS["psnr"](output[None], target[None])[0])


def without_truth(pictures: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over pictures of real haze.

    Returns:
      `sky_colour` and `sky_structure`, see `cut_tf.metrics.skies`, over pictures with a smooth bright part;
      `dark_channel`, `contrast_gain` and `colourfulness` of the outputs, see `cut_tf.metrics.no_reference`.
    """
    skies = [added_to_skies(picture, output) for picture, output in zip(pictures, outputs)]
    scores = [no_reference_scores(output, picture) for picture, output in zip(pictures, outputs)]
    return {"sky_colour": _mean(sky.colour for sky in skies), "sky_structure": _mean(sky.structure for sky in skies),
            "dark_channel": _mean(score["dark_channel_output"] for score in scores),
            "contrast_gain": _mean(score["contrast_gain"] for score in scores),
            "colourfulness": _mean(score["colourfulness_output"] for score in scores)}


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
