"""Networks that turn a picture into a vector of features, for distances between sets of pictures (FID, KID).

    inception   InceptionV3 of keras.applications with its ImageNet weights, mean over space of the last layer, 2048
                numbers. It is not the graph of 2015 that Heusel et al. (2017) used, nor its port for PyTorch. So
                figures differ from those of papers; compare them with figures of this extractor only.
    random      three convolutions with fixed random weights, mean over space after each, 112 numbers. Needs no file.
                Like random projections (Johnson-Lindenstrauss) it reacts to differences of colour and texture, but
                not to objects: only for comparisons within one series of runs.
    run:DIR     the encoder of a saved run's generator, at the last of its --nce_layers that the generator has: mean and
                standard deviation over space. Only for comparisons within one series of runs.
    DIR         a SavedModel, or a folder of numbered versions: signature `features` or else `serving_default`, one
                input of pictures [B, H, W, 3], uint8 or float32 in [-1, 1] as its type says, one output [B, D] or
                [B, h, w, D], which is averaged over space. A SavedModel is a program: name only one that you trust.

Pictures are resized once, from 8 bits to floats, bicubic with antialias (`tf.image.resize`, Keys' kernel with a = -0.5,
which is also Pillow's), clipped to [0, 255] and not rounded. FID depends on it: Parmar, Zhang, Zhu: On Aliased Resizing
and Surprising Subtleties in GAN Evaluation, CVPR 2022.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.pretrained import find_weights
from cut_tf.translators import exported
from cut_tf.translators.run import Translator

INCEPTION = "inception"
RANDOM = "random"
INCEPTION_URL = ("https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
                 "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5")

_RUN_PREFIX = "run:"
_INCEPTION_MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
_INCEPTION_SIDE_PX = 299
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_RANDOM_SIDE_PX = 64
_RANDOM_CHANNELS = (16, 32, 64)
_SIGNATURES = ("features", "serving_default")
_BATCH = 16
# Side of the empty picture with which a network that takes any size is checked.
_PROBE_SIDE_PX = 64

# float32 [B, H, W, 3] in [0, 255] to float32 [B, D].
Network = Callable[[tf.Tensor], tf.Tensor]


class FeatureExtractor:
    """Features of pictures of any size. Made by `feature_extractor`.

    Args:
      name: of the network, for reports.
      layer: where its features are taken, for reports.
      network: float32 [B, H, W, 3] in [0, 255] to float32 [B, D].
      size_px: (height, width) that pictures are resized to; None leaves each at its own size.
      digest: of the weights, in hexadecimal.
      batch: pictures at a time; 1 if `size_px` is None.

    Attributes:
      dimension: D.
      description: extractor, layer, resize, weights and dimension, all as text. Equal ones have comparable features.

    Raises:
      InputError: if the network does not give finite [B, D].
    """

    def __init__(self, name: str, layer: str, network: Network, size_px: tuple[int, int] | None, digest: str,
                 batch: int = _BATCH) -> None:
        self._network, self._size_px, self._batch = network, size_px, 1 if size_px is None else batch
        self._name = name
        self.dimension = self._features([np.zeros([*(size_px or (_PROBE_SIDE_PX, _PROBE_SIDE_PX)), 3])]).shape[1]
        resize = "none, each picture at its own size" if size_px is None else (
            f"bicubic with antialias (tf.image.resize, floats) to {size_px[1]}x{size_px[0]}")
        self.description = {"extractor": name, "layer": layer, "resize": resize, "weights": digest,
                            "dimension": str(self.dimension)}

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] to float32 [H, W, 3] in [0, 255], resized as the module's docstring says.

        Raises:
          ValueError: if `picture` has another type or shape.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"expected uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
        if self._size_px in (None, picture.shape[:2]):
            return picture.astype(np.float32)
        levels = tf.image.resize(picture, self._size_px, method="bicubic", antialias=True)
        return tf.clip_by_value(levels, 0.0, 255.0).numpy()

    def batches(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Features of pictures, a batch at a time, so that memory is bounded.

        Args:
          pictures: uint8 [h, w, 3] each, of any sizes.

        Yields:
          float64 [b, D], finite, in the order of the pictures.

        Raises:
          InputError: if a feature is not finite.
        """
        waiting: list[np.ndarray] = []
        for picture in pictures:
            waiting.append(self.prepare(picture))
            if len(waiting) == self._batch:
                yield self._features(waiting)
                waiting = []
        if waiting:
            yield self._features(waiting)

    def _features(self, prepared: list[np.ndarray]) -> np.ndarray:
        try:
            features = np.asarray(self._network(tf.constant(np.stack(prepared), tf.float32)), np.float64)
        except (tf.errors.OpError, ValueError) as error:
            raise InputError(f"--feature_extractor: {self._name} cannot be used on pictures of "
                             f"{prepared[0].shape[1]}x{prepared[0].shape[0]}: {error}") from error
        if features.ndim != 2 or len(features) != len(prepared) or not np.isfinite(features).all():
            raise InputError(f"--feature_extractor: {self._name} must give finite features, one vector per picture, "
                             f"found {list(features.shape)} with {int((~np.isfinite(features)).sum())} not finite")
        return features


