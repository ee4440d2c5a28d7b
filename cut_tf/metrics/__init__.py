"""Metrics of a prediction against its target: uint8 [B, H, W, 3] twice to float32 [B], higher is better."""

from __future__ import annotations

from cut_tf.metrics.psnr import psnr
from cut_tf.metrics.ssim import ssim

METRICS = {"psnr": psnr, "ssim": ssim}
