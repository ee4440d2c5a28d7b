"""The models that come with cut_tf, by name. Needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path

from cut_tf.common import registry

# In an installation they lie inside the package, in a clone beside it.
_FOLDERS = (Path(__file__).parents[1] / "saved_models", Path(__file__).parents[2] / "saved_models")
# What no folder of a user's own export has.
_CARD = "MODEL_CARD.md"


def shipped_models() -> dict[str, Path]:
    """Name to folder, which holds numbered SavedModels, .tflite files and a model card."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {card.parent.name: card.parent for card in sorted(folder.glob(f"*/{_CARD}"))} if folder else {}


def shipped_model(name: str) -> Path:
    """Folder of the model of that name. Raises InputError, with the names that there are, if there is none."""
    return registry.lookup(shipped_models(), name, "--model")
