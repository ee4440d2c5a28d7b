"""What one process of a pipeline measures, and what it writes; no Beam is needed."""

import math

import numpy as np
import pytest
from PIL import Image

from cut_tf.batch import evaluation
from cut_tf.batch.evaluation import EvaluatorChoice, Outcome, parts_of
from cut_tf.common.errors import InputError
from cut_tf.metrics.features import feature_extractor
from cut_tf.metrics.moments import ExactMoments
from cut_tf.metrics.reports.folder import Comparison, ImageScore, Measuring
from tests.batch import jobs


@pytest.fixture(name="folders")
def _folders(tmp_path):
    """Predictions that differ from their targets by 51 levels in a quarter of the pixels: 10 log10(100 / 25) dB."""
    for name, level in (("pred", 100), ("target", 151)):
        (tmp_path / name).mkdir()
        for number in range(3):
            picture = np.full((12, 16, 3), 100, np.uint8)
            picture[:, :4] = level
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    return tmp_path / "pred", tmp_path / "target"


def _part(folders):
    pred, target = folders
    comparisons = [Comparison(file, target / file.name) for file in sorted(pred.iterdir())]
    (part,) = parts_of(comparisons)
    return part


def test_parts_hold_all_pictures_in_order():
    comparisons = [Comparison(number) for number in range(2 * evaluation.PART_PICTURES + 1)]
    parts = parts_of(comparisons)
    assert [part.first for part in parts] == [0, 64, 128]
    assert [one for part in parts for one in part.comparisons] == comparisons


def test_pairs_are_measured_and_counted(folders):
    outcome = EvaluatorChoice(2**20).open().do(_part(folders))
    assert (outcome.pictures, outcome.pixels, outcome.failures) == (3, 3 * 12 * 16, [])
    assert [score.name for score in outcome.scores] == ["0.png", "1.png", "2.png"]
    assert outcome.scores[0].values["psnr"] == pytest.approx(20, abs=1e-4)


def test_every_picture_that_cannot_be_measured_is_named_with_its_reason(folders):
    pred, target = folders
    (pred / "0.png").write_text("no picture")
    Image.fromarray(np.zeros((12, 17, 3), np.uint8)).save(target / "2.png")
    outcome = EvaluatorChoice(2**20).open().do(_part(folders))
    assert [score.name for score in outcome.scores] == ["1.png"] and outcome.pictures == 1
    bad, other = outcome.failures
    assert bad["picture"] == str(pred / "0.png") and bad["kind"] == "refused"
    assert "0.png: must be a complete JPEG" in bad["message"]
    assert "must have the size of its target, found 2.png 16x12 with 2.png 17x12" in other["message"]


def _choice(**changes):
    extractor = feature_extractor("random")
    description = {**extractor.description, **changes}
    return extractor, EvaluatorChoice(2**20, extractor="random", description=tuple(description.items()))


def test_features_are_those_of_the_extractor_in_their_places(tmp_path):
    pictures = jobs.save(tmp_path, 20)
    extractor, choice = _choice()
    comparisons = [Comparison(tmp_path / name) for name in pictures]
    outcome = choice.open().do(evaluation.EvaluationPart(64, tuple(comparisons)))
    assert [first for first, _ in outcome.features] == [64, 80] and outcome.pictures == 20
    expected = np.concatenate(list(extractor.batches(pictures.values())))
    np.testing.assert_array_equal(np.concatenate([features for _, features in outcome.features]), expected)


def test_a_part_with_a_bad_picture_has_no_features(tmp_path):
    pictures = jobs.save(tmp_path, 5)
    (tmp_path / "002.png").write_bytes((tmp_path / "002.png").read_bytes()[:200])
    (part,) = parts_of([Comparison(tmp_path / name) for name in pictures])
    outcome = _choice()[1].open().do(part)
    assert outcome.features == [] and [one["picture"] for one in outcome.failures] == [str(tmp_path / "002.png")]


def test_a_worker_with_another_extractor_is_refused():
    with pytest.raises(InputError, match="--feature_extractor=random must be the same for all workers"):
        _choice(weights="others")[1].open()


def test_rows_and_moments_survive_their_files(tmp_path):
    scores = [ImageScore("ä.png", 3, 4, {"psnr": math.inf, "ssim": 1.0}), ImageScore("b.png", 3, 4, {"psnr": 0.1})]
    failure = {"picture": "c", "kind": "refused", "message": "c: no"}
    evaluation.save_rows(str(tmp_path), Outcome(64, scores=[scores[1]], failures=[failure]))
    for _ in range(2):  # a part that a runner does twice
        evaluation.save_rows(str(tmp_path), Outcome(0, scores=[scores[0]]))
    assert evaluation.load_rows(str(tmp_path)) == (scores, [failure])
    moments = ExactMoments()
    for value in (0.1, 0.7, 1e-3):
        moments.add(value)
    evaluation.save_moments(str(tmp_path), {"psnr": moments})
    assert evaluation.load_moments(str(tmp_path)) == {"psnr": moments}


def test_sizes_are_checked_with_the_border(folders):
    choice = EvaluatorChoice(2**20, Measuring(target_border_px=2))
    assert len(choice.open().do(_part(folders)).failures) == 3


def test_a_picture_that_is_not_measured_is_told_so():
    outcome = Outcome(0)
    outcome.add_failure("a.png", OverflowError("too much"))
    assert outcome.failures == [{"picture": "a.png", "kind": "error",
                                 "message": "a.png: cannot be measured (OverflowError: too much)"}]
