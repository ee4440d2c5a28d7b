"""Layers of StyleGAN2 (Karras et al., CVPR 2020) as SinCUT uses them (Park et al., ECCV 2020, section 4.4).

Weights are drawn from N(0, 1) and multiplied by 1 / sqrt(fan_in) in every pass, so that all learn equally fast (Karras
et al., ICLR 2018, section 4.1). SinCUT has no style: every image is modulated by ones. So modulation changes nothing,
demodulation (eq. 3) depends on the kernel alone, and all images share one kernel. Demodulation and all constant factors
are folded into the kernel, once a pass.

Weights and folded kernels are float32. Features have the type of the policy.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

LEAK = 0.2
# StyleGAN2's gain after a leaky ReLU, which keeps the variance of the signal.
ACTIVATION_GAIN = math.sqrt(2.0)
_DEMODULATION_EPSILON = 1e-8


def blur(inputs: tf.Tensor, padding_px: int, stride_px: int = 1) -> tf.Tensor:
    """[1,3,3,1] x [1,3,3,1] / 64 after zeros on all four sides.

    [1,3,3,1] is [1,1] convolved with itself, three factors in all, so it equals three averages of neighbours. With
    stride 2 in bfloat16 these are several times faster than a depthwise convolution; in float32 they are slower.

    Args:
      inputs: [B, H, W, C].
      padding_px: zeros added on each side.
      stride_px: step of the kernel.

    Returns:
      [B, (H + 2 padding - 4) // stride + 1, (W + 2 padding - 4) // stride + 1, C].
    """
    side = [padding_px, padding_px]
    hidden = tf.pad(inputs, [[0, 0], side, side, [0, 0]])
    for stride in (1, 1, stride_px):
        hidden = tf.nn.avg_pool2d(hidden, 2, stride, "VALID")
    return hidden


def _normal(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(0.0, 1.0, seed=seed)


class _EqualisedLayer(keras.layers.Layer):
    """A layer that casts by itself. Keras would round the weights first, and demodulation would sum rounded squares."""

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self._feature_type = tf.as_dtype(dtype.replace("mixed_", "") if dtype else "float32")

    def _cast(self, value: tf.Tensor) -> tf.Tensor:
        return tf.cast(value, self._feature_type)


class EqualisedConvolution(_EqualisedLayer):
    """Convolution with zero padding: [B, H, W, C] to [B, H, W, filters]; with `downsample`, even H and W are halved.

    gain * leaky_relu(conv(x) + bias) with slope 0.2, or gain * conv(x). Before downsampling the input is blurred.

    Args:
      filters: output channels.
      kernel_px: side of the square kernel, odd.
      seed: seed of the weights.
      downsample: halve the resolution.
      activate: add a bias and apply the leaky ReLU.
      gain: factor of the result.
    """

    def __init__(self, filters: int, kernel_px: int, *, seed: int, name: str, dtype: str = "float32",
                 downsample: bool = False, activate: bool = True, gain: float = ACTIVATION_GAIN) -> None:
        super().__init__(name, dtype)
        self._filters, self._kernel_px, self._seed = filters, kernel_px, seed
        self._downsample, self._activate, self._gain = downsample, activate, gain

    def build(self, input_shape: tuple) -> None:
        shape = (self._kernel_px, self._kernel_px, input_shape[-1], self._filters)
        self._scale = self._gain / math.sqrt(self._kernel_px**2 * input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=_normal(self._seed))
        self.bias = None
        if self._activate:
            self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden, kernel = self._cast(inputs), self._cast(self.kernel * self._scale)
        if not self._downsample:
            hidden = tf.nn.conv2d(hidden, kernel, 1, "SAME")
        elif self._kernel_px == 1:  # a 1x1 convolution with stride 2 reads every second pixel only
            hidden = tf.nn.conv2d(blur(hidden, 1, stride_px=2), kernel, 1, "VALID")
        else:
            hidden = tf.nn.conv2d(blur(hidden, (self._kernel_px + 1) // 2), kernel, 2, "VALID")
        if self.bias is None:
            return hidden
        return tf.nn.leaky_relu(tf.nn.bias_add(hidden, self._cast(self.bias * self._gain)), LEAK)


class ResidualBlock(keras.layers.Layer):
    """(conv3(conv3(x)) + skip(x)) / sqrt(2): [B, H, W, C] to [B, H, W, filters]; `downsample` halves H and W.

    Both convolutions end in a leaky ReLU. `skip` is the identity, or with `downsample` a 1x1 convolution.
    """

    def __init__(self, channels: int, filters: int, seeds: tuple[int, int, int], name: str, dtype: str,
                 downsample: bool = False) -> None:
        super().__init__(name=name, dtype=dtype)
        self.channels = channels
        # The factor 1 / sqrt(2) of the sum is part of the gains of its two summands.
        half = math.sqrt(0.5)
        self.conv1 = EqualisedConvolution(channels, 3, seed=seeds[0], name=f"{name}_conv1", dtype=dtype)
        self.conv2 = EqualisedConvolution(filters, 3, seed=seeds[1], name=f"{name}_conv2", dtype=dtype,
                                          downsample=downsample, gain=ACTIVATION_GAIN * half)
        self.skip = None
        if downsample:
            self.skip = EqualisedConvolution(filters, 1, seed=seeds[2], name=f"{name}_skip", dtype=dtype,
                                             downsample=True, activate=False, gain=half)
        self._half = half

    def build(self, input_shape: tuple) -> None:
        for layer in (self.conv1, self.conv2, self.skip):
            if layer is not None:
                layer.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        skip = inputs * self._half if self.skip is None else self.skip(inputs)
        return self.conv2(self.conv1(inputs)) + skip


class StyledUpConvolution(_EqualisedLayer):
    """Demodulated 3x3 convolution that doubles the resolution: [B, H, W, C] to [B, 2H, 2W, filters].

    sqrt(2) * leaky_relu(blur(transposed_conv(x)) + noise_strength * noise + bias). The squares of the kernel of one
    output channel sum to 1 (eq. 3 of StyleGAN2, style 1). `noise_strength` is learned and starts at 0.

    Args:
      filters: output channels.
      seed: seed of the weights.
    """

    def __init__(self, filters: int, *, seed: int, name: str, dtype: str = "float32") -> None:
        super().__init__(name, dtype)
        self._filters, self._seed = filters, seed

    def build(self, input_shape: tuple) -> None:
        self._scale = 1.0 / math.sqrt(9 * input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=(3, 3, self._filters, input_shape[-1]),
                                      initializer=_normal(self._seed))
        self.noise_strength = self.add_weight(name="noise_strength", shape=(1,), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self._filters,), initializer="zeros")
        self.built = True

    def folded_kernel(self) -> tf.Tensor:
        """The demodulated kernel, float32 [3, 3, filters, C]: the kernel of each output channel has norm 1."""
        kernel = self.kernel * self._scale
        squares = tf.reduce_sum(tf.square(kernel), axis=[0, 1, 3], keepdims=True)
        return kernel * tf.math.rsqrt(squares + _DEMODULATION_EPSILON)

    def call(self, inputs: tf.Tensor, noise: tf.Tensor | None = None) -> tf.Tensor:
        """`noise`: [B, 2H, 2W, 1], the same for all channels; none if None."""
        hidden, shape = self._cast(inputs), tf.shape(inputs)
        # Three of four pixels that the blur averages are zeros; the factor 4 makes up for them.
        kernel = self._cast(self.folded_kernel() * (4.0 * ACTIVATION_GAIN))
        batch, height, width = (inputs.shape[axis] or shape[axis] for axis in range(3))
        size = [batch, 2 * height + 1, 2 * width + 1, self._filters]
        hidden = blur(tf.nn.conv2d_transpose(hidden, kernel, size, 2, "VALID"), 1)
        if noise is not None:
            hidden += self._cast(noise) * self._cast(self.noise_strength * ACTIVATION_GAIN)
        return tf.nn.leaky_relu(tf.nn.bias_add(hidden, self._cast(self.bias * ACTIVATION_GAIN)), LEAK)


class EqualisedDense(_EqualisedLayer):
    """Fully connected layer: [B, C] to [B, units], with the leaky ReLU and its gain if `activate`."""

    def __init__(self, units: int, *, seed: int, name: str, dtype: str = "float32", activate: bool = False) -> None:
        super().__init__(name, dtype)
        self._units, self._seed, self._gain = units, seed, ACTIVATION_GAIN if activate else 1.0
        self._activate = activate

    def build(self, input_shape: tuple) -> None:
        self._scale = self._gain / math.sqrt(input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self._units),
                                      initializer=_normal(self._seed))
        self.bias = self.add_weight(name="bias", shape=(self._units,), initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(self._cast(inputs), self._cast(self.kernel * self._scale))
        hidden += self._cast(self.bias * self._gain)
        return tf.nn.leaky_relu(hidden, LEAK) if self._activate else hidden
