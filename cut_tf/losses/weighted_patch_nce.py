"""Weighted PatchNCE and the classifier's loss of ODCR (CVPR 2024, eq. 8-14).

No public code of ODCR exists. `roles`, `scale` and `form` choose where the equations leave a choice, or contradict the
paper's aim.
"""

from __future__ import annotations

import tensorflow as tf

from cut_tf.losses import patch_nce

# A similarity whose exponential is 0, so that a term does not count.
_ABSENT = -1e9
_EPSILON = 1e-7
# Place and slope of the sigmoid over standardised evidence: it is 1/2 one deviation above the mean.
_THRESHOLD, _SLOPE = 1.0, 4.0

ROLES = ("printed", "swapped")
SCALES = ("softmax", "max1", "sigmoid", "normalise_after")
FORMS = ("printed", "split")
# The form of `decoupled_patch_nce`.
DECOUPLED = "decoupled"


def classifier_loss(logits: tf.Tensor, hazy: bool) -> tf.Tensor:
    """Cross-entropy of eq. 8, with the sign that makes it fall as the classifier improves.

    Args:
      logits: [B, 2], of "hazy" and of "clear".
      hazy: what all these images are.

    Returns:
      [B], the sum of both binary cross-entropies.
    """
    labels = tf.broadcast_to(tf.constant([1.0, 0.0] if hazy else [0.0, 1.0]), tf.shape(logits))
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1)


def channel_weights(contributions: tf.Tensor, scale: str) -> tf.Tensor:
    """How much each channel belongs to a class, from |theta * x| (eq. 9, 10). No gradient goes through it.

    Args:
      contributions: [B, C], theta * x.
      scale: softmax, the printed formula: sums to 1, so with 256 channels hardly any weight differs from 0.
        max1: the same divided by its maximum; nearly 1 everywhere where the evidence is spread over many channels.
        sigmoid: of |theta * x| standardised over the channels, rising from 0 to 1 around one deviation above the mean,
        so that about every sixth channel counts. normalise_after: as sigmoid; `weighted_patch_nce` then gives the
        weighted keys unit length, so that all terms are cosines and none dominates by the size of its weights.

    Returns:
      [B, C] in [0, 1].

    Raises:
      ValueError: if `scale` is none of these.
    """
    size = tf.stop_gradient(tf.abs(contributions))
    if scale == "softmax":
        return tf.nn.softmax(size)
    if scale == "max1":
        return tf.exp(size - tf.reduce_max(size, axis=-1, keepdims=True))
    if scale in ("sigmoid", "normalise_after"):
        mean, variance = tf.nn.moments(size, [-1], keepdims=True)
        return tf.sigmoid(_SLOPE * ((size - mean) * tf.math.rsqrt(variance + _EPSILON) - _THRESHOLD))
    raise ValueError(f"scale must be one of {', '.join(SCALES)}, found {scale!r}")


def weighted_patch_nce(query: tf.Tensor, key: tf.Tensor, clear: tf.Tensor | None, hazy_weights: tf.Tensor,
                       clear_weights: tf.Tensor | None, temperature: float = 0.07, roles: str = "swapped",
                       scale: str = "normalise_after", form: str = "split",
                       haze_weight: float = 1.0) -> tf.Tensor:
    """-log(P / (P + N)) of eq. 11-14, in log-space.

    With l(w, z1, z2) = exp((w * z2)^T z1 / temperature), z the query, z+ the key at its place, z- the other keys of
    the image and c the clear patches:

        P = l(w_h, z, z+) + sum_c l(w_c, z, c)
        N = l(1 - w_h, z, z+) + sum_- l(1, z, z-) + sum_c l(1 - w_c, z, c)

    That is `form="printed"` and `roles="printed"`. If w_h is large where haze is, it pulls the hazy channels of the
    output towards the hazy input, against the paper's aim; `roles="swapped"` has 1 - w_h in P and w_h in N. A weight
    vector of zeros leaves its term out: there is no channel to compare.

    In the printed form a sum over hundreds of clear patches is added to the one patch at the query's place. So as soon
    as the output looks clear, P / (P + N) is 1, and nothing keeps its content. `form="split"` has two losses of the
    same terms and returns content + haze_weight haze. `pull` and `push` are the weights of z+ by the roles:

        content: l(pull, z, z+) against sum_- l(1, z, z-) + sum_c l(1 - w_c, z, c)
        haze: mean_c l(w_c, z, c) against the mean of l(push, z, z') over all patches z' of the hazy image

    With l(push, z, z+) alone, as printed, the output would also have to differ from the input in the content that these
    channels show at its place.

    Args:
      query: [B, P, C], unit vectors of the output's patches.
      key: [B, P, C], unit vectors of the hazy input's patches at the same places; takes no gradient.
      clear: [B, P', C], unit vectors of clear images' patches, no gradient; None without them.
      hazy_weights: w_h, [B, C] in [0, 1].
      clear_weights: w_c, [B, C] in [0, 1]; None without `clear`.
      temperature: tau.
      roles: printed or swapped.
      scale: that of the weights; normalise_after gives weighted keys unit length.
      form: printed or split.
      haze_weight: of the second question in the split form.

    Returns:
      [B, P], one loss per query.

    Raises:
      ValueError: if `roles` or `form` is none of these.
    """
    _check("form", form, FORMS)
    key = tf.stop_gradient(key)
    pull, push = _pull_and_push(hazy_weights, roles)
    others = tf.matmul(query, key, transpose_b=True)  # [B, P, P]
    others = tf.linalg.set_diag(others, tf.fill(tf.shape(others)[:-1], _ABSENT))
    pulled, pushed = (_own_place(query, key, weights, scale) / temperature for weights in (pull, push))
    if clear is None:
        return _fraction([pulled], [pushed, others / temperature])
    clear = tf.stop_gradient(clear)
    cleared = _all_places(query, clear, clear_weights, scale) / temperature
    negatives = [others / temperature, _all_places(query, clear, 1.0 - clear_weights, scale) / temperature]
    if form == "printed":
        return _fraction([pulled, cleared], [pushed, *negatives])
    hazed = _all_places(query, key, push, scale) / temperature
    return _fraction([pulled], negatives) + haze_weight * _fraction([_log_mean(cleared)], [_log_mean(hazed)])


