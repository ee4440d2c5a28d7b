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


def test_pixels_in_memory_stay_below_the_bound():
    budget, held, most = PixelBudget(100), [], []
    lock, started = threading.Lock(), threading.Barrier(8)

    def work(pixels):
        started.wait()
        for _ in range(50):
            with budget.reserved(pixels):
                with lock:
                    held.append(pixels)
                    most.append((sum(held), len(held)))
                with lock:
                    held.remove(pixels)

    threads = [threading.Thread(target=work, args=[pixels]) for pixels in (10, 20, 40, 60, 100, 30, 50, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 400
    # One that is larger than the bound was alone.
    assert all(pixels <= 100 or count == 1 for pixels, count in most)
    assert max(pixels for pixels, _ in most) == 500


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


def test_a_sample_without_one_of_its_pictures_is_of_no_use(tmp_path):
    good = jobs.encoded(jobs.picture(0))
    pair = Sample((Picture("a.left.png", good), Picture("a.right.png", good[:200])), (("a.txt", b"a"),))
    part = Part("p-00000", (pair, Sample((Picture("b.png", good),))), True)
    report = Worker(jobs.inverted, Target(str(tmp_path), "tar"), 2**20).do(part)
    assert [failure["picture"] for failure in report.failures] == ["a.right.png"]
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
