"""Dehazing without training, to compare trained networks with. Each: uint8 [H, W, 3] to uint8 [H, W, 3], RGB."""

from __future__ import annotations

from cut_tf.baselines.dark_channel import dehaze

BASELINES = {"dark_channel_prior": dehaze}
