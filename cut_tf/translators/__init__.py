"""Trained generators at work on pictures of any size: of runs, of SavedModels, of .tflite files."""
