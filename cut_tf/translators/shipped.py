"""The models that come with cut_tf, by name. Needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from cut_tf.common import registry

# In an installation they lie inside the package, in a clone beside it.
_FOLDERS = (Path(__file__).parents[1] / "saved_models", Path(__file__).parents[2] / "saved_models")
# What no folder of a user's own export has.
_CARD = "MODEL_CARD.md"
# Models whose .tflite file for any size draws every picture as the SavedModel does, within one level. That of `dehaze`
# does so on photographs alone: its layers multiply features and have no norms, so that on blocks of pure colours the
# float16 weights change values by up to 50 levels.
_SAME_WITHIN_A_LEVEL = ("dehaze_mobile",)
# Pixels of the largest picture for which that file takes no more memory than TensorFlow and the SavedModel. It takes
# 0.05 GiB and 373 bytes a pixel, they take 0.64 GiB and 118 bytes a pixel (measured up to 12 megapixels).
MOST_TWIN_PIXELS = 2**21


def shipped_models() -> dict[str, Path]:
    """Name to folder, which holds numbered SavedModels, .tflite files and a model card."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {card.parent.name: card.parent for card in sorted(folder.glob(f"*/{_CARD}"))} if folder else {}


def shipped_model(name: str) -> Path:
    """Folder of the model of that name. Raises InputError, with the names that there are, if there is none."""
    return registry.lookup(shipped_models(), name, "--model")


def fast_twin(name: str) -> Path | None:
    """The .tflite file that stands in for a shipped model's SavedModel on pictures of up to MOST_TWIN_PIXELS, if any.

    It needs no TensorFlow, whose import takes longer than such a picture.
    """
    path = shipped_model(name) / f"{name}_any_float16.tflite"
    return path if name in _SAME_WITHIN_A_LEVEL and path.is_file() else None
