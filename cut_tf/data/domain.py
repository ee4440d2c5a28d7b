"""The contract of every dataset: two domains of images, and a test split that may be paired."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from cut_tf.data.image_files import as_png

_BYTES_PER_PIXEL = 3


class Origin(NamedTuple):
    """Where a picture comes from: path or name, and the size of its file in bytes, 0 if it is computed."""

    place: str
    file_bytes: int


class Domain(Protocol):
    """A list of pictures that are read one at a time, from several threads."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Name of a picture, for messages and file names."""

    def load(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises InputError naming the picture if it cannot be read."""

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of what `load` gives. Decodes nothing. Raises InputError like `load`."""

    def origin(self, index: int) -> Origin:
        """Where the picture comes from."""

    def key(self, index: int) -> Hashable:
        """Equal for all indices with the same picture, so that a cache stores it once."""


@runtime_checkable
class StoredDomain(Protocol):
    """A domain whose pictures are files, of `Origin.file_bytes`."""

    def encoded(self, index: int) -> bytes:
        """The bytes of the file, of any format that is read, whose picture is that of `load`."""


def encoded_picture(domain: Domain, index: int) -> bytes:
    """A picture as the bytes of a file: its own, or else a PNG. Raises InputError like `Domain.load`."""
    domain, index = _own_domain(domain, index)
    return domain.encoded(index) if isinstance(domain, StoredDomain) else as_png(domain.load(index))


def encoded_bytes(domain: Domain, index: int) -> int:
    """About how many bytes `encoded_picture` gives, without reading the picture.

    A file has its size. For a PNG the bytes of its pixels count, which it does not exceed by much.
    """
    domain, index = _own_domain(domain, index)
    if isinstance(domain, StoredDomain):
        return domain.origin(index).file_bytes
    width, height = domain.size(index)
    return _BYTES_PER_PIXEL * width * height


def _own_domain(domain: Domain, index: int) -> tuple[Domain, int]:
    """The domain that a picture is in, which may be joined with others, and its index there."""
    while isinstance(domain, JoinedDomain):
        domain, index = domain.find(index)
    return domain, index


class TranslationData(NamedTuple):
    """Both domains, and the test split."""

    source: Domain
    target: Domain
    test_source: Domain | None
    test_target: Domain | None
    # Whether test_source[i] and test_target[i] show the same scene, so that PSNR and SSIM make sense.
    test_paired: bool
    description: str
    # Training pictures (hazy[i], clear[i]) of the same scene, for methods that learn from pairs; None without.
    pairs: tuple[Domain, Domain] | None = None


class JoinedDomain:
    """The pictures of several domains, one domain after the other."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        self._domains = list(domains)

    def __len__(self) -> int:
        return sum(len(domain) for domain in self._domains)

    def name(self, index: int) -> str:
        domain, place = self.find(index)
        return domain.name(place)

    def load(self, index: int) -> np.ndarray:
        domain, place = self.find(index)
        return domain.load(place)

    def size(self, index: int) -> tuple[int, int]:
        domain, place = self.find(index)
        return domain.size(place)

    def origin(self, index: int) -> Origin:
        domain, place = self.find(index)
        return domain.origin(place)

    def key(self, index: int) -> Hashable:
        domain, place = self.find(index)
        return self._domains.index(domain), domain.key(place)

    def find(self, index: int) -> tuple[Domain, int]:
        """The domain that has the picture, and its index there."""
        for domain in self._domains:
            if index < len(domain):
                return domain, index
            index -= len(domain)
        raise IndexError(index)


class CachedDomain:
    """A domain that keeps prepared pictures in memory, as many as a budget allows.

    Args:
      domain: the pictures. Each one that fits into memory is read once.
      prepare: uint8 [H, W, 3] to uint8 [h, w, 3], the part of preprocessing that is the same every time.
      budget: shared by the domains of a run.
    """

    def __init__(self, domain: Domain, prepare: object, budget: MemoryBudget) -> None:
        self._domain = domain
        self._prepare = prepare
        self._budget = budget
        self._kept: dict[Hashable, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._domain)

    def name(self, index: int) -> str:
        return self._domain.name(index)

    def load(self, index: int) -> np.ndarray:
        key = self._domain.key(index)
        image = self._kept.get(key)
        if image is None:
            image = self._prepare(self._domain.load(index))
            with self._lock:  # another thread may have read the same picture meanwhile
                if key not in self._kept and self._budget.take(image.nbytes):
                    self._kept[key] = image
        return image


class MemoryBudget:
    """The bytes of memory that are left for pictures. Thread-safe."""

    def __init__(self, megabytes: int) -> None:
        self._left = megabytes * 2**20
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Takes `size` bytes and returns True, or returns False if fewer are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True
