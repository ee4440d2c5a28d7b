"""Builds a static page that runs a .tflite file in the browser: on pictures and on a camera."""
