"""Discriminators: [B, H, W, 3] in [-1, 1] to raw scores."""
