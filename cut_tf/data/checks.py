"""Checks of the pictures' sizes before training, by their headers alone: nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cut_tf.common.errors import InputError
from cut_tf.data.domain import Domain, TranslationData
from cut_tf.data.transforms import Preprocessing
from cut_tf.settings import DataSettings

# Pictures that a message names at most, so that it stays readable with a thousand bad ones.
NAMED_AT_MOST = 5


def with_test_pairs_checked(data: TranslationData, settings: DataSettings) -> TranslationData:
    """Checks that both pictures of each test pair have one size. With --notest_pairs it removes the pairing instead.

    Raises:
      InputError: naming up to NAMED_AT_MOST test pairs whose pictures differ in size after the resizing.
    """
    if not data.test_paired:
        return data
    if not settings.test_pairs:
        return data._replace(test_paired=False,
                             description=f"{data.description}; not taken as pairs (--notest_pairs)")
    check_pair_sizes((data.test_source, data.test_target), settings, "test",
                     "If these pictures show different scenes and only happen to have the same names, give "
                     "--notest_pairs, which takes the test split as unpaired")
    return data


def check_pair_sizes(pairs: tuple[Domain, Domain], settings: DataSettings, split: str, advice: str = "") -> None:
    """Raises InputError if the pictures of a pair differ in size after the resizing of --preprocess.

    Args:
      pairs: two domains of equal length, whose pictures of one index belong together.
      settings: of the dataset.
      split: training or test, for the message.
      advice: last line of the message.
    """
    preprocessing = Preprocessing.of(settings)
    sizes = [sizes_of(domain) for domain in pairs]
    lines = [f"  {', '.join(f'{domain.origin(index).place} {size[0]}x{size[1]}' for domain, size in zip(pairs, both))}"
             for index, both in enumerate(zip(*sizes))
             if preprocessing.size_after_resize(*both[0]) != preprocessing.size_after_resize(*both[1])]
    if lines:
        raise InputError("\n".join([
            f"--dataset={settings.dataset}: both pictures of a {split} pair must have one size with "
            f"--preprocess={settings.preprocess}, found {len(lines)} of {len(pairs[0])} pairs that differ:",
            *first_lines(lines), *([advice] if advice else [])]))


def check_least_side(domains: Sequence[Domain], settings: DataSettings, least_px: int, reason: str) -> None:
    """Raises InputError if a training picture is too small for the networks. For --preprocess=none.

    Args:
      domains: the training pictures.
      settings: of the dataset.
      least_px: smallest side that the networks accept.
      reason: the flag that asks for this side, for the message.
    """
    preprocessing = Preprocessing.of(settings)
    lines = [f"  {domain.origin(index).place}: {width}x{height}" for domain in domains
             for index, (width, height) in enumerate(sizes_of(domain))
             if min(preprocessing.size_of_crop(width, height)) < least_px]
    if lines:
        raise InputError("\n".join([
            f"--dataset={settings.dataset}: sides of training pictures must be at least {least_px} px with "
            f"--preprocess={settings.preprocess} and {reason}, found {len(lines)} smaller ones:", *first_lines(lines)]))


def sizes_of(domain: Domain) -> list[tuple[int, int]]:
    """(width, height) of every picture. A picture that the domain contains several times is read once."""
    first_of: dict[object, int] = {}
    places = [first_of.setdefault(domain.key(index), index) for index in range(len(domain))]
    with ThreadPoolExecutor() as pool:
        sizes = dict(zip(first_of.values(), pool.map(domain.size, first_of.values())))
    return [sizes[place] for place in places]


def first_lines(lines: Sequence[str]) -> list[str]:
    """The first NAMED_AT_MOST lines, and a line that counts the others."""
    more = [f"  and {len(lines) - NAMED_AT_MOST} more"] if len(lines) > NAMED_AT_MOST else []
    return [*lines[:NAMED_AT_MOST], *more]