def feature_extractor(spec: str, inception_weights: str = "") -> FeatureExtractor:
    """The extractor that `--feature_extractor` names.

    Args:
      spec: inception, random, run:DIR or the folder of a SavedModel.
      inception_weights: .h5 file with the weights of keras.applications' InceptionV3 without its top; if empty, that
        of Keras' cache, or downloaded.

    Raises:
      InputError: if `spec` is none of these, or weights are missing, damaged or of another network.
    """
    if inception_weights and spec != INCEPTION:
        raise InputError(f"--inception_weights must be empty unless --feature_extractor={INCEPTION}, found "
                         f"{inception_weights} with --feature_extractor={spec}")
    if spec == INCEPTION:
        return _inception(find_weights(inception_weights, "inception_weights", INCEPTION_URL, _INCEPTION_MD5,
                                       f"choose --feature_extractor={RANDOM}, run:DIR or the folder of a SavedModel, "
                                       "whose figures are others"))
    if spec == RANDOM:
        return _random()
    if spec.startswith(_RUN_PREFIX):
        return _run_encoder(spec[len(_RUN_PREFIX):])
    if not os.path.isdir(spec):
        raise InputError(f"--feature_extractor must be {INCEPTION}, {RANDOM}, run:DIR or the folder of a SavedModel, "
                         f"found {spec!r}")
    return _saved_model(spec)


def _inception(path: Path) -> FeatureExtractor:
    rule = "must be an .h5 file of weights of keras.applications' InceptionV3 without its top"
    with open(path, "rb") as file:
        start = file.read(len(_HDF5_START))
    # Only .h5 files, which hold numbers alone. By other suffixes Keras would read formats that can run code.
    if start != _HDF5_START or path.suffix != ".h5":
        raise InputError(f"--inception_weights: {path} {rule}, found one that begins with {start!r}")
    model = inception_network()
    try:
        model.load_weights(str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--inception_weights: {path} {rule}, found {type(error).__name__}: {error}") from error
    return FeatureExtractor("InceptionV3 of keras.applications, ImageNet weights", "global average pool",
                            _compiled(lambda levels: model(images.from_bytes(levels), training=False)),
                            (_INCEPTION_SIDE_PX, _INCEPTION_SIDE_PX), _digest([path]))


def inception_network() -> keras.Model:
    """InceptionV3 without its top, untrained: float32 [B, 299, 299, 3] in [-1, 1] to [B, 2048].

    Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, CVPR 2016.
    """
    return keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg",
                                          input_shape=(_INCEPTION_SIDE_PX, _INCEPTION_SIDE_PX, 3))


