"""Deformable convolution against scipy's bilinear sampling, ordinary convolution, finite differences, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, signal

from cut_tf import compat
from cut_tf.layers import deformable_convolution as module
from cut_tf.layers.deformable_convolution import TAPS, DeformableConvolution

_TAPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def deformable_convolution(inputs: tf.Tensor, offsets: tf.Tensor, mask: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Of offsets [B, H, W, G, 9, 2]."""
    return module.deformable_convolution(inputs, tf.reshape(offsets, [*offsets.shape[:4], 2 * TAPS]), mask, kernel)


def _case(batch: int = 2, height: int = 5, width: int = 7, channels: int = 4, filters: int = 3, groups: int = 1,
          spread_px: float = 2.0) -> list[np.ndarray]:
    """Inputs, offsets that reach far over the borders, mask and kernel."""
    rng = np.random.default_rng(height * width)
    return [rng.normal(size=(batch, height, width, channels)),
            rng.normal(size=(batch, height, width, groups, TAPS, 2)) * spread_px,
            rng.uniform(0, 2, size=(batch, height, width, groups, TAPS)),
            rng.normal(size=(3, 3, channels, filters))]


def _expected(inputs: np.ndarray, offsets: np.ndarray, mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Equation 1 tap by tap; scipy samples the image within a wide frame of zeros."""
    batch, height, width, channels = inputs.shape
    part, frame = channels // offsets.shape[3], 20
    output = np.zeros([batch, height, width, kernel.shape[3]])
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for tap, (dy, dx) in enumerate(_TAPS):
        for image in range(batch):
            for channel in range(channels):
                group = channel // part
                place = [rows + dy + offsets[image, :, :, group, tap, 0] + frame,
                         columns + dx + offsets[image, :, :, group, tap, 1] + frame]
                values = ndimage.map_coordinates(np.pad(inputs[image, :, :, channel], frame), place, order=1)
                values *= mask[image, :, :, group, tap]
                output[image] += values[..., None] * kernel[tap // 3, tap % 3, channel]
    return output


def _tensors(case: list[np.ndarray], dtype: str = "float64") -> list[tf.Tensor]:
    return [tf.constant(values, dtype) for values in case]


@pytest.mark.parametrize("shape", [{}, {"groups": 2}, {"batch": 1, "height": 1, "width": 1}, {"spread_px": 6.0},
                                   {"batch": 3, "height": 2, "width": 9, "filters": 5}], ids=str)
def test_equals_equation_1(shape):
    case = _case(**shape)
    np.testing.assert_allclose(deformable_convolution(*_tensors(case)), _expected(*case), atol=1e-12)
    np.testing.assert_allclose(deformable_convolution(*_tensors(case, "float32")), _expected(*case), atol=1e-4)


def test_without_offsets_it_is_an_ordinary_convolution():
    inputs, offsets, mask, kernel = _case()
    found = deformable_convolution(*_tensors([inputs, 0 * offsets, 0 * mask + 1, kernel]))
    for image in range(2):
        for number in range(3):
            # scipy mirrors kernels in convolutions, not in correlations.
            expected = sum(signal.correlate2d(inputs[image, :, :, channel], kernel[:, :, channel, number], "same")
                           for channel in range(4))
            np.testing.assert_allclose(found[image, :, :, number], expected, atol=1e-12)


@pytest.mark.parametrize("down, right", [(1, 0), (-2, 3), (0, -1), (7, 0)])
def test_whole_offsets_shift_and_bring_in_zeros(down, right):
    inputs, offsets, mask, _ = _case(channels=1, filters=1)
    centre = np.zeros([3, 3, 1, 1])
    centre[1, 1] = 1.0
    shifts = offsets * 0 + [down, right]
    found = deformable_convolution(*_tensors([inputs, shifts, mask * 0 + 1, centre]))
    framed = np.pad(inputs, [(0, 0), (10, 10), (10, 10), (0, 0)])
    np.testing.assert_array_equal(found, framed[:, 10 + down:15 + down, 10 + right:17 + right])


def test_values_by_hand():
    """2x2 image [[1, 2], [4, 8]]: between pixels, half outside, and far outside."""
    inputs = np.array([[1.0, 2.0], [4.0, 8.0]])[None, :, :, None]
    centre = np.zeros([3, 3, 1, 1])
    centre[1, 1] = 1.0
    offsets = np.zeros([1, 2, 2, 1, TAPS, 2])
    offsets[0, :, :, 0, 4] = [[[0.5, 0.25], [-0.75, 0.0]], [[0.5, 0.5], [-40.0, 1e9]]]
    mask = np.ones([1, 2, 2, 1, TAPS])
    mask[0, 0, 0] = 0.5
    found = deformable_convolution(*_tensors([inputs, offsets, mask, centre]))[0, :, :, 0]
    between = 0.5 * (0.5 * (0.75 * 1 + 0.25 * 2) + 0.5 * (0.75 * 4 + 0.25 * 8))
    np.testing.assert_allclose(found, [[between, 0.25 * 2], [0.5 * (0.5 * 4 + 0.5 * 8), 0.0]], atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_are_finite_differences(groups):
    """Central differences in float64, at places that are not on a pixel, where the slope jumps."""
    case = _case(height=4, width=3, filters=2, groups=groups)
    case[1] = np.floor(case[1]) + 0.1 + 0.8 * (case[1] - np.floor(case[1]))
    slope = tf.constant(np.random.default_rng(5).normal(size=(2, 4, 3, 2)))
    tensors = _tensors(case)
    loss = tf.function(lambda *values: tf.reduce_sum(tf.square(deformable_convolution(*values)) * slope))
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = loss(*tensors)
    found = tape.gradient(value, tensors)
    rng = np.random.default_rng(6)
    for which, gradient in enumerate(found):
        assert gradient.dtype == tf.float64 and gradient.shape == case[which].shape
        for _ in range(3):
            # A direction tries all values at once.
            direction = rng.normal(size=case[which].shape)
            ends = [float(loss(*tensors[:which], tensors[which] + sign * 1e-6 * direction, *tensors[which + 1:]))
                    for sign in (1, -1)]
            along = np.sum(gradient * direction)
            np.testing.assert_allclose(along, (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_non_finite_offsets_look_outside():
    """A picture that breaks its offsets must not read memory that is not the image's."""
    case = _case()
    far = [values.copy() for values in case]
    case[1][0, 0, 0, 0, :3] = [[np.nan, 0.0], [np.inf, 0.0], [0.0, -np.inf]]
    far[1][0, 0, 0, 0, :3] = -15.0
    np.testing.assert_allclose(deformable_convolution(*_tensors(case)), _expected(*far), atol=1e-12)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_layer_starts_as_an_ordinary_convolution_and_learns_all_its_weights(policy):
    layer = DeformableConvolution(5, seed=1, name="dcn", dtype=policy)
    inputs = tf.constant(_case(channels=4)[0], tf.float32)
    with tf.GradientTape() as tape:
        output = layer(inputs)
        loss = tf.reduce_sum(tf.square(tf.cast(output, tf.float32)))
    variables = [compat.raw_variable(weight) for weight in layer.trainable_variables]
    gradients = tape.gradient(loss, variables)
    assert sum(int(np.prod(weight.shape)) for weight in variables) == (9 * 4 + 1) * 5 + (9 * 4 + 1) * 27
    kernel = tf.convert_to_tensor(layer.kernel).numpy()
    expected = tf.nn.conv2d(inputs, kernel, 1, "SAME")
    assert output.dtype == ("bfloat16" if "bf" in policy else "float32")
    np.testing.assert_allclose(tf.cast(output, tf.float32), expected, atol=1e-5 if policy == "float32" else 0.1)
    for gradient in gradients:
        assert np.isfinite(gradient.numpy()).all() and np.abs(gradient.numpy()).max() > 0


def test_layer_reads_offsets_then_masks():
    """Bias of the inner convolution: every tap looks one pixel down and two right, at 2 * sigmoid(1) of the value."""
    layer = DeformableConvolution(2, seed=1)
    inputs = tf.constant(_case()[0], tf.float32)
    layer.build(inputs.shape)
    layer.places.bias.assign(np.array([1.0, 2.0] * TAPS + [1.0] * TAPS))
    framed = np.pad(inputs, [(0, 0), (0, 3), (0, 4), (0, 0)])
    plain = tf.nn.conv2d(framed, tf.convert_to_tensor(layer.kernel), 1, "SAME")
    expected = plain.numpy()[:, 1:6, 2:9] * 2.0 / (1.0 + np.exp(-1.0))
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-5)


def test_groups_divide_the_channels():
    with pytest.raises(ValueError, match="groups must divide the 4 channels, found 3"):
        DeformableConvolution(2, seed=1, groups=3)(tf.zeros([1, 4, 4, 4]))
