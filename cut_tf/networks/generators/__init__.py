"""Generators: [B, H, W, 3] in [-1, 1] to the same shape."""
