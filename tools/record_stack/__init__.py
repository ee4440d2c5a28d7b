"""What one TensorFlow stack writes and computes, recorded for the other: `python -m tools.record_stack`."""
