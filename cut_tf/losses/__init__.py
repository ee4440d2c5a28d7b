"""Losses: pure functions of tensors, no variables, no flags, no logging."""
