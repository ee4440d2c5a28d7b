"""Tables of the papers, trained and measured here: `python -m tools.reproduce`."""
