"""Trained generators in the forms that servers and phones take. Knows generators, never training methods."""

from __future__ import annotations

import dataclasses

from cut_tf.common.registry import Row


@dataclasses.dataclass(frozen=True)
class Format(Row):
    """A row of `FORMATS`: (Translator, output folder, ExportOptions) to the path written.

    Attributes:
      options: flags of `cut_tf.export` that this format reads and another does not.
    """

    options: tuple[str, ...] = ()


FORMATS = {
    "saved_model": Format("cut_tf.export.saved_model.export:export_saved_model", "for TF Serving and Python",
                          options=("size", "pixel_limit", "precision", "serve_on", "representative",
                                   "allow_quality_loss")),
    "tflite": Format("cut_tf.export.tflite.export:export_tflite", "for phones: TFLite, LiteRT",
                     options=("size", "quantize", "representative", "allow_quality_loss", "license", "unit_range")),
    "hub": Format("cut_tf.export.hub.export:export_hub", "a folder for Hugging Face and Kaggle: all forms and a card",
                  options=("size", "pixel_limit", "quantize", "representative", "allow_quality_loss", "license",
                           "unit_range")),
    "space": Format("cut_tf.export.space.export:export_space", "for a Hugging Face Space: the demo with this model",
                    options=("pixel_limit", "license")),
    "pytorch": Format("cut_tf.export.pytorch.export:export_pytorch", "state dicts for the official PyTorch code"),
}
