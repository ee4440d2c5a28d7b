"""How well dehazing models do on pictures of many kinds. `__main__.py` is the command."""
