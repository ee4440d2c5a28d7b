"""Training runs: devices, steps, logging, evaluation, results."""
