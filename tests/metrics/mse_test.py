"""MSE against scikit-image and against a number worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import mean_squared_error

from cut_tf.metrics.mse import mse


def test_equals_scikit_image_for_each_image_of_a_batch():
    prediction, target = np.random.default_rng(0).integers(0, 256, (2, 3, 37, 23, 3), dtype=np.uint8)
    result = mse(prediction, target)
    assert result.dtype == tf.float32 and result.shape == [3]
    np.testing.assert_allclose(result, [mean_squared_error(*pair) for pair in zip(target, prediction)], rtol=1e-6)


def test_by_hand_and_without_wrap_around():
    target = np.zeros((2, 2, 2, 3), np.uint8)
    prediction = target.copy()
    prediction[0, 0, 0] = 4, 2, 0  # 16 + 4 over 12 values
    prediction[1] = 255
    np.testing.assert_allclose(mse(prediction, target), [20 / 12, 65025.0], rtol=1e-6)
    np.testing.assert_allclose(mse(target, prediction), [20 / 12, 65025.0], rtol=1e-6)


def test_in_a_graph_of_unknown_sizes():
    prediction, target = np.random.default_rng(1).integers(0, 256, (2, 1, 9, 7, 3), dtype=np.uint8)
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)] * 2
    compiled = tf.function(mse, input_signature=signature)
    np.testing.assert_allclose(compiled(prediction, target), [mean_squared_error(target[0], prediction[0])], rtol=1e-6)


def test_other_shapes_are_named():
    image = np.zeros((1, 16, 12, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 16, 12, 3\).*\(1, 16, 13, 3\)"):
        mse(image, np.zeros((1, 16, 13, 3), np.uint8))
