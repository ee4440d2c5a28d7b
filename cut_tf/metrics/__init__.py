"""Metrics of a prediction against its target: uint8 [B, H, W, 3] twice to float32 [B]."""

from __future__ import annotations

from cut_tf.metrics.ciede2000 import ciede2000
from cut_tf.metrics.mse import mse
from cut_tf.metrics.psnr import psnr
from cut_tf.metrics.ssim import ssim

# Higher is better. Training measures all of these and keeps the best checkpoint by one of them.
METRICS = {"psnr": psnr, "ssim": ssim}
# Lower is better. In reports of folders only: training does not wait for them.
ERRORS = {"ciede2000": ciede2000, "mse": mse}
