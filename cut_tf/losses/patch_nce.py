"""PatchNCE (CUT, ECCV 2020, eq. 2-4): an (N+1)-way classification of the patch that a query came from."""

from __future__ import annotations

import tensorflow as tf

# The official code keeps each query's own location among the negatives, with this similarity before the division by the
# temperature.
_OWN_LOCATION = -10.0
# A similarity whose exponential is 0 in float32, so that the entry does not count.
_EXCLUDED = -1e9


def _positive_logits(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(query * key, axis=-1, keepdims=True)


def _classification(positive: tf.Tensor, negative: tf.Tensor, temperature: float) -> tf.Tensor:
    """Logits [..., 1 + N] with the positive first."""
    return tf.concat([positive, negative], axis=-1) / temperature


def internal_logits(query: tf.Tensor, key: tf.Tensor, temperature: float = 0.07,
                    num_negatives: int = 0) -> tf.Tensor:
    """Negatives are the other locations of the same image, whatever the batch size (eq. 3).

    Args:
      query: [B, P, C], unit vectors of the output's patches.
      key: [B, P, C], unit vectors of the input's patches at the same locations; takes no gradient.
      temperature: divides the similarities.
      num_negatives: negatives kept per query; 0 keeps all P - 1. Patches being in random order, the next
        `num_negatives` in cyclic order are a random choice.

    Returns:
      [B, P, 1 + P]; column 0 is the positive.
    """
    key = tf.stop_gradient(key)
    similarity = tf.matmul(query, key, transpose_b=True)  # [B, P, P]
    similarity = tf.linalg.set_diag(similarity, tf.fill(tf.shape(similarity)[:-1], _OWN_LOCATION))
    if num_negatives:
        place = tf.range(tf.shape(similarity)[-1])
        ahead = (place[None, :] - place[:, None]) % tf.size(place)
        similarity = tf.where(ahead <= num_negatives, similarity, _EXCLUDED)
    return _classification(_positive_logits(query, key), similarity, temperature)


def minibatch_logits(query: tf.Tensor, key: tf.Tensor, temperature: float = 0.07,
                     pool: tf.Tensor | None = None, first: tf.Tensor | int = 0) -> tf.Tensor:
    """Negatives are the patches of all images of the step (SinCUT).

    Args:
      query: [B, P, C].
      key: [B, P, C] at the same locations; takes no gradient.
      temperature: divides the similarities.
      pool: [N, C], the keys of all replicas, image by image; the keys of this replica if None.
      first: row of the pool where this replica's keys start.

    Returns:
      [B, P, 1 + N]; column 0 is the positive, and the query's own location stays among the rest with -10.
    """
    key = tf.stop_gradient(key)
    batch, patches = tf.shape(query)[0], tf.shape(query)[1]
    pool = tf.reshape(key, [batch * patches, tf.shape(key)[-1]]) if pool is None else tf.stop_gradient(pool)
    similarity = tf.einsum("bpc,nc->bpn", query, pool)
    rows = tf.reshape(tf.range(batch * patches), [batch, patches, 1]) + first
    own = tf.equal(tf.range(tf.shape(pool)[0])[None, None, :], rows)
    similarity = tf.where(own, _OWN_LOCATION, similarity)
    return _classification(_positive_logits(query, key), similarity, temperature)


def external_logits(query: tf.Tensor, key: tf.Tensor, negatives: tf.Tensor, present: tf.Tensor,
                    temperature: float = 0.07) -> tf.Tensor:
    """Negatives are patches of other images (eq. 4), an ablation that the paper found to hurt.

    Args:
      query: [B, P, C].
      key: [B, P, C] at the same locations; takes no gradient.
      negatives: [N, C], keys of other images; take no gradient.
      present: bool [N], false where there is no negative yet.
      temperature: divides the similarities.

    Returns:
      [B, P, 1 + N]; column 0 is the positive.
    """
    key = tf.stop_gradient(key)
    similarity = tf.einsum("bpc,nc->bpn", query, tf.stop_gradient(negatives))
    similarity = tf.where(present[None, None, :], similarity, _EXCLUDED)
    return _classification(_positive_logits(query, key), similarity, temperature)


def internal_external_logits(query: tf.Tensor, key: tf.Tensor, negatives: tf.Tensor, present: tf.Tensor,
                             temperature: float = 0.07) -> tf.Tensor:
    """Negatives are the other locations of the same image and patches of other images (eq. 3 and 4 in one sum).

    Args:
      query, key, negatives, present, temperature: as for `external_logits`.

    Returns:
      [B, P, 1 + P + N]; column 0 is the positive.
    """
    external = external_logits(query, key, negatives, present, temperature)
    return tf.concat([internal_logits(query, key, temperature), external[..., 1:]], axis=-1)


def loss_from_logits(logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the positive: [B, P, 1 + N] to [B, P]."""
    return tf.reduce_logsumexp(logits, axis=-1) - logits[..., 0]


def accuracy_from_logits(logits: tf.Tensor) -> tf.Tensor:
    """Share of queries, in [0, 1], whose positive scores above every negative."""
    best_negative = tf.reduce_max(logits[..., 1:], axis=-1)
    return tf.reduce_mean(tf.cast(logits[..., 0] > best_negative, tf.float32))


@tf.function(reduce_retracing=True)
def patch_nce(query: tf.Tensor, key: tf.Tensor, temperature: float = 0.07, negatives: str = "internal",
              num_negatives: int = 0) -> tf.Tensor:
    """PatchNCE loss per query, compiled.

    Args:
      query: float32 [B, P, C], unit vectors.
      key: float32 [B, P, C], unit vectors at the same locations; takes no gradient.
      temperature: tau.
      negatives: internal (per image) or minibatch (all images together).
      num_negatives: with internal negatives, how many are kept; 0 keeps all.

    Returns:
      [B, P], one loss per query.

    Raises:
      ValueError: if `negatives` is neither.
    """
    if negatives == "internal":
        return loss_from_logits(internal_logits(query, key, temperature, num_negatives))
    if negatives == "minibatch":
        return loss_from_logits(minibatch_logits(query, key, temperature))
    raise ValueError(f"negatives must be internal or minibatch, found {negatives!r}")
