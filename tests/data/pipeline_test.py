"""The training stream: content, order, resuming, replicas, memory, errors."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data import pipeline
from cut_tf.data.domain import CachedDomain, MemoryBudget, Origin, TranslationData
from cut_tf.data.pipeline import TrainingStream
from cut_tf.settings import DataSettings
from tests.waiting import at_once

SETTINGS = {"load_size_px": 20, "crop_size_px": 16, "batch_size": 2, "data_workers": 1}


class FakeDomain:
    """Noise pictures. Counts how often each is loaded; the one called `broken` raises InputError."""

    def __init__(self, count: int, first: int, size: tuple[int, int] = (24, 18), broken: int = -1,
                 first_load_sec: float = 0.0) -> None:
        self.count, self.first, self.height_width, self.broken = count, first, size, broken
        self.first_load_sec = first_load_sec
        self.loads: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"picture_{index}"

    def load(self, index: int) -> np.ndarray:
        with self._lock:
            wait_sec = 0.0 if self.loads else self.first_load_sec
            self.loads[index] += 1
        time.sleep(wait_sec)
        if index == self.broken:
            raise InputError(f"picture_{index}: is broken")
        return _noise(self.first + index, self.height_width)

    def size(self, index: int) -> tuple[int, int]:
        return self.height_width[1], self.height_width[0]

    def origin(self, index: int) -> Origin:
        return Origin(self.name(index), 0)

    def key(self, index: int) -> int:
        return index


def _noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def _data(source: int = 5, target: int = 3, **values: object) -> TranslationData:
    return TranslationData(FakeDomain(source, 0, **values), FakeDomain(target, 100, **values), None, None, False, "")


def _stream(data: TranslationData | None = None, seed: int = 7, **overrides: object) -> TrainingStream:
    return TrainingStream(data or _data(), DataSettings(**{**SETTINGS, **overrides}), seed)


def _take(stream: TrainingStream, count: int, first_step: int = 0, context: tf.distribute.InputContext | None = None
          ) -> list[dict[str, np.ndarray]]:
    batches = stream.dataset(first_step, context)
    return [{name: crops.numpy() for name, crops in batch.items()} for batch in itertools.islice(batches, count)]


def _assert_same(found: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert set(one) == set(other) == {"source", "target"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_batches_are_crops_in_network_range():
    stream = _stream()
    assert {name: spec.dtype for name, spec in stream.dataset(0).element_spec.items()} == {
        "source": tf.float32, "target": tf.float32}
    for step, batch in enumerate(_take(stream, 4)):
        for domain, name in enumerate(("source", "target")):
            assert batch[name].shape == (2, 16, 16, 3) and batch[name].dtype == np.float32
            assert -1.0 <= batch[name].min() < -0.9 and 0.9 < batch[name].max() <= 1.0
            for place in range(2):
                crop = stream.crop_at(2 * step + place, domain)
                np.testing.assert_array_equal(batch[name][place], images.from_bytes(crop))


def test_no_thread_tunes_the_pipeline():
    """It would sleep for up to a minute after the end of a run, which then waits for it."""
    assert _stream().dataset(0).options().autotune.enabled is False


def test_datasets_that_are_read_at_the_same_time_share_the_workers(monkeypatch):
    workers, plain = [], tf.data.Dataset.map

    def recorded(self, function, **options):
        workers.append(options.get("num_parallel_calls"))
        return plain(self, function, **options)

    monkeypatch.setattr(tf.data.Dataset, "map", recorded)
    _stream(data_workers=5).dataset(0, tf.distribute.InputContext(2, 1, 2), readers=2)
    assert workers == [3, None]


def test_shape_is_known_to_the_graph():
    specs = _stream().dataset(0).element_spec
    assert all(spec.shape.as_list() == [2, 16, 16, 3] for spec in specs.values())


def test_source_and_target_come_from_their_own_pictures():
    # Without resizing, crops of the whole picture are the pictures themselves.
    stream = _stream(_data(size=(16, 16)), preprocess="crop", flip=False, batch_size=1)
    batches = _take(stream, 15)
    for name, first, count in (("source", 0, 5), ("target", 100, 3)):
        pictures = [_noise(first + index, (16, 16)) for index in range(count)]
        shown = [[np.array_equal(images.to_bytes(batch[name][0]), picture) for picture in pictures].index(True)
                 for batch in batches]
        assert collections.Counter(shown) == {index: 15 // count for index in range(count)}


@pytest.mark.parametrize("step", [1, 4, 9])
def test_a_later_start_continues_the_stream(step):
    _assert_same(_take(_stream(), 4, first_step=step), _take(_stream(), 13)[step:step + 4])


def test_seeds_give_different_streams():
    one, other = _take(_stream(seed=1), 2), _take(_stream(seed=2), 2)
    assert not np.array_equal(one[0]["source"], other[0]["source"])


def test_augmentation_differs_between_epochs():
    batches = _take(_stream(_data(1, 1), batch_size=1), 12)
    assert len({batch["source"].tobytes() for batch in batches}) > 6


@pytest.mark.parametrize("workers, replicas", [(1, 2), (2, 2), (2, 4), (1, 4)])
@pytest.mark.parametrize("first_step", [0, 3])
def test_replicas_together_get_the_batches_of_one(workers, replicas, first_step):
    """Replica r of a step gets the r-th part of the step's global batch, whatever the number of processes."""
    steps, batch_size = 5, 4
    whole = _take(_stream(batch_size=batch_size), steps, first_step)
    local = replicas // workers
    parts: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, replicas)
        for number, part in enumerate(_take(_stream(batch_size=batch_size), steps * local, first_step, context)):
            step, replica = divmod(number, local)
            parts[step, worker * local + replica] = part
    per_replica = batch_size // replicas
    for step in range(steps):
        for replica in range(replicas):
            expected = {name: crops[replica * per_replica:(replica + 1) * per_replica]
                        for name, crops in whole[step].items()}
            _assert_same([parts[step, replica]], [expected])