def _random() -> FeatureExtractor:
    # NumPy guarantees the stream of RandomState, so that features are the same with every version.
    rng, kernels, depth = np.random.RandomState(0), [], 3
    for channels in _RANDOM_CHANNELS:
        values = rng.standard_normal((3, 3, depth, channels)) * np.sqrt(2 / (9 * depth))
        kernels.append(values.astype(np.float32))
        depth = channels

    def network(levels: tf.Tensor) -> tf.Tensor:
        hidden, means = images.from_bytes(levels), []
        for kernel in kernels:
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, strides=2, padding="VALID"))
            means.append(tf.reduce_mean(hidden, axis=[1, 2]))
        return tf.concat(means, axis=1)

    digest = hashlib.sha256(b"".join(kernel.astype("<f4").tobytes() for kernel in kernels)).hexdigest()
    return FeatureExtractor("random convolutions, for comparisons within one series of runs only",
                            "means after each of three convolutions", _compiled(network),
                            (_RANDOM_SIDE_PX, _RANDOM_SIDE_PX), digest)


def _run_encoder(run: str) -> FeatureExtractor:
    try:
        translator = Translator(run)
    except InputError as error:
        raise InputError(f"--feature_extractor={_RUN_PREFIX}{run}: {error}") from error
    generator, settings = translator.generator, translator.settings
    # Methods without PatchNCE take any --nce_layers.
    layer = max(layer for layer in (0, *settings.patch_nce.layers()) if generator.has_layer(layer))

    def network(levels: tf.Tensor) -> tf.Tensor:
        # In float32 on both stacks, also if the run was trained in 16 bits.
        hidden = tf.cast(generator.encode(images.from_bytes(levels), [layer], training=False)[0], tf.float32)
        mean, variance = tf.nn.moments(hidden, axes=[1, 2])
        return tf.concat([mean, tf.sqrt(variance)], axis=1)

    weights = sorted(compat.named_weights(generator).items())
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for _, weight in weights)).hexdigest()
    side_px = settings.data.crop_size_px
    return FeatureExtractor(f"encoder of a run of {settings.train.method}, step {translator.step}",
                            f"{generator.feature_names([layer])[0]}, mean and standard deviation",
                            _compiled(network), (side_px, side_px), digest)


def _compiled(network: Network) -> Network:
    return tf.function(network, input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])


def _saved_model(folder: str) -> FeatureExtractor:
    flag = f"--feature_extractor={folder}"
    path = exported.newest_version(Path(folder), "--feature_extractor")
    try:
        model = tf.saved_model.load(str(path), tags=["serve"])
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"{flag}: {path} cannot be loaded: {error}") from error
    name = next((name for name in _SIGNATURES if name in model.signatures), None)
    if name is None:
        raise InputError(f"{flag} must have the signature {' or '.join(_SIGNATURES)}, found {sorted(model.signatures)}")
    signature = model.signatures[name]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    (key, spec), (output, result) = (next(iter(sorted(specs.items())), ("", None)) for specs in (inputs, outputs))
    if (len(inputs) != 1 or len(outputs) != 1 or spec.dtype not in (tf.uint8, tf.float32) or spec.shape.rank != 4
            or spec.shape[3] != 3 or spec.shape[0] not in (None, 1) or result.shape.rank not in (2, 4)):
        raise InputError(f"{flag}: signature {name} must take one batch of pictures [B, H, W, 3], uint8 or float32, "
                         f"and give one output [B, D] or [B, h, w, D], found {inputs} and {outputs}")

    def network(levels: tf.Tensor) -> tf.Tensor:
        taken = images.from_bytes(levels) if spec.dtype == tf.float32 else tf.cast(tf.round(levels), tf.uint8)
        features = model.signatures[name](**{key: taken})[output]
        return tf.reduce_mean(features, axis=[1, 2]) if features.shape.rank == 4 else features

    batch, height, width = spec.shape[:3]
    size_px = None if height is None or width is None else (height, width)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "fingerprint.pb")
    return FeatureExtractor("SavedModel", f"{name}/{output}", network, size_px, _digest(files), batch or _BATCH)


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    return digest.hexdigest()
