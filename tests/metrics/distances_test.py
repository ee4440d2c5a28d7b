"""Moments, FID and KID against closed forms, NumPy and scipy; the files of reference statistics."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

from cut_tf.common.errors import InputError
from cut_tf.metrics import distances
from cut_tf.metrics.distances import (
    FeatureCollector,
    FeatureMoments,
    FeatureSample,
    frechet_distance,
    kernel_distance,
    load_statistics,
    statistics_of,
)


def _normal(mean, covariance, count: int = 101) -> FeatureMoments:
    """Moments of `count` vectors that have this sample covariance."""
    return FeatureMoments(count, np.array(mean, np.float64), np.array(covariance, np.float64) * (count - 1))


def _extractor(**description: str) -> SimpleNamespace:
    """Features are the means of red, green and blue, two pictures at a time."""
    def batches(pictures):
        pictures = list(pictures)
        for start in range(0, len(pictures), 2):
            yield np.stack([picture.mean(axis=(0, 1)) for picture in pictures[start:start + 2]])

    return SimpleNamespace(dimension=3, batches=batches, description={
        "extractor": "means", "layer": "pixels", "resize": "none", "weights": "", "dimension": "3", **description})


def _pictures(number: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (number, 5, 6, 3), dtype=np.uint8))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_merged_moments_are_those_of_all_vectors(offset):
    features = np.random.default_rng(0).normal(offset, 1.0, (57, 4))
    parts = [FeatureMoments.of(part) for part in np.split(features, [1, 3, 30])]
    for one, other in ((0, 1), (2, 3), (0, 2)):
        parts[one].merge(parts[other])
    assert parts[0].count == 57
    np.testing.assert_allclose(parts[0].mean, features.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(parts[0].covariance, np.cov(features, rowvar=False), rtol=1e-6, atol=1e-8)


def test_one_vector_has_no_covariance():
    with pytest.raises(ValueError, match="needs 2 vectors, found 1"):
        _ = FeatureMoments.of(np.ones([1, 3])).covariance


@pytest.mark.parametrize("one, other, expected", [
    (([1.0], [[4.0]]), ([3.0], [[9.0]]), 2.0**2 + (2 - 3) ** 2),
    # Covariances with common eigenvectors: squared differences of the standard deviations.
    (([0, 0], [[4, 0], [0, 25]]), ([3, 4], [[1, 0], [0, 4]]), 25 + 1 + 9),
    (([0, 0], [[2, 1], [1, 2]]), ([0, 0], [[8, 4], [4, 8]]), 3 + 1),
    # Singular ones: orthogonal lines share nothing, nor does a point.
    (([0, 0, 0], np.diag([4, 0, 0])), ([0, 0, 0], np.diag([0, 9, 0])), 4 + 9),
    (([0, 0], np.zeros([2, 2])), ([1, 0], np.diag([4, 0])), 1 + 4),
    (([5, 5], np.zeros([2, 2])), ([5, 5], np.zeros([2, 2])), 0),
    # Lines at 45 degrees: the trace of the root is |cos| times both deviations.
    (([0, 0], np.diag([4, 0])), ([0, 0], [[4.5, 4.5], [4.5, 4.5]]), 4 + 9 - 2 * 2 * 3 * np.sqrt(0.5)),
])
def test_frechet_distance_of_known_gaussians(one, other, expected):
    assert frechet_distance(_normal(*one), _normal(*other)) == pytest.approx(expected, abs=1e-12)
    assert frechet_distance(_normal(*other), _normal(*one)) == pytest.approx(expected, abs=1e-12)


def test_frechet_distance_is_that_of_scipys_matrix_root():
    rng = np.random.default_rng(1)
    features = [rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + shift for shift in (0.0, 0.5)]
    means, covariances = zip(*((x.mean(axis=0), np.cov(x, rowvar=False)) for x in features))
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    found = frechet_distance(*(FeatureMoments.of(x) for x in features))
    assert found == pytest.approx(expected, rel=1e-10) and expected > 1


def test_few_vectors_of_many_dimensions():
    """Ranks of 4 in 64 dimensions: the same set has distance zero, and rotating both sets changes nothing."""
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(5, 64)), rng.normal(size=(5, 64))
    rotation = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    assert frechet_distance(FeatureMoments.of(one), FeatureMoments.of(one[::-1])) == pytest.approx(0, abs=1e-9)
    plain = frechet_distance(FeatureMoments.of(one), FeatureMoments.of(other))
    turned = frechet_distance(FeatureMoments.of(one @ rotation), FeatureMoments.of(other @ rotation))
    assert turned == pytest.approx(plain, rel=1e-9) and plain > 10


def test_kernel_distance_by_hand():
    """k(0, 1) = 1, k(2, 3) = 343, and 1, 1, 27, 64 between the sets."""
    found = kernel_distance(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]))
    assert found == (pytest.approx(1 + 343 - 2 * 93 / 4), pytest.approx(0))


def test_kernel_distance_is_unbiased_over_its_subsets():
    """Subsets of 2 out of 5 and 4: their mean is near that over all pairs, which the sets' own estimate equals."""
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(5, 3)), rng.normal(1.0, size=(4, 3))

    def kernel(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    def within(points):
        return np.mean([kernel(x, y) for x, y in itertools.permutations(points, 2)])

    exact = within(one) + within(other) - 2 * np.mean([kernel(x, y) for x in one for y in other])
    found = kernel_distance(one, other)
    assert found.std > 0 and abs(found.value - exact) < 4 * found.std / np.sqrt(distances.SUBSETS)
    assert found == kernel_distance(one, other) != kernel_distance(one, other, seed=1)


def test_kernel_distance_tells_sets_apart_and_not_a_set_from_itself():
    features = np.random.default_rng(4).normal(size=(400, 5))
    same = kernel_distance(features[:200], features[200:])
    assert abs(same.value) < 3 * same.std < kernel_distance(features[:200], features[200:] + 1.0).value


@pytest.mark.parametrize("counts, size", [((2, 9), 2), ((24, 30), 12), ((1999, 5000), 999), ((9000, 2000), 1000)])
def test_size_of_the_subsets(counts, size):
    assert distances.subset_size(*counts) == size


def test_a_sample_is_uniform_bounded_and_in_order():
    numbers = np.arange(4000.0)[:, None]
    sample = FeatureSample(limit=500, seed=1)
    for batch in np.split(numbers, 40):
        sample.add(batch)
    kept = sample.features()[:, 0]
    assert kept.dtype == np.float32 and len(kept) == 500 and (np.diff(kept) > 0).all()
    assert np.abs(np.histogram(kept, 4, (0, 4000))[0] - 125).max() < 40
    few = FeatureSample(limit=500)
    few.add(numbers[:7])
    np.testing.assert_array_equal(few.features(), numbers[:7])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_collectors_merge_in_any_order(order):
    features = np.random.default_rng(5).normal(3.0, 2.0, (90, 4))
    cuts = [0, 1, 30, 64, 90]
    parts = []
    for start, end in zip(cuts, cuts[1:]):
        part = FeatureCollector()
        for first in range(start, end, 16):
            part.add(features[first:min(first + 16, end)], first)
        parts.append(part)
    merged = FeatureCollector()
    for number in order:
        merged.merge(parts[number])
    found = merged.statistics({}, "here")
    assert found.count == 90
    np.testing.assert_allclose(found.moments.mean, np.mean(features, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.moments.covariance, np.cov(features, rowvar=False), rtol=1e-10)
    np.testing.assert_array_equal(found.sample, features.astype(np.float32))


def test_a_sample_of_merged_parts_is_that_of_the_whole():
    """Those with the smallest numbers of one stream of NumPy, in the order of their places."""
    numbers = np.arange(700.0)[:, None]
    kept = np.sort(np.argsort(np.random.default_rng(3).random(700))[:60])
    for cuts in ([0, 700], [0, 1, 450, 451, 700], [0, 100, 200, 700]):
        parts = []
        for start, end in zip(cuts, cuts[1:]):
            parts.append(FeatureSample(limit=60, seed=3))
            parts[-1].add(numbers[start:end], start)
        merged = FeatureSample(limit=60, seed=3)
        for part in reversed(parts):
            merged.merge(part)
        np.testing.assert_array_equal(merged.features()[:, 0], kept)


def test_statistics_of_pictures_survive_their_file(tmp_path):
    pictures = _pictures(7)
    means = np.stack([picture.mean(axis=(0, 1)) for picture in pictures])
    statistics = statistics_of(_extractor(), iter(pictures), "here")
    statistics.save(tmp_path / "s.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]
    for found in (statistics, load_statistics(tmp_path / "s.npz", _extractor())):
        assert found.count == 7 and found.description == _extractor().description
        np.testing.assert_allclose(found.moments.covariance, np.cov(means, rowvar=False), rtol=1e-12)
        np.testing.assert_allclose(found.sample, means, rtol=1e-6)


def test_single_pictures_are_refused():
    with pytest.raises(InputError, match="here: FID and KID need at least 2 images, found 1"):
        statistics_of(_extractor(), _pictures(1), "here")
    with pytest.raises(InputError, match="found 0"):
        statistics_of(_extractor(), [], "here")


@pytest.mark.parametrize("name", ["extractor", "layer", "resize", "weights"])
def test_statistics_of_another_extractor_are_refused(tmp_path, name):
    statistics_of(_extractor(**{name: "other"}), _pictures(3), "here").save(tmp_path / "s.npz")
    with pytest.raises(InputError, match=f"--reference_statistics=.*s.npz must be of the extractor .*{name} 'other' "):
        load_statistics(tmp_path / "s.npz", _extractor())


class _Harm:
    def __reduce__(self):
        return pytest.fail, ("the file was unpickled",)


def _damaged(kind: str, whole: bytes, path) -> bytes:
    if kind == "pickle":
        return pickle.dumps(_Harm())
    if kind == "half":
        return whole[:len(whole) // 2]
    with np.load(path) as archive:
        arrays = dict(archive)
    if kind == "pickled array":
        arrays["mean"] = np.array([_Harm()], dtype=object)
    elif kind == "shape":
        arrays["scatter"] = arrays["scatter"][:2]
    elif kind == "count":
        arrays["count"] = np.array(99)
    elif kind == "nan":
        arrays["mean"][0] = np.nan
    elif kind == "missing":
        del arrays["sample"]
    elif kind == "description":
        arrays["description"] = np.array(json.dumps([1]))
    data = io.BytesIO()
    if kind == "array":
        np.save(data, np.zeros(3))
    else:
        np.savez(data, **arrays)
    if kind == "compression":  # a method that zipfile does not know, in the directory at the end
        start = data.getvalue().index(b"PK\x01\x02") + 10
        data.getbuffer()[start:start + 2] = b"\x63\0"
    return data.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "half", "pickled array", "shape", "count", "nan", "missing",
                                  "description", "array", "compression"])
def test_damaged_statistics_are_refused_and_nothing_is_unpickled(tmp_path, kind):
    path = tmp_path / "s.npz"
    statistics_of(_extractor(), _pictures(3), "here").save(path)
    path.write_bytes(_damaged(kind, path.read_bytes(), path))
    with pytest.raises(InputError, match="--reference_statistics=.*s.npz must be"):
        load_statistics(path, _extractor())


def test_missing_statistics_are_named(tmp_path):
    with pytest.raises(InputError, match="s.npz must be a .npz file of .*FileNotFoundError"):
        load_statistics(tmp_path / "s.npz", _extractor())
