"""Alarms and grids on hand-made pictures."""

from types import SimpleNamespace

import numpy as np
import pytest

from cut_tf.metrics.features import FeatureExtractor
from cut_tf.training import callbacks, evaluation


def _flat(*levels):
    return [np.full((20, 24, 3), level, np.uint8) for level in levels]


def test_copy_alarm():
    assert evaluation.output_statistics(_flat(10, 200), _flat(10, 201))["alarm/copy"] == 1.0
    statistics = evaluation.output_statistics(_flat(10, 200), _flat(14, 200))
    assert statistics["alarm/copy"] == 0.0
    assert statistics["alarm/change_levels"] == 2.0


def test_collapse_alarm():
    statistics = evaluation.output_statistics(_flat(10, 200, 50), _flat(100, 110, 109))
    # Inputs differ by 190 and 150, outputs by 10 and 1.
    assert statistics["alarm/variety_ratio"] == pytest.approx(5.5 / 170)
    assert statistics["alarm/collapse"] == 1.0
    assert evaluation.output_statistics(_flat(10, 200), _flat(60, 90))["alarm/collapse"] == 0.0


def test_colour_statistics():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:8, :, 0] = 100
    statistics = evaluation.output_statistics([picture], [255 - picture])
    assert statistics["colour/source_mean_r"] == 50.0 and statistics["colour/source_std_r"] == 50.0
    assert statistics["colour/output_mean_r"] == 205.0 and statistics["colour/output_mean_g"] == 255.0


def test_grid_aligns_pictures_of_different_sizes():
    left, right = _flat(10, 20), [np.full((30, 5, 3), 77, np.uint8), np.full((4, 9, 3), 88, np.uint8)]
    grid = evaluation.grid([left, right])
    assert grid.shape == (30 + 20, 24 + 9, 3)
    assert grid[0, 0, 0] == 10 and grid[0, 24, 0] == 77 and grid[30, 0, 0] == 20 and grid[33, 32, 0] == 88
    assert grid[25, 0, 0] == 255


def test_mean_metrics_of_known_error():
    metrics = evaluation.mean_metrics(_flat(100, 100), _flat(110, 100 + 20))
    assert metrics["psnr"] == pytest.approx((20 * np.log10(255 / 10) + 20 * np.log10(255 / 20)) / 2, abs=1e-4)


def test_a_pair_that_is_equal_does_not_make_the_mean_infinite():
    metrics = evaluation.mean_metrics(_flat(110, 100), _flat(120, 100))
    assert metrics["psnr"] == pytest.approx(10 * np.log10(255**2 / 10**2), abs=1e-4)
    assert evaluation.mean_metrics(_flat(100), _flat(100))["psnr"] == np.inf


def test_a_distance_whose_targets_are_looked_at_once():
    """Features are the means of red, green and blue, so two sets of flat grey pictures are three equal numbers."""
    seen = []

    def network(levels):
        seen.append(len(levels))
        return levels.numpy().mean(axis=(1, 2))

    extractor = FeatureExtractor("means", "pixels", network, (20, 24), "")
    measure = evaluation.DistributionMeasure("fid", extractor, _flat(0, 20, 40))
    # Deviations of 20 against 10 along the diagonal of the colours, means of 20 against 50.
    assert measure(_flat(40, 50, 60)) == {"fid": pytest.approx(3 * 30**2 + 3 * (20 - 10) ** 2)}
    assert measure(_flat(0, 20, 40)) == {"fid": pytest.approx(0, abs=1e-9)}
    assert seen == [1, 3, 3, 3]


class _Store:
    """Takes the place of the checkpoints: keeps what is marked."""

    def __init__(self):
        self.best = None

    def marked(self, name):
        return self.best

    def save(self, state, step, settings):
        pass

    def mark(self, name, step, **values):
        self.best = {"step": step, **values}


_WITH = {"test_images": 2, "test_pairs": True, "crop_border_px": 0, "feature_extractor": "inception"}


def test_outputs_that_all_equal_their_targets_are_no_best_for_ever(tiny_settings):
    store = _Store()
    for step, psnr in enumerate((np.inf, 20.0, np.nan, 21.0), 1):
        _evaluator(tiny_settings(), store).mark_if_best(step, {"raw": {"psnr": psnr}})
    assert store.best == {"step": 4, "metric": "psnr", "value": 21.0, "weights": "raw", "with": _WITH}


@pytest.mark.parametrize("changed", [{"test_images": 3}, {"test_pairs": False}, {"crop_border_px": 10},
                                     {"best_metric": "ssim"}])
def test_what_was_measured_on_other_pictures_is_no_better(tiny_settings, changed):
    store = _Store()
    before, now = tiny_settings(), tiny_settings(**changed)
    _evaluator(before, store).mark_if_best(2, {"raw": {"psnr": 30.0, "ssim": 30.0}})
    for step, value in ((4, 20.0), (6, 19.0)):
        _evaluator(now, store).mark_if_best(step, {"raw": {"psnr": value, "ssim": value}})
    assert (store.best["step"], store.best["value"]) == (4, 20.0)


def test_a_mark_of_an_earlier_version_is_compared(tiny_settings):
    store = _Store()
    store.best = {"step": 2, "metric": "psnr", "value": 30.0, "weights": "raw"}
    for step, value in ((4, 20.0), (6, 31.0)):
        _evaluator(tiny_settings(), store).mark_if_best(step, {"raw": {"psnr": value}})
        assert store.best["value"] == max(30.0, value)


def _evaluator(settings, store):
    return callbacks.Evaluator(SimpleNamespace(state=dict), None, settings, None, store, {}, [])
