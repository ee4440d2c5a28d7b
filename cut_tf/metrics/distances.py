"""Distances between two sets of pictures, by their features: FID and KID. Lower is better.

Statistics are computed a batch at a time in bounded memory. They can be stored in a file for later comparisons.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.common.places import AnyPath
from cut_tf.metrics.features import FeatureExtractor

MIN_IMAGES = 2
SAMPLE_LIMIT = 10_000
SUBSETS = 100
SUBSET_IMAGES = 1000

DEFINITIONS = {
    "fid": "FID: Frechet distance between Gaussians with the mean and the covariance (divisor n - 1) of the features "
           "(Heusel et al. 2017). Too high with few images: not for comparisons between different numbers of images.",
    "kid": f"KID: unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018), mean and standard "
           f"deviation (divisor n) over {SUBSETS} random subsets of {SUBSET_IMAGES} images, or of half of the smaller "
           f"set if that is fewer; of a set with more than {SAMPLE_LIMIT} images, of that many drawn at random. May be "
           "slightly negative.",
}


class FeatureMoments:
    """Mean and covariance of vectors in float64, a batch at a time, without cancellation.

    Chan, Golub, LeVeque: Algorithms for Computing the Sample Variance, The American Statistician 37 (1983), eq. 2.1.

    Attributes:
      count: number of vectors.
      mean: [D].
      scatter: [D, D], sum of the outer products of the deviations from the mean.
    """

    def __init__(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        self.count, self.mean, self.scatter = count, mean, scatter

    @staticmethod
    def of(features: np.ndarray) -> FeatureMoments:
        """Moments of float [B, D], with at least one vector."""
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        return FeatureMoments(len(features), mean, (features - mean).T @ (features - mean))

    def merge(self, other: FeatureMoments) -> None:
        """Adds the vectors that `other` was made of."""
        total, step = self.count + other.count, other.mean - self.mean
        self.scatter = self.scatter + other.scatter + np.outer(step, step) * (self.count * other.count / total)
        self.mean = self.mean + step * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """[D, D] with divisor n - 1, as in NumPy's cov. Raises ValueError for fewer than two vectors."""
        if self.count < MIN_IMAGES:
            raise ValueError(f"a covariance needs {MIN_IMAGES} vectors, found {self.count}")
        return self.scatter / (self.count - 1)


class FeatureSample:
    """A uniform random sample, without replacement, of vectors that are added a batch at a time.

    Every vector gets a random number, which depends on its position alone, and those with the smallest numbers stay. So
    samples of parts of a set can be merged, in any order.

    Args:
      limit: vectors to keep.
      seed: of the draws; the same vectors at the same positions give the same sample.
    """

    def __init__(self, limit: int = SAMPLE_LIMIT, seed: int = 0) -> None:
        self._limit, self._seed, self._next = limit, seed, 0
        self._draws: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def add(self, features: np.ndarray, first: int | None = None) -> None:
        """Adds float [B, D], at the positions from `first` on; behind those added before if None."""
        first = self._next if first is None else first
        self._next = first + len(features)
        generator = np.random.Generator(np.random.PCG64(self._seed).advance(first))  # a step for each vector
        self._draws.append(generator.random(len(features)))
        self._positions.append(np.arange(first, self._next))
        self._features.append(features.astype(np.float32))
        self._trim_if_long()

    def merge(self, other: FeatureSample) -> None:
        """Adds the vectors that `other` was made of; their positions must be others."""
        self._draws += other._draws
        self._positions += other._positions
        self._features += other._features
        self._trim_if_long()

    def features(self) -> np.ndarray:
        """float32 [n, D], n at most `limit`, in the order of their positions."""
        self._trim()
        return self._features[0]

    def _trim_if_long(self) -> None:
        if sum(map(len, self._draws)) > 2 * self._limit:
            self._trim()

    def _trim(self) -> None:
        draws, positions, features = (np.concatenate(parts) for parts in (
            self._draws, self._positions, self._features))
        kept = np.argsort(draws)[:self._limit]
        kept = kept[np.argsort(positions[kept])]
        self._draws, self._positions, self._features = [draws[kept]], [positions[kept]], [features[kept]]


class FeatureCollector:
    """Statistics of vectors, of which parts are collected apart and merged. An empty one is the start of each part."""

    def __init__(self) -> None:
        self._moments: FeatureMoments | None = None
        self._sample = FeatureSample()

    @property
    def count(self) -> int:
        """Number of vectors."""
        return self._moments.count if self._moments else 0

    def add(self, features: np.ndarray, first: int | None = None) -> None:
        """Adds float [B, D] of the pictures `first`, `first` + 1 and so on; of those that follow if None."""
        self._add_moments(FeatureMoments.of(features))
        self._sample.add(features, first)

    def merge(self, other: FeatureCollector) -> None:
        """Adds the vectors that `other` was made of."""
        if other._moments:
            self._add_moments(other._moments)
            self._sample.merge(other._sample)

    def statistics(self, description: Mapping[str, str], where: str) -> FeatureStatistics:
        """What is stored of them. Raises InputError naming `where` if there are too few."""
        check_count(self.count, where)
        return FeatureStatistics(description, self._moments, self._sample.features())

    def _add_moments(self, moments: FeatureMoments) -> None:
        if self._moments is None:
            self._moments = FeatureMoments(moments.count, moments.mean, moments.scatter)
        else:
            self._moments.merge(moments)


def check_count(count: int, where: str) -> None:
    """Raises InputError naming `where` if there are too few pictures for a distance."""
    if count < MIN_IMAGES:
        raise InputError(f"{where}: FID and KID need at least {MIN_IMAGES} images, found {count}")