def test_parallel_reading_does_not_change_the_order():
    """The first picture takes longest, so others are there before it."""
    slow = _stream(_data(8, 8, first_load_sec=0.3), data_workers=8)
    _assert_same(_take(slow, 8), _take(_stream(_data(8, 8)), 8))


def test_memory_for_all_pictures_reads_each_once():
    data = _data()
    _take(_stream(data, batch_size=1, cache_mb=1), 16)
    assert data.source.loads == {index: 1 for index in range(5)}
    assert data.target.loads == {index: 1 for index in range(3)}


@pytest.mark.parametrize("cache_mb, load_size", [(0, 20), (1, 600)])
def test_without_enough_memory_pictures_are_read_again(cache_mb, load_size):
    data = _data(2, 2)  # 600 x 600 x 3 bytes are a little more than 1 MiB
    _take(_stream(data, batch_size=1, cache_mb=cache_mb, load_size_px=load_size), 6)
    assert min(data.source.loads.values()) >= 3 and min(data.target.loads.values()) >= 3


def test_memory_for_some_pictures_keeps_some():
    domain = FakeDomain(4, 0, size=(400, 400))  # 480,000 bytes each, so two fit
    cached = CachedDomain(domain, lambda image: image, MemoryBudget(1))
    for index in (0, 1, 2, 3) * 3:
        cached.load(index)
    assert domain.loads == {0: 1, 1: 1, 2: 3, 3: 3}


def test_memory_is_shared_by_the_domains():
    budget = MemoryBudget(1)
    domains = [FakeDomain(1, 0, size=(500, 500)), FakeDomain(1, 100, size=(500, 500))]  # 750,000 bytes each
    for cached in [CachedDomain(domain, lambda image: image, budget) for domain in domains]:
        cached.load(0)
        cached.load(0)
    assert [domain.loads[0] for domain in domains] == [1, 2]


def test_a_picture_read_by_two_threads_at_once_is_paid_for_once():
    both = threading.Barrier(2, timeout=3)

    class SlowDomain(FakeDomain):
        def load(self, index: int) -> np.ndarray:
            if index == 0:
                with contextlib.suppress(threading.BrokenBarrierError):  # if only one thread is let in: fine too
                    both.wait()
            return super().load(index)

    domain = SlowDomain(2, 0, size=(400, 400))
    cached = CachedDomain(domain, lambda image: image, MemoryBudget(1))
    at_once(cached.load, (0, 0))
    cached.load(1)
    cached.load(1)
    assert domain.loads[1] == 1, "the second picture fits into 1 MiB beside the first"


