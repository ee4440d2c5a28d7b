"""Trained generators, of a run or an export, that translate pictures."""

from __future__ import annotations

# Which weights of a run translate.
WEIGHTS = {"best": "of the best metric", "last": "the newest, as training updates them",
           "ema": "the newest, running means"}
# At which size a picture is translated.
SIZES = {"native": "the picture's own", "train": "resized as in training, and back"}
