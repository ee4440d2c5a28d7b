"""What the recorded files hold in PyTorch's layout, in ours: weights by `cut_tf.official.names`, pictures here."""

from __future__ import annotations

import numpy as np

from cut_tf.official.names import load, to_ours, torch_names

__all__ = ["load", "to_nhwc", "to_ours", "torch_names"]


def to_nhwc(array: np.ndarray) -> np.ndarray:
    """[B, C, H, W] to [B, H, W, C]."""
    return array.transpose(0, 2, 3, 1)
