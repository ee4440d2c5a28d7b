"""State dicts for the official PyTorch code."""
