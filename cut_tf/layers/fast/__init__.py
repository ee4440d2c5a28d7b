"""Faster forms of layers, and memory for time. `cut_tf/layers/kernels.py` says when they are taken."""
