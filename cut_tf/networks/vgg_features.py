"""Feature maps of pictures for losses: VGG-19 (Simonyan and Zisserman, ICLR 2015) with ImageNet weights, or a smaller
network of that kind with random weights. Both are frozen: no optimizer changes them, and no checkpoint stores them.

The features are those of AECR-Net (CVPR 2021, eq. 5): convolutions 1, 3, 5, 9 and 13 after their ReLU, with the weights
1/32, 1/16, 1/8, 1/4, 1. These are the first convolutions of the five blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
_VGG19_CHANNELS = (64, 128, 256, 512, 512)
_RANDOM_CHANNELS = (16, 32, 64, 128, 128)
_RANDOM_SEED = 19
# Mean of ImageNet in BGR, 0 to 255. The weights come from Caffe and were trained with this mean subtracted.
_CAFFE_MEAN = (103.939, 116.779, 123.68)

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
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]], normalise: Callable[[tf.Tensor], tf.Tensor],
                 dtype: tf.DType) -> None:
        super().__init__()
        self._normalise = normalise
        self._dtype = dtype
        self._layers = [[tf.Variable(tf.cast(value, dtype), trainable=False) for value in layer] for layer in layers]

    def encode(self, pictures: tf.Tensor) -> list[tf.Tensor]:
        """float [B, H, W, 3] in [-1, 1], sides of at least 16, to five maps [B, H / 2^i, W / 2^i, C_i], i = 0 to 4."""
        hidden = tf.cast(self._normalise(tf.cast(pictures, tf.float32)), self._dtype)
        features, layers = [], iter(self._layers)
        for block, count in enumerate(_BLOCKS):
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


def _shapes(channels: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Shapes of the kernels of all convolutions."""
    widths = [3] + [width for width, count in zip(channels, _BLOCKS) for _ in range(count)]
    return [(3, 3, before, after) for before, after in zip(widths, widths[1:])]


def _features(blocks: ConvolutionBlocks) -> Features:
    numbers = np.cumsum((1, *_BLOCKS[:-1]))
    return Features(blocks.encode, [f"conv{number:02d}" for number in numbers], depth_weights(len(_BLOCKS)))
