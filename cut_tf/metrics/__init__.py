"""Metrics by name, and how they are printed."""

from __future__ import annotations

import dataclasses

from cut_tf.common.registry import Row


@dataclasses.dataclass(frozen=True)
class Metric(Row):
    """A row of `METRICS` or `DISTANCES`.

    Attributes:
      label: name in tables, with the unit.
      digits: decimals in tables.
      better: "higher" or "lower"; "-" if neither is better.
      in_training: whether training measures it at --eval_steps, and can keep the best checkpoint by it.
    """

    label: str = ""
    digits: int = 4
    better: str = "-"
    in_training: bool = False


# Of a prediction against its target: uint8 [B, H, W, 3] twice to float32 [B].
METRICS = {
    "psnr": Metric("cut_tf.metrics.psnr:psnr", "peak signal-to-noise ratio", label="PSNR dB", digits=3,
                   better="higher", in_training=True),
    "ssim": Metric("cut_tf.metrics.ssim:ssim", "structural similarity (Wang et al., 2004)", label="SSIM",
                   better="higher", in_training=True),
    "ciede2000": Metric("cut_tf.metrics.ciede2000:ciede2000", "colour difference (Sharma et al., 2005)",
                        label="CIEDE2000", digits=3, better="lower"),
    "mse": Metric("cut_tf.metrics.mse:mse", "mean squared error in squared levels of 0 to 255", label="MSE", digits=1,
                  better="lower"),
}
# Of two sets of pictures: `distances.FeatureStatistics` twice to `distances.Distance`.
DISTANCES = {
    "fid": Metric("cut_tf.metrics.distances:fid", "Frechet Inception distance (Heusel et al., 2017)", label="FID",
                  better="lower", in_training=True),
    "kid": Metric("cut_tf.metrics.distances:kid", "kernel Inception distance (Binkowski et al., 2018)", label="KID",
                  better="lower", in_training=True),
}
# Of a prediction and the input that it was made from, without a target. One call computes them all.
_SCORES = "cut_tf.metrics.no_reference:no_reference_scores"
NO_REFERENCE = {
    "dark_channel_input": Metric(_SCORES, "haze in the input (He et al., 2009)", label="dark channel, input"),
    "dark_channel_output": Metric(_SCORES, "haze in the output", label="dark channel, output"),
    "contrast_gain": Metric(_SCORES, "local contrast of the output / of the input", label="contrast gain"),
    "colourfulness_input": Metric(_SCORES, "of the input (Hasler and Suesstrunk, 2003)", label="colourfulness, input",
                                  digits=2),
    "colourfulness_output": Metric(_SCORES, "of the output", label="colourfulness, output", digits=2),
}
# Of a prediction, and of the picture that it was made from, by a package that is not always there (--brisque).
_BRISQUE = "cut_tf.metrics.brisque:brisque_scorer"
QUALITY = {
    "brisque_input": Metric(_BRISQUE, "naturalness of the input (Mittal et al., 2012)", label="BRISQUE, input",
                            digits=2, better="lower"),
    "brisque_output": Metric(_BRISQUE, "naturalness of the output", label="BRISQUE, output", digits=2,
                             better="lower"),
}
# The metrics by which training can choose the best checkpoint.
IN_TRAINING = {name: metric for name, metric in {**METRICS, **DISTANCES}.items() if metric.in_training}
