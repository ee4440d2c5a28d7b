"""Contrastive regularization (AECR-Net, Wu et al., CVPR 2021, eq. 4-5): towards clear pictures, away from hazy ones.

L = sum_i w_i |G_i(J) - G_i(phi)|_1 / (|G_i(I) - G_i(phi)|_1 + 1e-7), where G_i(phi) is feature map i of the output,
G_i(J) of its positive, a clear picture, and G_i(I) of its negative, a hazy one. |.|_1 is the mean absolute difference.

The fraction is taken for each image, as the equation is written, and not of means over the batch. So the loss of a
batch is the mean of the losses of its parts, also if devices share it. Distances to several positives, and to several
negatives, are averaged before the fraction. So it stays near 1 where all are equally far, whatever their numbers (1:r,
r:1, r:r), and a weight keeps its meaning. Sums would make the fraction r times smaller or larger.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_EPSILON = 1e-7

# G_1 ... G_n of a batch: [B, H_i, W_i, C_i] each.
FeatureMaps = Sequence[tf.Tensor]


def layer_ratios(output: FeatureMaps, positives: Sequence[FeatureMaps],
                 negatives: Sequence[FeatureMaps]) -> list[tf.Tensor]:
    """The fractions of the loss, feature by feature. Gradients reach `output` only.

    Args:
      output: feature maps of the outputs.
      positives: those of clear pictures, one entry or more; maps of the shapes of `output`.
      negatives: those of hazy pictures. Without any the denominator is 1, and the loss is a perceptual loss of the
        positives, an ablation of the paper.

    Returns:
      float32 [B] per feature, >= 0.
    """
    ratios = []
    for index, feature in enumerate(output):
        ratio = _mean_distance(feature, [maps[index] for maps in positives])
        if negatives:
            ratio /= _mean_distance(feature, [maps[index] for maps in negatives]) + _EPSILON
        ratios.append(ratio)
    return ratios


def contrastive_ratio(output: FeatureMaps, positives: Sequence[FeatureMaps], negatives: Sequence[FeatureMaps],
                      weights: Sequence[float]) -> tf.Tensor:
    """The weighted sum of `layer_ratios`.

    Args:
      output, positives, negatives: see `layer_ratios`.
      weights: w_i of each feature.

    Returns:
      float32 [B], one loss per image.
    """
    return weighted_sum(layer_ratios(output, positives, negatives), weights)


def weighted_sum(ratios: Sequence[tf.Tensor], weights: Sequence[float]) -> tf.Tensor:
    """sum_i w_i ratio_i, of the shape of one ratio. Raises ValueError if their numbers differ."""
    if len(ratios) != len(weights):
        raise ValueError(f"expected a weight for each of {len(ratios)} features, got {len(weights)}")
    return tf.add_n([weight * ratio for weight, ratio in zip(weights, ratios)])


def channel_means(maps: FeatureMaps) -> list[tf.Tensor]:
    """[B, H, W, C] to [B, 1, 1, C] per feature, for pictures of different scenes.

    Where positives show other scenes, a distance place by place would compare different contents. The mean of each
    feature over the whole picture depends on the haze, and hardly on the scene's layout.
    """
    return [tf.reduce_mean(tf.cast(feature, tf.float32), [1, 2], keepdims=True) for feature in maps]


def _mean_distance(feature: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
    """float32 [B]: mean over `others` of the mean absolute difference to them."""
    feature = tf.cast(feature, tf.float32)
    distances = [tf.reduce_mean(tf.abs(feature - tf.stop_gradient(tf.cast(other, tf.float32))), [1, 2, 3])
                 for other in others]
    return tf.add_n(distances) / len(distances)
