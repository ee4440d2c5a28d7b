"""Devices: one process with all GPUs or the CPU, or several processes described by TF_CONFIG."""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf import devices
from cut_tf.common.errors import InputError
from cut_tf.data.pipeline import TrainingStream, replica_batch
from cut_tf.settings import Settings
from cut_tf.training import early_signals, rendezvous
from cut_tf.training.cluster import Cluster, read_cluster

_LOG = logging.getLogger(__name__)


class Devices(NamedTuple):
    """The strategy of a run, and which of its processes this one is."""

    strategy: tf.distribute.Strategy
    worker: int
    workers: int
    # None if there is one process only.
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.worker == 0

    def batches(self, stream: TrainingStream, first_step: int) -> tf.distribute.DistributedDataset:
        """The batches of a stream for the replicas of this process, from `first_step` on.

        Under `MirroredStrategy` every replica reads a dataset of its own. By default TensorFlow puts an iterator of its
        own between one dataset and the replicas. A thread of that iterator tunes buffers in growing intervals. It often
        misses that the run has ended, and the run then waits for the interval to pass, which can take a minute.
        """
        if not isinstance(self.strategy, tf.distribute.MirroredStrategy):  # The others offer nothing else.
            return self.strategy.distribute_datasets_from_function(lambda context: stream.dataset(first_step, context))
        readers = self.strategy.num_replicas_in_sync
        return self.strategy.distribute_datasets_from_function(
            lambda context: stream.dataset(first_step, context, readers),
            tf.distribute.InputOptions(experimental_fetch_to_device=False,
                                       experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA))


def set_up(settings: Settings) -> Devices:
    """Chooses the devices and logs global and per-replica batch. Call before anything else touches TensorFlow.

    Raises:
      InputError: if the batch does not divide over the replicas, if XLA is asked for on several of them, or if
        TF_CONFIG is not understood.
    """
    asked = settings.devices
    devices.set_up(asked.tf32)
    keras.utils.set_random_seed(settings.train.seed)
    if asked.deterministic:
        tf.config.experimental.enable_op_determinism()
    # This graph optimisation fails on a training step, and prints an alarming message each time.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    cluster = read_cluster(os.environ.get("TF_CONFIG", ""))
    worker, workers = (cluster.index, len(cluster.addresses)) if cluster else (0, 1)
    if asked.num_virtual_devices:
        _split_cpu(asked.num_virtual_devices)
    if cluster and workers > 1:
        _LOG.info("%s at %s; training starts when all are ready: %s", cluster.names[worker], cluster.addresses[worker],
                  ", ".join(f"{name} at {address}" for name, address in zip(cluster.names, cluster.addresses)))
        rendezvous.wait_for_all(cluster)
    strategy = _strategy(settings, workers)
    if workers > 1:  # Before the line below tells anybody that the processes are joined.
        early_signals.hold()
    replicas = strategy.num_replicas_in_sync
    per_replica = replica_batch(settings.data.batch_size, replicas)
    if asked.xla and replicas > 1:
        raise InputError(f"--xla must be off with more than one replica, found {replicas} replicas")
    _LOG.info("%d replicas in %d processes; batch %d global, %d per replica", replicas, workers,
              settings.data.batch_size, per_replica)
    return Devices(strategy, worker, workers, cluster)


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        existing = len(tf.config.list_logical_devices("CPU"))
        if existing < count:
            raise InputError(f"--num_virtual_devices must be set before TensorFlow starts, found {existing} devices "
                             f"already made, asked for {count}") from error


def _strategy(settings: Settings, workers: int) -> tf.distribute.Strategy:
    if workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if settings.devices.num_virtual_devices:
        return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(settings.devices.num_virtual_devices)])
    gpus = tf.config.list_logical_devices("GPU")
    if settings.devices.xla:
        # XLA compiles a step as one function, which only a strategy without replica threads allows.
        if len(gpus) > 1:
            raise InputError(f"--xla must be off with more than one replica, found {len(gpus)} GPUs")
        return tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")
    return tf.distribute.MirroredStrategy(None if gpus else ["CPU:0"])
