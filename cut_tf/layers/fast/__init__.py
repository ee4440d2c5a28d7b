"""Faster forms of layers, and recomputation, which saves memory. `cut_tf/layers/kernels.py` says when they are used."""
