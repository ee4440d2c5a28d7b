"""One module for each form of `--dataset`."""
