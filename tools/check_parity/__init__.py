"""Numbers of the official code against ours: `python -m tools.check_parity`."""
