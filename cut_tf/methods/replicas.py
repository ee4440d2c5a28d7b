"""Variables and values that the replicas of a step share."""

from __future__ import annotations

import tensorflow as tf


def step_variable(value: object, dtype: tf.DType) -> tf.Variable:
    """A variable to which all replicas assign the same value, so that the first replica's copy is used."""
    return tf.Variable(value, dtype=dtype, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)


def replica_count() -> int:
    """Number of replicas that take a step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_index() -> tf.Tensor:
    """int32 scalar: the index of this replica."""
    return tf.convert_to_tensor(tf.distribute.get_replica_context().replica_id_in_sync_group)


def gather_over_replicas(values: tf.Tensor) -> tf.Tensor:
    """Joins [B, ...] of all replicas in their order. Gradients flow back to all of them."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_gather(values, axis=0)


def own_part(whole_batch: tf.Tensor) -> tf.Tensor:
    """This replica's [B, ...] of values for the global batch."""
    size = tf.shape(whole_batch)[0] // replica_count()
    first = replica_index() * size
    return whole_batch[first:first + size]
