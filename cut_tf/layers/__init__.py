"""Layers that the networks are made of: [B, H, W, C] in, [B, H, W, C] out."""
