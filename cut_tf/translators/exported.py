"""Exported generators that translate pictures: a SavedModel or a TFLite file. Needs neither a run nor network code."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.common.places import check_tensorflow_can_read

# Name of the input and of the output of SavedModels' `image` and `image_float` and of TFLite files.
IMAGE = "image"
# The one signature of a TFLite file: its float values are in [-1, 1], or in [0, 1].
SIGNATURE, UNIT_SIGNATURE = "image_float", "image_unit"


class SavedModelTranslator:
    """Translates uint8 pictures of any size with an exported SavedModel.

    Args:
      path: a folder of numbered versions, of which the newest is taken, or one version.

    Raises:
      InputError: if it is no SavedModel, or lacks the signature `image`, or TensorFlow cannot read from that path.
    """

    def __init__(self, path: str | Path) -> None:
        check_tensorflow_can_read(Path(path), "--saved_model")
        import tensorflow as tf  # here, so that .tflite files need not wait for it

        self.path = newest_version(Path(path))
        try:
            # Kept, since its signatures use variables that live as long as this object.
            self._model = tf.saved_model.load(str(self.path), tags=["serve"])
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise InputError(f"--saved_model={path}: {self.path} cannot be loaded: {error}") from error
        if IMAGE not in self._model.signatures:
            raise InputError(f"--saved_model={path} must have the signature {IMAGE!r}, as those of cut_tf.export have, "
                             f"found {sorted(self._model.signatures)}")
        self._translate, self._tensor = self._model.signatures[IMAGE], tf.constant

    def __call__(self, picture: np.ndarray, where: str = "picture") -> np.ndarray:
        """uint8 [H, W, 3] to the same. Raises InputError, naming `where`, if a side is below images.MIN_SIDE_PX."""
        images.check_image(picture, where)
        return self._translate(**{IMAGE: self._tensor(picture[None])})[IMAGE].numpy()[0]

    def many(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Translates pictures of one size together. Raises InputError as for one, and OpError if memory is short."""
        for picture in pictures:
            images.check_image(picture, "picture")
        return list(self._translate(**{IMAGE: self._tensor(np.stack(pictures))})[IMAGE].numpy())


def newest_version(path: Path, flag: str = "--saved_model") -> Path:
    """The version with the largest number in a model's folder; the folder itself if it is a SavedModel.

    Raises:
      InputError: naming `flag`, if it is neither.
    """
    if (path / "saved_model.pb").is_file():
        return path
    names = [child.name for child in path.iterdir()] if path.is_dir() else []
    versions = [name for name in names if is_version(name) and (path / name / "saved_model.pb").is_file()]
    if not versions:
        raise InputError(f"{flag} must be the folder of a SavedModel, or of its numbered versions, found none in "
                         f"{path}")
    return path / max(versions, key=int)


def is_version(name: str) -> bool:
    """Whether a folder's name is a version number for TF Serving: digits 0 to 9, not those of other scripts."""
    return name.isascii() and name.isdigit()


class TFLiteTranslator:
    """Translates uint8 pictures with a TFLite file, by ai-edge-litert with XNNPACK on the CPU.

    Args:
      path: a file written by cut_tf.export, or the bytes of one.
      threads: of the CPU.
      resize: resize pictures of another size than the file's fixed one, and the result back.

    Attributes:
      size_px: (height, width) that the file is made for; None if it takes any size.
      unit_range: whether its input and output are in [0, 1] instead of [-1, 1]. What is asked of this class stays the
        same.

    Raises:
      InputError: if the file cannot be read, is no TFLite model, or does not take and give float32 pictures.
    """

    def __init__(self, path: str | Path | bytes, threads: int = 2, resize: bool = False) -> None:
        content, self._name = (path, "the model") if isinstance(path, bytes) else (_read(Path(path)), str(path))
        self._resize = resize
        try:
            self.interpreter = interpreter_class()(model_content=content, num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self._name}: not a TFLite model: {error}") from error
        self._input, self._output = self._one(self.interpreter.get_input_details(), "input"), self._one(
            self.interpreter.get_output_details(), "output")
        self.unit_range = UNIT_SIGNATURE in self.interpreter.get_signature_list()
        height, width = (int(side) for side in self._input["shape_signature"][1:3])
        self.size_px = None if height < 0 or width < 0 else (height, width)
        self._allocated: tuple[int, int] | None = None
        # An interpreter takes one picture at a time.
        self._lock = threading.Lock()

    def _one(self, details: list[dict], kind: str) -> dict:
        shapes = [list(map(int, detail["shape_signature"])) for detail in details]
        if len(details) != 1 or details[0]["dtype"] != np.float32 or len(shapes[0]) != 4 or shapes[0][3] not in (3, -1):
            raise InputError(f"{self._name}: its {kind} must be one float32 picture [1, H, W, 3], found {shapes}")
        return details[0]

    def __call__(self, picture: np.ndarray, where: str = "picture") -> np.ndarray:
        """uint8 [H, W, 3] to the same.

        Raises:
          InputError: naming `where`, if a side is below images.MIN_SIDE_PX, or the file was made for another size and
            `resize` was not asked for.
        """
        images.check_image(picture, where)
        if self.size_px in (None, picture.shape[:2]):
            return self._translate(picture)
        height, width = self.size_px
        if not self._resize:
            raise InputError(f"{where}: {self._name} takes pictures of {width}x{height} px only, found "
                             f"{picture.shape[1]}x{picture.shape[0]}; give --size=train to resize, or export another "
                             "size")
        output = self._translate(_resized(picture, width, height))
        return _resized(output, picture.shape[1], picture.shape[0])

    def _translate(self, picture: np.ndarray) -> np.ndarray:
        return images.pixels_of(self.translate_floats(images.values_of(picture[None])))[0]

    def translate_floats(self, pictures: np.ndarray) -> np.ndarray:
        """float32 [1, H, W, 3] in [-1, 1] to the same; H, W must fit the file (ValueError)."""
        size_px = pictures.shape[1:3]
        if self.size_px not in (None, size_px):
            raise ValueError(f"pictures must have {self.size_px} px, found {size_px}")
        given = images.to_unit(pictures) if self.unit_range else pictures
        with self._lock:
            if self._allocated != size_px:
                if self.size_px is None:
                    self.interpreter.resize_tensor_input(self._input["index"], pictures.shape, strict=True)
                self.interpreter.allocate_tensors()
                self._allocated = size_px
            self.interpreter.set_tensor(self._input["index"], given)
            self.interpreter.invoke()
            output = self.interpreter.get_tensor(self._output["index"])  # a copy
        return images.from_unit(output) if self.unit_range else output


def can_run_tflite() -> bool:
    """Whether the runtime of .tflite files is installed: the extra mobile."""
    try:
        interpreter_class()
    except InputError:
        return False
    return True


def interpreter_class() -> type:
    """ai-edge-litert's interpreter. Raises InputError with advice if it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(f"TFLite needs ai-edge-litert: pip install 'cut_tf[mobile]' ({error})") from error
    return Interpreter


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"--tflite={path} cannot be read: {error.strerror or error}") from error


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
