"""The kind of `tools.reproduce` that asks how well haze can be told in the features of untrained encoders.

A feature that does not show haze gives ODCR's classifier nothing to find, whatever its form. So the classifier here is
the best of its kind: logistic regression of standardised values, fitted to the end, on an encoder that stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cut_tf import networks
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.domain import Domain
from cut_tf.networks.generators.base import Generator
from cut_tf.networks.heads.patch_projector import sample_patches
from tools.benchmark import measuring
from tools.reproduce import report, runs
from tools.reproduce.folder import Options, Reproduction, check_test_pictures
from tools.reproduce.rows import settings_of
from tools.reproduce.suites import Row

# Pictures of each kind to fit with and to test with; places of each, in all and for the readings of single patches.
_FITTED, _TESTED, _PLACES, _PATCHES = 200, 48, 256, 8
_BATCH = 16
# Of Newton's method, which needs a few; the ridge keeps weights finite where hazy and clear can be separated.
_STEPS, _RIDGE = 25, 1.0
_LEAST_DEVIATION = 1e-8


def _pooled_mean(patches: np.ndarray) -> np.ndarray:
    return patches.mean(1)


def _pooled(patches: np.ndarray) -> np.ndarray:
    return np.concatenate([patches.mean(1), patches.std(1)], -1)


def _single(patches: np.ndarray) -> np.ndarray:
    """The first of them, which are in random order."""
    return patches[:, :_PATCHES].reshape(-1, patches.shape[-1])


# Heading to the function of patches [B, P, C] that gives what is classified, and whether patches get unit length first.
READINGS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
    "pooled mean": (_pooled_mean, False), "mean and deviation": (_pooled, False),
    "the same, unit length": (_pooled, True), "single patch": (_single, False),
    "single patch, unit length": (_single, True)}


class FeaturesReproduction(Reproduction):
    """Accuracy by encoder, layer and reading. Nothing is trained."""

    def __init__(self, options: Options) -> None:
        for flag, given in (("steps", options.steps), ("budget_minutes", options.budget_minutes),
                            ("feature_extractor", options.feature_extractor)):
            if given:
                raise InputError(f"--{flag} must be left out with --suite={options.suite}, found {given}")
        super().__init__(options)
        if self._settings.data.preprocess == "none":
            raise InputError(f"--set=preprocess must leave crops of --crop_size_px with --suite={options.suite}, found "
                             "none")
        check_test_pictures(open_dataset(self._settings), options)

    def _first_steps(self) -> int:
        return 0

    def _measure(self, row: Row, seed: int | None, lock: int) -> dict[str, Any]:
        arguments = [*self._common, *row.flags, f"--dataset={self._options.dataset}"]
        return measuring.in_own_process(measure, arguments)

    def _took_sec(self, result: Mapping[str, Any]) -> float | None:
        return None

    def _report(self, results: list[dict[str, Any]]) -> tuple[str, list[str]]:
        data = self._settings.data
        return table(self._rows, results), [
            f"Right answers on crops of {data.crop_size_px} px of {_TESTED} hazy and {_TESTED} clear test pictures at "
            f"most, after logistic regression on {_FITTED} and {_FITTED} training pictures of different scenes, of "
            f"encoders with their first weights. Each channel has values of its own, of {_PLACES} places of the crop "
            f"together (pooled) or of {_PATCHES} places of each crop one by one (single patch). Batch norm: "
            f"statistics of {_BATCH} crops of one kind."]


def measure(arguments: Sequence[str]) -> dict[str, Any]:
    """Accuracies of an untrained encoder.

    Args:
      arguments: flags of `cut_tf.train`; --nce_layers names the layers.

    Returns:
      `accuracies`: layer name to reading to the share of right answers in [0, 1]; `metrics` (none), `machine`.
    """
    settings = settings_of(arguments)
    data, side_px = open_dataset(settings), settings.data.crop_size_px
    generator = networks.build_generator(settings, settings.train.seed, networks.POLICIES["float32"], "generator")
    layers = settings.patch_nce.layers()
    generator.check_layers(layers)

    def patches_of(domain: Domain, count: int, seed: int) -> list[np.ndarray]:
        crops = _crops(domain, min(count, len(domain)), side_px, np.random.default_rng([settings.train.seed, seed]))
        return _patches(generator, crops, layers)

    fitted = [patches_of(domain, _FITTED, seed) for seed, domain in enumerate((data.source, data.target))]
    tested = [patches_of(domain, _TESTED, seed) for seed, domain in enumerate((data.test_source, data.test_target), 2)]
    accuracies: dict[str, dict[str, float]] = {}
    for name, *parts in zip(generator.feature_names(layers), *fitted, *tested):
        accuracies[name] = {}
        for heading, (reading, unit) in READINGS.items():
            values = [reading(_unit(part) if unit else part) for part in parts]
            accuracies[name][heading] = accuracy(*values)
    return {"accuracies": accuracies, "metrics": {}, "machine": runs.machine()}


def _crops(domain: Domain, count: int, side_px: int, rng: np.random.Generator) -> np.ndarray:
    crops = []
    for index in range(count):
        picture = domain.load(index)
        if min(picture.shape[:2]) < side_px:
            raise InputError(f"--set=crop_size_px must be at most the sides of the pictures with --suite=features, "
                             f"found {side_px} and {domain.name(index)} of {picture.shape[1]}x{picture.shape[0]} px")
        top, left = (int(rng.integers(0, length - side_px + 1)) for length in picture.shape[:2])
        crops.append(picture[top:top + side_px, left:left + side_px])
    return np.stack(crops)


def _patches(generator: Generator, crops: np.ndarray, layers: Sequence[int]) -> list[np.ndarray]:
    """The same places of all crops in random order, [B, P_l, C_l] per layer."""
    parts: list[list[np.ndarray]] = [[] for _ in layers]
    for first in range(0, len(crops), _BATCH):
        features = generator.encode(images.from_bytes(crops[first:first + _BATCH]), layers, training=True)
        for part, feature in zip(parts, features):
            places = np.random.default_rng(0).permutation(feature.shape[1] * feature.shape[2])[:_PLACES]
            part.append(sample_patches(feature, tf.constant(places, tf.int32)).numpy())
    return [np.concatenate(part).astype(np.float64) for part in parts]


def _unit(patches: np.ndarray) -> np.ndarray:
    return patches / np.maximum(np.linalg.norm(patches, axis=-1, keepdims=True), _LEAST_DEVIATION)


def accuracy(hazy: np.ndarray, clear: np.ndarray, hazy_test: np.ndarray, clear_test: np.ndarray) -> float:
    """Share of test rows that logistic regression on the others gets right, both kinds with the same weight.

    Args:
      hazy: [N, F], rows to fit with.
      clear: [M, F].
      hazy_test: [n, F].
      clear_test: [m, F].

    Returns:
      A number in [0, 1]; 0.5 is chance.
    """
    rows = np.concatenate([hazy, clear])
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), _LEAST_DEVIATION)

    def prepared(values: np.ndarray) -> np.ndarray:
        return np.concatenate([(values - mean) / deviation, np.ones([len(values), 1])], -1)

    inputs, labels = prepared(rows), np.concatenate([np.ones(len(hazy)), np.zeros(len(clear))])
    share = np.concatenate([np.full(len(hazy), 0.5 / len(hazy)), np.full(len(clear), 0.5 / len(clear))]) * len(rows)
    ridge = np.append(np.full(rows.shape[1], _RIDGE), _LEAST_DEVIATION)
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        found = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -30.0, 30.0)))
        slope = inputs.T @ (share * (found - labels)) + ridge * weights
        curvature = (inputs * (share * found * (1.0 - found))[:, None]).T @ inputs + np.diag(ridge)
        weights -= np.linalg.solve(curvature, slope)
    right = [np.mean(prepared(hazy_test) @ weights > 0), np.mean(prepared(clear_test) @ weights < 0)]
    return float(np.mean(right))


def table(rows: Sequence[Row], results: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table of all rows that have a result, in percent."""
    lines = []
    for row in rows:
        for result in results:
            if result["row"] == row.name:
                lines += [[row.label, layer, *(f"{100 * found[heading]:.0f}" for heading in READINGS)]
                          for layer, found in result["accuracies"].items()]
    return report.markdown(["encoder", "layer", *READINGS], lines)
