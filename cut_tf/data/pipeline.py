"""tf.data pipelines. Order and augmentation are a pure function of (seed, step, replica)."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data import order
from cut_tf.data.checks import check_pair_sizes
from cut_tf.data.domain import CachedDomain, Domain, MemoryBudget, TranslationData
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import DataSettings

_SOURCE, _TARGET = 0, 1


class TrainingStream:
    """Batches {"source", "target"} of training crops, from any step on.

    Args:
      data: the two domains.
      settings: preprocessing, global batch size, memory budget, parallel reads.
      seed: of the run.
      paired: give the training pairs, with one crop for both pictures of a pair, instead of the unpaired domains.

    Raises:
      InputError: if `paired` and the dataset has no training pairs, or pairs whose pictures differ in size.

    Attributes:
      domains: source and target.
      error: the InputError that stopped the stream, if there was one. tf.data itself passes on only its text.
    """

    def __init__(self, data: TranslationData, settings: DataSettings, seed: int, paired: bool = False) -> None:
        if paired and data.pairs is None:
            raise InputError("--dataset must have training pictures in pairs for this --method (hazed:CLEAR_DIR, "
                             "scenes, haze:TRAIN_DIR, or a folder whose trainA and trainB have the same file names), "
                             f"found {data.description}")
        self.domains = data.pairs if paired else (data.source, data.target)
        if paired:
            check_pair_sizes(self.domains, settings, "training")
        self._settings = settings
        self._seed = seed
        self._paired = paired
        self._preprocessing = Preprocessing.of(settings)
        budget = MemoryBudget(settings.cache_mb)
        self._cached = [CachedDomain(domain, self._preprocessing.resize, budget) for domain in self.domains]
        self.error: InputError | None = None

    def steps_per_epoch(self) -> int:
        """Steps that go through the larger domain once. A last partial batch is left out."""
        return max(max(len(domain) for domain in self._cached) // self._settings.batch_size, 1)

    def crop_at(self, position: int, domain: int) -> np.ndarray:
        """uint8 [h, w, 3], the crop at `position` of the stream of that domain."""
        index = self._index_at(position, domain)
        return self._crop(position, domain, index, self._cached[domain].load(index))

    def pair_at(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Both crops at `position` of a stream of pairs, as `crop_at` gives them. Each picture is read once."""
        indices = [self._index_at(position, domain) for domain in (_SOURCE, _TARGET)]
        source, target = (cached.load(index) for cached, index in zip(self._cached, indices))
        if source.shape != target.shape:  # headers were checked before, but they may be wrong or the files changed
            names = [cached.name(index) for cached, index in zip(self._cached, indices)]
            raise InputError(f"{names[0]} and {names[1]}: pictures of a pair must have one size, found "
                             f"{source.shape[1]}x{source.shape[0]} and {target.shape[1]}x{target.shape[0]}")
        return tuple(self._crop(position, domain, indices[domain], image)
                     for domain, image in ((_SOURCE, source), (_TARGET, target)))

    def _index_at(self, position: int, domain: int) -> int:
        return order.picture_at(position, len(self._cached[domain]), self._seed, self._drawn_for(domain))

    def _drawn_for(self, domain: int) -> int:
        """The domain whose random draws are used. Both pictures of a pair use those of the source."""
        return _SOURCE if self._paired else domain

    def _crop(self, position: int, domain: int, index: int, image: np.ndarray) -> np.ndarray:
        rule = self._preprocessing.too_small(image.shape[1], image.shape[0])
        if rule:
            name = self._cached[domain].name(index)
            raise InputError(f"{name}: {rule}, found {image.shape[1]}x{image.shape[0]}")
        rng = order.augmentation_rng(position, self._seed, self._drawn_for(domain))
        return self._preprocessing.crop(image, rng)

    def dataset(self, first_step: int, context: tf.distribute.InputContext | None = None, readers: int = 1
                ) -> tf.data.Dataset:
        """Batches from `first_step` on, without end.

        Args:
          first_step: steps done before.
          context: given by `Strategy.distribute_datasets_from_function`; one process with one replica if None.
          readers: datasets of this process that are read at the same time. They share its `data_workers`.

        Returns:
          Dataset of {"source", "target"}: float32 [b, h, w, 3] in [-1, 1], where b is the batch of one replica. If R
          replicas read one dataset, they take turns: replica r gets every R-th batch from the r-th on.
        """
        workers = context.num_input_pipelines if context else 1
        worker = context.input_pipeline_id if context else 0
        replicas = context.num_replicas_in_sync if context else 1
        per_replica = replica_batch(self._settings.batch_size, replicas)
        global_batch, local_batch = self._settings.batch_size, self._settings.batch_size // workers

        def position_of(element: tf.Tensor) -> tf.Tensor:
            step, place = element // local_batch, element % local_batch
            return step * global_batch + worker * local_batch + place

        plain = tf.autograph.experimental.do_not_convert  # AutoGraph would read the source of all that is called here
        parallel = math.ceil((self._settings.data_workers or max(os.cpu_count() or 1, 2)) / readers)
        dataset = tf.data.Dataset.range(first_step * local_batch, tf.int64.max)
        dataset = dataset.map(plain(lambda element: self._crops(position_of(element))), num_parallel_calls=parallel)
        dataset = dataset.batch(per_replica, drop_remainder=True)
        dataset = dataset.map(plain(lambda batch: {name: images.from_bytes(crops) for name, crops in batch.items()}))
        # Nothing is left to tune, and the thread that would do it can hold up the end of a run for a minute.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)

    def _crops(self, position: tf.Tensor) -> dict[str, tf.Tensor]:
        if self._paired:
            source, target = self._call(self.pair_at, position, 2)
        else:
            # Two calls, so that both pictures are read in parallel.
            (source,), (target,) = [self._call(lambda place, domain=domain: (self.crop_at(place, domain),), position, 1)
                                    for domain in (_SOURCE, _TARGET)]
        return {"source": source, "target": target}

    def _call(self, function: Callable[[int], tuple[np.ndarray, ...]], position: tf.Tensor, count: int
              ) -> list[tf.Tensor]:
        """Calls `function`: position to `count` crops, uint8 [side, side, 3]. Stores its InputError in `error`."""
        side = None if self._settings.preprocess == "none" else self._settings.crop_size_px

        def call(place: np.ndarray) -> tuple[np.ndarray, ...]:
            try:
                return function(int(place))
            except InputError as error:
                self.error = error
                raise

        # Crops depend on the position alone. Without this declaration --deterministic would make them one by one.
        crops = tf.numpy_function(call, [position], [tf.uint8] * count, stateful=False)
        return [tf.ensure_shape(crop, [side, side, 3]) for crop in crops]


