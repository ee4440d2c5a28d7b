"""Parts of the work in one process: memory, batches, order."""

import threading

import numpy as np
import pytest

from cut_tf.batch.records import Picture, Sample
from cut_tf.batch.worker import Part, PixelBudget, Target, Worker
from tests.batch import jobs


def _part(sizes):
    return Part("p-00000", tuple(Sample((Picture(f"{number}.png", jobs.encoded(jobs.picture(number, *size))),))
                                 for number, size in enumerate(sizes)), True)


class _Condition(threading.Condition):
    """A condition that tells of each thread that waits for it."""

    def __init__(self, came):
        super().__init__()
        self._came = came

    def wait(self, timeout=None):
        self._came.release()
        return super().wait(timeout)


def _joined(threads):
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("first, second, together", [(40, 60, True), (60, 60, False), (100, 1, False),
                                                     # One that is larger than the bound is alone.
                                                     (10, 500, False), (500, 10, False)])
def test_pixels_in_memory_stay_below_the_bound(first, second, together):
    budget, came = PixelBudget(100), threading.Semaphore(0)
    budget._changed = _Condition(came)
    inside, seen = [], []

    def work(pixels, is_second):
        with budget.reserved(pixels):
            inside.append(pixels)
            seen.append(sorted(inside))
            came.release()
            assert is_second or second_came.wait(60)
            inside.remove(pixels)

    second_came = threading.Event()
    threads = [threading.Thread(target=work, args=[pixels, number == 1], daemon=True)
               for number, pixels in enumerate((first, second))]
    for thread in threads:  # The first one leaves when the second one is inside too, or waits.
        thread.start()
        assert came.acquire(timeout=60)
    second_came.set()
    _joined(threads)
    assert seen == [[first], sorted([first, second]) if together else [second]]


def test_all_that_fit_go_on_when_one_leaves():
    budget, came, inside = PixelBudget(100), threading.Semaphore(0), threading.Barrier(2, timeout=60)
    budget._changed = _Condition(came)
    met = []

    def work():
        with budget.reserved(50):
            met.append(inside.wait())

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    with budget.reserved(100):
        for thread in threads:
            thread.start()
            assert came.acquire(timeout=60)
    _joined(threads)
    assert sorted(met) == [0, 1]


class _Together:
    """A translator of several pictures at once, which notes what it is given."""

    def __init__(self, fails=()):
        self.batches, self._fails = [], fails

    def __call__(self, picture, where):
        self.batches.append(1)
        if where in self._fails:
            raise ValueError("bad")
        return 255 - picture

    def many(self, pictures):
        self.batches.append(len(pictures))
        if self._fails:
            raise ValueError("one of them is bad")
        return [255 - picture for picture in pictures]


def test_pictures_of_one_size_are_translated_together_within_both_bounds(tmp_path):
    translate = _Together()
    sizes = [(18, 20), (20, 20), (18, 20), (20, 20), (18, 20), (18, 20), (30, 40)]
    report = Worker(translate, Target(str(tmp_path), "files"), 800, batch_size=3).do(_part(sizes))
    # 18x20 twice is 720 pixels, 20x20 twice is 800, 30x40 is larger than the bound.
    assert translate.batches == [2, 2, 2, 1] and report.pictures == 7
    jobs.assert_results(tmp_path, {f"{number}.png": 255 - jobs.picture(number, *size)
                                   for number, size in enumerate(sizes)})


def test_one_bad_picture_does_not_fail_its_batch(tmp_path):
    translate = _Together(fails=("1.png",))
    report = Worker(translate, Target(str(tmp_path), "files"), 2**20, batch_size=4).do(_part([(18, 20)] * 4))
    assert translate.batches == [4, 1, 1, 1, 1] and report.pictures == 3
    assert [failure["message"] for failure in report.failures] == ["1.png: cannot be translated (ValueError: bad)"]


def test_a_translator_without_batches_is_never_given_one(tmp_path):
    report = Worker(jobs.inverted, Target(str(tmp_path), "files"), 2**20, batch_size=4).do(_part([(18, 20)] * 4))
    assert report.pictures == 4


def test_sizes_follow_each_other(tmp_path):
    seen = []

    def translate(picture, where):
        seen.append(picture.shape[:2])
        return picture

    sizes = [(30, 20), (18, 20), (30, 20), (18, 40), (18, 20)]
    Worker(translate, Target(str(tmp_path), "tar"), 2**20).do(_part(sizes))
    assert seen == sorted(sizes)


@pytest.mark.parametrize("lost", ["unreadable", "damaged", "not translated"])
def test_a_sample_without_one_of_its_pictures_is_of_no_use(tmp_path, lost):
    good = jobs.encoded(jobs.picture(0))
    bad = {"unreadable": b"no picture", "damaged": good[:200],
           "not translated": jobs.encoded(jobs.picture(1, 30))}[lost]
    pair = Sample((Picture("a.left.png", good), Picture("a.right.png", bad)), (("a.txt", b"a"),))
    part = Part("p-00000", (pair, Sample((Picture("b.png", good),))), True)

    def translate(picture, where):
        if picture.shape[0] == 30:
            raise MemoryError
        return jobs.inverted(picture, where)

    report = Worker(translate, Target(str(tmp_path), "tar"), 2**20).do(part)
    assert [failure["picture"] for failure in report.failures] == ["a.right.png", "a.left.png"]
    assert report.failures[1] == {"picture": "a.left.png", "kind": "refused", "message": "a.left.png: its sample must "
                                  "have results of all of its pictures, found that it lacks a.right.png"}
    jobs.assert_results(tmp_path, {"b.png": 255 - jobs.picture(0)})


def test_a_shard_of_failures_is_not_written(tmp_path):
    part = Part("p-00000", (Sample((Picture("a.png", jobs.encoded(jobs.picture(0))[:300]),)),), True)
    report = Worker(jobs.inverted, Target(str(tmp_path), "tar"), 2**20).do(part)
    assert report.written == [] and not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize("kind", ["files", "tar", "tfrecord"])
def test_a_disk_that_refuses_ends_the_part_without_a_report(tmp_path, kind):
    target = tmp_path / "out"
    target.write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="must be writable"):
        Worker(jobs.inverted, Target(str(target), kind), 2**20).do(_part([(18, 20)]))
    np.testing.assert_equal(target.read_text(), "a file where the folder should be")