def decoupled_patch_nce(content_query: tf.Tensor, content_key: tf.Tensor, query: tf.Tensor, key: tf.Tensor,
                        clear: tf.Tensor | None, hazy_weights: tf.Tensor, clear_weights: tf.Tensor | None,
                        temperature: float = 0.07, roles: str = "swapped", scale: str = "normalise_after",
                        haze_weight: float = 1.0) -> tf.Tensor:
    """A variant of ours: both questions of the split form, each asked of embeddings that answer it alone.

    Haze is in a picture's mean and deviation of each channel, the content in what is left without them. So content is
    plain PatchNCE (eq. 3 of CUT) of embeddings without both, which no even haze changes, instead of the channels that
    the classifier finds free of haze: that haze spares a channel is not what its weights say. The haze question is that
    of the split form.

    Args:
      content_query: [B, P, C], unit vectors of the output's patches, without the picture's own statistics.
      content_key: [B, P, C], the same of the hazy input's patches; takes no gradient.
      query: [B, P, C], as for `weighted_patch_nce`, and the others too.

    Returns:
      [B, P], one loss per query.

    Raises:
      ValueError: if `roles` is not known.
    """
    logits = patch_nce.internal_logits(content_query, content_key, temperature)
    content = tf.reshape(patch_nce.loss_from_logits(logits), tf.shape(query)[:2])
    if clear is None:
        return content
    _, push = _pull_and_push(hazy_weights, roles)
    cleared = _all_places(query, tf.stop_gradient(clear), clear_weights, scale) / temperature
    hazed = _all_places(query, tf.stop_gradient(key), push, scale) / temperature
    return content + haze_weight * _fraction([_log_mean(cleared)], [_log_mean(hazed)])


def _pull_and_push(hazy_weights: tf.Tensor, roles: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights of the query's own place in P and in N."""
    _check("roles", roles, ROLES)
    return (hazy_weights, 1.0 - hazy_weights) if roles == "printed" else (1.0 - hazy_weights, hazy_weights)


def _log_mean(terms: tf.Tensor) -> tf.Tensor:
    """Logarithm of the mean of exp over the last axis, which is kept."""
    count = tf.cast(tf.shape(terms)[-1], terms.dtype)
    return tf.reduce_logsumexp(terms, -1, keepdims=True) - tf.math.log(count)


def _fraction(positive: list[tf.Tensor], negative: list[tf.Tensor]) -> tf.Tensor:
    """-log(P / (P + N)) from the logarithms of the terms, each [B, P, ...]: [B, P]."""
    log_positive, log_negative = (tf.reduce_logsumexp(tf.concat(terms, -1), axis=-1) for terms in (positive, negative))
    return tf.nn.softplus(log_negative - log_positive)


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, found {value!r}")


def _own_place(query: tf.Tensor, key: tf.Tensor, weights: tf.Tensor, scale: str) -> tf.Tensor:
    """(w * z2)^T z1 at the same place: [B, P, 1]."""
    similarity = tf.reduce_sum(query * _weighted(key, weights, scale), axis=-1, keepdims=True)
    return tf.where(_present(weights), similarity, _ABSENT)


def _all_places(query: tf.Tensor, patches: tf.Tensor, weights: tf.Tensor, scale: str) -> tf.Tensor:
    """(w * z2)^T z1 of every query with every patch: [B, P, P']."""
    similarity = tf.matmul(query, _weighted(patches, weights, scale), transpose_b=True)
    return tf.where(_present(weights), similarity, _ABSENT)


def _weighted(patches: tf.Tensor, weights: tf.Tensor, scale: str) -> tf.Tensor:
    weighted = patches * tf.stop_gradient(weights)[:, None, :]
    if scale != "normalise_after":
        return weighted
    square = tf.reduce_sum(tf.square(weighted), axis=-1, keepdims=True)
    return weighted * tf.math.rsqrt(tf.maximum(square, 1e-30))


def _present(weights: tf.Tensor) -> tf.Tensor:
    """bool [B, 1, 1]: whether any channel has a weight."""
    return tf.reduce_any(weights > 0.0, axis=-1)[:, None, None]
