"""Times and memory: `python -m tools.benchmark`."""
