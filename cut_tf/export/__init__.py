"""Trained generators in the forms that servers and phones take. Knows generators, never training methods."""

from __future__ import annotations

from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.export.tflite.export import export_tflite

# --format to the function that writes it: (Translator, output folder, ExportOptions) to the path written.
FORMATS = {"saved_model": export_saved_model, "tflite": export_tflite}
