""".tflite files for phones."""
