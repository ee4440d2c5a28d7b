"""Dehazing without training, to compare trained networks with. Each: uint8 [H, W, 3] to uint8 [H, W, 3], RGB."""

from __future__ import annotations

from cut_tf.common.registry import Row

BASELINES = {
    "dark_channel_prior": Row("cut_tf.baselines.dark_channel:dehaze",
                              "He et al. (CVPR 2009) with a guided filter; needs no run"),
}