def test_prepared_pictures_are_what_is_kept():
    cached = CachedDomain(FakeDomain(1, 0), lambda image: image[:4], MemoryBudget(1))
    assert cached.load(0).shape == (4, 18, 3) and cached.load(0).shape == (4, 18, 3)
    assert len(cached) == 1 and cached.name(0) == "picture_0"


@pytest.mark.parametrize("source, target, batch, steps", [(5, 3, 1, 5), (3, 9, 2, 4), (2, 2, 2, 1), (2, 3, 8, 1)])
def test_steps_per_epoch(source, target, batch, steps):
    assert _stream(_data(source, target), batch_size=batch).steps_per_epoch() == steps


def test_replica_batch():
    assert [pipeline.replica_batch(12, replicas) for replicas in (1, 2, 3)] == [12, 6, 4]
    with pytest.raises(InputError, match=r"--batch_size must be a multiple of the number of replicas \(2\), found 3"):
        pipeline.replica_batch(3, 2)
    with pytest.raises(InputError, match="--batch_size"):
        _stream(batch_size=3).dataset(0, tf.distribute.InputContext(1, 0, 2))


def test_a_broken_picture_stops_the_stream_and_is_remembered():
    stream = _stream(_data(broken=1), batch_size=1)
    with pytest.raises(tf.errors.OpError):
        _take(stream, 20)
    assert isinstance(stream.error, InputError) and str(stream.error) == "picture_1: is broken"


def test_a_sound_stream_remembers_no_error():
    stream = _stream()
    _take(stream, 3)
    assert stream.error is None


def test_a_picture_smaller_than_the_crop_is_an_input_error():
    """Folders are checked when opened; pictures of other datasets can only be checked when they are read."""
    stream = _stream(_data(size=(24, 30)), preprocess="crop", crop_size_px=28)
    with pytest.raises(tf.errors.OpError):
        _take(stream, 1)
    assert isinstance(stream.error, InputError), "what stopped the stream was not an InputError"
    assert "at least the crop of 28 px" in str(stream.error) and "found 30x24" in str(stream.error)


def test_pictures_of_differing_sizes_without_preprocessing():
    data = TranslationData(FakeDomain(2, 0, size=(22, 31)), FakeDomain(3, 100, size=(40, 17)), None, None, False, "")
    for batch in _take(_stream(data, preprocess="none", batch_size=1), 5):
        assert batch["source"].shape == (1, 20, 28, 3) and batch["target"].shape == (1, 40, 16, 3)


def test_load_test_images():
    settings = DataSettings(preprocess="scale_width", load_size_px=36, crop_size_px=16, test_images=3)
    pictures = pipeline.load_test_images(FakeDomain(5, 0), settings)
    assert [picture.shape for picture in pictures] == [(48, 36, 3)] * 3
    assert len(pipeline.load_test_images(FakeDomain(2, 0), settings)) == 2
    assert pipeline.load_test_images(None, settings) == []
    assert len(pipeline.load_test_images(FakeDomain(5, 0), settings, most=2)) == 2


def test_rendered_test_images_are_made_when_they_are_needed():
    class Rendered(FakeDomain):
        def origin(self, index):
            return Origin(self.name(index), 0)

    class Stored(FakeDomain):
        def origin(self, index):
            return Origin(self.name(index), 7)

    settings = DataSettings(preprocess="none", test_images=3)
    rendered, stored = Rendered(5, 0), Stored(5, 0)
    later, now = (pipeline.load_test_images(domain, settings) for domain in (rendered, stored))
    assert not rendered.loads and stored.loads == {0: 1, 1: 1, 2: 1} and len(later) == 3
    for _ in range(2):
        np.testing.assert_array_equal(later[1:], now[1:])
        assert [picture.shape for picture in later] == [picture.shape for picture in now]
    assert rendered.loads == stored.loads
    with pytest.raises(InputError, match="picture_2: is broken"):
        pipeline.load_test_images(Stored(5, 0, broken=2), settings)
