"""The official PyTorch code of CUT and CycleGAN as others have it: its weight files, names and architectures.

Nothing here needs PyTorch, and nothing in a file is ever executed.
"""