class FeatureStatistics(NamedTuple):
    """The stored statistics of a set of pictures.

    Attributes:
      description: of the extractor, as in `FeatureExtractor.description`.
      moments: of all features.
      sample: float32 [n, D], n at most SAMPLE_LIMIT, for KID.
    """

    description: Mapping[str, str]
    moments: FeatureMoments
    sample: np.ndarray

    @property
    def count(self) -> int:
        """Number of pictures."""
        return self.moments.count

    def save(self, path: AnyPath) -> None:
        """Writes a .npz file atomically. Raises InputError if it cannot be written."""
        data = io.BytesIO()
        np.savez(data, description=np.array(json.dumps(dict(self.description))), count=np.array(self.count),
                 mean=self.moments.mean, scatter=self.moments.scatter, sample=self.sample)
        replace_file(path, data.getvalue())


def statistics_of(extractor: FeatureExtractor, pictures: Iterable[np.ndarray], where: str) -> FeatureStatistics:
    """Statistics of pictures, uint8 [h, w, 3] each, of any sizes. Raises InputError naming `where` if under 2."""
    collected = FeatureCollector()
    for features in extractor.batches(pictures):
        collected.add(features)
    return collected.statistics(extractor.description, where)


def load_statistics(path: AnyPath, extractor: FeatureExtractor) -> FeatureStatistics:
    """Reads what `FeatureStatistics.save` wrote; nothing in the file is executed.

    Raises:
      InputError: if the file is missing or damaged, or its features are those of another extractor, of another layer,
        of other weights, or of another resize filter.
    """
    rule = "must be a .npz file of cut_tf.evaluate --reference_statistics"
    try:
        archive = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            count, mean, scatter, sample = (archive[name] for name in ("count", "mean", "scatter", "sample"))
            description = json.loads(str(archive["description"]))
            moments = FeatureMoments(int(count), mean.astype(np.float64), scatter.astype(np.float64))
    except Exception as error:  # of damaged files NumPy and zipfile raise far more types than they document
        raise InputError(f"--reference_statistics={path} {rule}, found {type(error).__name__}: {error}") from error
    different = [f"{name} {description.get(name)!r} against {value!r}" for name, value in extractor.description.items()
                 if description.get(name) != value] if isinstance(description, dict) else ["no description"]
    if different:
        raise InputError(f"--reference_statistics={path} must be of the extractor of this evaluation, found (its own "
                         f"against this one's) {'; '.join(different)}")
    side = extractor.dimension
    shapes = (mean.shape, scatter.shape, sample.shape[1:])
    if shapes != ((side,), (side, side), (side,)) or len(sample) != min(moments.count, SAMPLE_LIMIT) or (
            moments.count < MIN_IMAGES or not all(np.isfinite(values).all() for values in (mean, scatter, sample))):
        raise InputError(f"--reference_statistics={path} {rule}, found damaged arrays {shapes}")
    return FeatureStatistics(description, moments, sample)


def frechet_distance(one: FeatureMoments, other: FeatureMoments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), zero or more, for covariances of any rank.

    Dowson, Landau, Journal of Multivariate Analysis 12 (1982); Heusel et al.: GANs Trained by a Two Time-Scale Update
    Rule, NIPS 2017, eq. 6. With C = F F', from the eigenvectors of C, the trace of (C1 C2)^(1/2) is the sum of the
    singular values of F1' F2: no root of a product that is not symmetric, and no eigenvalue below zero.
    """
    root, other_root = _factor(one.covariance), _factor(other.covariance)
    shared = np.linalg.svd(root.T @ other_root, compute_uv=False).sum() if root.size and other_root.size else 0.0
    step = one.mean - other.mean
    return max(float(step @ step + (root**2).sum() + (other_root**2).sum() - 2 * shared), 0.0)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [D, rank] with F F' = covariance [D, D], without the directions whose variance is only rounding."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


class Distance(NamedTuple):
    """A distance of two sets, and its standard deviation over subsets, NaN if it has none."""

    value: float
    std: float


def kernel_distance(one: np.ndarray, other: np.ndarray, seed: int = 0) -> Distance:
    """KID: the unbiased squared maximum mean discrepancy, mean and spread over subsets as `DEFINITIONS` says.

    Binkowski et al.: Demystifying MMD GANs, ICLR 2018, section 4. Gretton et al.: A Kernel Two-Sample Test, JMLR 13
    (2012), eq. 3.

    Args:
      one: float [n, D], n at least 2.
      other: float [m, D], m at least 2.
      seed: of the subsets.
    """
    rng, size = np.random.default_rng(seed), subset_size(len(one), len(other))
    values = []
    for _ in range(SUBSETS):
        x, y = (features[rng.choice(len(features), size, replace=False)].astype(np.float64)
                for features in (one, other))
        within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y)))
        values.append(within / (size * (size - 1)) - 2 * _kernel(x, y).mean())
    return Distance(float(np.mean(values)), float(np.std(values)))


def subset_size(images: int, others: int) -> int:
    """Images of a subset of KID: at most half of a set, since subsets of the whole set would have no spread."""
    return min(SUBSET_IMAGES, max(min(images, others) // 2, MIN_IMAGES))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 [n, D] and [m, D] to [n, m]."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def fid(outputs: FeatureStatistics, targets: FeatureStatistics) -> Distance:
    """Frechet Inception distance; it has no deviation."""
    return Distance(frechet_distance(outputs.moments, targets.moments), math.nan)


def kid(outputs: FeatureStatistics, targets: FeatureStatistics) -> Distance:
    """Kernel Inception distance, and its deviation over subsets."""
    return kernel_distance(outputs.sample, targets.sample)
