"""`cut_tf.evaluate` on Beam's own runners against the local command. Run by .ci/run with the extra `beam`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common import places
from cut_tf.common.errors import PipelineError
from cut_tf.metrics.distances import FeatureMoments, frechet_distance
from cut_tf.metrics.reports.folder import Comparison, ImageScore, Measuring, add_score
from tests.batch import jobs

pytest.importorskip("apache_beam", reason="needs the extra beam")

from cut_tf.batch import beam_evaluation as pipelines
from cut_tf.batch.beam import pipeline_options

ROOT = Path(__file__).parents[2]
PROCESSES = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
PORTABLE = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]


@pytest.fixture(name="folders")
def _folders(tmp_path):
    """Three parts of pictures; the first equals its target."""
    pictures = jobs.save(tmp_path / "pred", 130)
    (tmp_path / "target").mkdir()
    for number, (name, picture) in enumerate(pictures.items()):
        change = np.random.default_rng(1000 + number).integers(0, 30, picture.shape) if number else 0
        Image.fromarray(np.minimum(picture + change, 255).astype(np.uint8)).save(tmp_path / "target" / name)
    return tmp_path


def _evaluate(folder, name, *flags):
    return subprocess.run(
        [sys.executable, "-m", "cut_tf.evaluate", f"--pred={folder / 'pred'}", f"--target={folder / 'target'}",
         f"--csv={folder / name}.csv", f"--json={folder / name}.json", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=600)


def _report(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("runner", [PROCESSES, PORTABLE], ids=["processes", "portable"])
def test_the_report_is_that_of_the_local_command(folders, runner):
    local = _evaluate(folders, "local")
    done = _evaluate(folders, "beam", *runner)
    assert (local.returncode, done.returncode) == (0, 0), local.stderr + done.stderr
    for ending in ("csv", "json"):
        assert (folders / f"beam.{ending}").read_bytes() == (folders / f"local.{ending}").read_bytes()
    assert _report(folders, "beam")["psnr"]["count"] == 129 and _report(folders, "beam")["ssim"]["count"] == 130
    pixels = sum((18 + number % 3) * 20 for number in range(130))
    for count in ("pictures 130", f"pixels {pixels}", "failed 0", "milliseconds "):
        assert count in done.stdout, done.stdout
    assert _files(folders) == ["beam.csv", "beam.json", "local.csv", "local.json", "pred", "target"]


def test_distances_are_those_of_the_local_command(folders):
    flags = ["--distribution=fid,kid", "--feature_extractor=random"]
    local = _evaluate(folders, "local", *flags, f"--reference_statistics={folders / 'local.npz'}")
    done = _evaluate(folders, "beam", *flags, f"--reference_statistics={folders / 'beam.npz'}", *PROCESSES)
    assert (local.returncode, done.returncode) == (0, 0), local.stderr + done.stderr
    one, other = (_report(folders, name) for name in ("local", "beam"))
    assert other["fid"]["value"] == pytest.approx(one["fid"]["value"], rel=1e-6) and one["fid"]["value"] > 0
    assert other["kid"] == pytest.approx(one["kid"], rel=1e-6) and other["predictions"] == 130
    with np.load(folders / "local.npz") as local, np.load(folders / "beam.npz") as merged:
        for name in ("mean", "scatter", "sample"):
            np.testing.assert_allclose(merged[name], local[name], rtol=1e-6, atol=1e-9)
        assert merged["count"] == 130


def test_a_picture_that_cannot_be_read_fails_the_evaluation_and_is_listed(folders):
    (folders / "pred" / "005.png").write_text("no picture")
    (folders / "target" / "100.png").write_bytes((folders / "target" / "100.png").read_bytes()[:300])
    local = _evaluate(folders, "local")
    done = _evaluate(folders, "beam", *PROCESSES)
    assert (local.returncode, done.returncode) == (2, 2), done.stderr
    assert "found 2 of 130 that cannot (refused 2), listed in" in done.stderr
    listed = [json.loads(line) for line in (folders / "beam.failures.jsonl").read_text().splitlines()]
    assert [(Path(one["picture"]).name, one["kind"]) for one in listed] == [("005.png", "refused"),
                                                                          ("100.png", "refused")]
    assert "005.png: must be a complete JPEG" in listed[0]["message"] and "truncated" in listed[1]["message"]
    assert _files(folders) == ["beam.failures.jsonl", "pred", "target"]


def test_flags_are_refused_before_any_work(folders):
    for flags, message in ((["--labels", "--runner=DirectRunner"], "--labels must be given without --runner"),
                           (["--runner=DirectRunner", "--no_such_flag=1"], "flags must be of cut_tf or of Apache")):
        done = _evaluate(folders, "beam", *flags)
        assert done.returncode == 2 and f"error: {message}" in done.stderr, done.stderr
    assert _files(folders) == ["pred", "target"]


def test_a_runner_that_fails_is_told_and_leaves_nothing(folders, monkeypatch):
    def fail(self):
        places.write_bytes(str(folders / "beam.json.parts" / "rows"), b"of a worker")
        raise ConnectionError("the job server is gone\nand much more")

    monkeypatch.setattr(pipelines.beam.Pipeline, "run", fail)
    run = pipelines.Evaluation(pipeline_options("DirectRunner", []), folders / "beam.json", 2**20)
    comparisons = [Comparison(file, folders / "target" / file.name) for file in (folders / "pred").iterdir()]
    with pytest.raises(PipelineError, match=r"^the pipeline ended early \(ConnectionError: the job server is gone\)$"):
        run.score(comparisons, Measuring())
    assert _files(folders) == ["pred", "target"]


def _merged(combine, parts):
    accumulators = []
    for part in parts:
        accumulators.append(combine.create_accumulator())
        for element in part:
            accumulators[-1] = combine.add_input(accumulators[-1], element)
    left = combine.merge_accumulators(accumulators[:2])
    return combine.extract_output(combine.merge_accumulators([combine.merge_accumulators(accumulators[2:]), left]))


def test_moments_merge_exactly_however_they_are_split():
    values = np.random.default_rng(0).normal(30, 5, 50).tolist()
    scores = [ImageScore("a", 1, 1, {"psnr": value}) for value in values]
    whole = {}
    for score in scores:
        add_score(whole, score)
    assert whole["psnr"].summary().mean == pytest.approx(np.mean(values), rel=1e-9)
    for cuts in ([0, 0, 0, 50], [0, 7, 30, 50], [0, 1, 49, 50]):
        parts = [scores[start:end] for start, end in zip(cuts, cuts[1:])]
        assert _merged(pipelines.MomentsFn(), parts) == whole


def test_features_merge_however_they_are_split():
    features = np.random.default_rng(0).normal(size=(60, 5))
    elements = [(first, features[first:first + 10]) for first in range(0, 60, 10)]
    for order in ([[0, 1], [2], [3, 4, 5]], [[5, 2], [4, 0, 1], [3]], [[], [1, 0, 3, 2], [4, 5]]):
        found = _merged(pipelines.FeaturesFn(), [[elements[number] for number in part] for part in order])
        statistics = found.statistics({}, "here")
        np.testing.assert_allclose(statistics.moments.mean, np.mean(features, axis=0), rtol=1e-9)
        np.testing.assert_allclose(statistics.moments.covariance, np.cov(features, rowvar=False), rtol=1e-9)
        assert frechet_distance(statistics.moments, FeatureMoments.of(features)) == pytest.approx(0, abs=1e-9)
        np.testing.assert_array_equal(statistics.sample, features.astype(np.float32))