def replica_batch(global_batch: int, replicas: int) -> int:
    """Images of each domain per step and replica. Raises InputError unless they divide evenly."""
    if global_batch % replicas:
        raise InputError(f"--batch_size must be a multiple of the number of replicas ({replicas}), "
                         f"found {global_batch}")
    return global_batch // replicas


def load_test_images(domain: Domain | None, settings: DataSettings, most: int | None = None) -> Sequence[np.ndarray]:
    """The first `test_images` pictures of a domain, resized as in training but not cropped: uint8 [h, w, 3] each.

    Those of files are read here, so that what is wrong with them is said at once. Rendered ones take seconds, and are
    made when the first of them is asked for.

    Args:
      domain: none if the dataset has no such split, which gives no pictures.
      settings: preprocessing and number of pictures.
      most: no more than these; no other limit if None.

    Raises:
      InputError: if a picture cannot be read.
    """
    if domain is None:
        return []
    resize = Preprocessing.of(settings).resize
    indices = range(min(len(domain), settings.test_images))[:most]
    if all(domain.origin(index).file_bytes == 0 for index in indices):
        return _RenderedImages(domain, resize, indices)
    return [resize(domain.load(index)) for index in indices]


class _RenderedImages(Sequence):
    """Pictures of a domain, all made at the first use."""

    def __init__(self, domain: Domain, prepare: Callable[[np.ndarray], np.ndarray], indices: range) -> None:
        self._domain, self._prepare, self._indices = domain, prepare, indices

    @functools.cached_property
    def _images(self) -> list[np.ndarray]:
        return [self._prepare(self._domain.load(index)) for index in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        return self._images[index]
