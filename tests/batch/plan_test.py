"""Plans: started again after a kill, with more pictures, with another model."""

import json
import re
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.baselines import BASELINES
from cut_tf.batch import plan as plans
from cut_tf.batch.inputs import find_inputs
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.batch.worker import Target, Worker
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from tests.batch import jobs

KINDS = ("files", "tar", "tfrecord")


def _expected(pictures):
    return {name: 255 - pixels for name, pixels in pictures.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_stopped_anywhere_loses_and_doubles_nothing(tmp_path, kind):
    pictures = jobs.save(tmp_path / "in", 7)
    for stopped_after in (0, 2, 1):
        jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind), most_parts=stopped_after)
    calls = []

    def counted(pixels, where):
        calls.append(where)
        return 255 - pixels

    totals = jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind), counted)
    assert len(calls) == 1 and totals[:2] == (7, sum(pixels[..., 0].size for pixels in pictures.values()))
    assert totals.unfinished == 0 and not totals.failures
    jobs.assert_results(tmp_path / "out", _expected(pictures))


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_was_written_but_not_reported_is_written_again_in_its_place(tmp_path, kind, monkeypatch):
    pictures = jobs.save(tmp_path / "in", 4)
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", kind)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cut_tf.batch.worker.PartReport.save", killed)
        with pytest.raises(KeyboardInterrupt):
            jobs.done(plan)
    assert len(jobs.results(tmp_path / "out")) == 2
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind))
    jobs.assert_results(tmp_path / "out", _expected(pictures))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_come_later_are_added(tmp_path, kind):
    pictures = jobs.save(tmp_path / "in", 3)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind))
    pictures.update(jobs.save(tmp_path / "in", 2, first=5))
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", kind)
    assert [unit.name[:-9] for unit in plan.pending()[0]] == ["shard-00002"]
    assert jobs.done(plan).pictures == 5
    jobs.assert_results(tmp_path / "out", _expected(pictures))
    assert jobs.settled(tmp_path / "in", tmp_path / "out", kind).pending()[0] == []


def test_bad_pictures_are_told_with_reasons_and_counts(tmp_path):
    pictures = jobs.save(tmp_path / "in", 3)
    (tmp_path / "in" / "text.png").write_text("no picture")
    Image.fromarray(jobs.picture(0, 500)).save(tmp_path / "in" / "huge.png")

    def translate(pixels, where):
        if pixels.shape[0] == 500:
            raise MemoryError
        return 255 - pixels

    totals = jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", per_shard=3), translate)
    jobs.assert_results(tmp_path / "out", _expected(pictures))
    lines = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {line["picture"]: line["kind"] for line in lines} == {"huge.png": "memory", "text.png": "refused"}
    (part,) = {line["part"] for line in lines}
    assert len(lines) == 2 and re.fullmatch("shard-00001-[0-9a-f]{8}-00000", part)
    assert any("text.png: must be a complete JPEG" in line["message"] for line in lines)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["failed_by_kind"] == {"memory": 1, "refused": 1} and summary["pictures"] == 3
    assert "failed, memory: 1" in totals.lines()

    # They are not tried again, unless asked for.
    assert not jobs.settled(tmp_path / "in", tmp_path / "out", per_shard=3).pending()[0]
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", per_shard=3, retry_failed=True)
    totals = jobs.done(plan)
    assert [failure["picture"] for failure in totals.failures] == ["text.png"] and totals.pictures == 4
    assert (tmp_path / "out" / "huge.png").is_file()
    assert not jobs.settled(tmp_path / "in", tmp_path / "out", per_shard=3).pending()[0]


def _tar(path, pictures):
    with tarfile.open(path, "w") as archive:
        for name, pixels in pictures.items():
            for member_name, data in ((name, jobs.encoded(pixels)), (name.replace(".png", ".json"), b"{}")):
                member = tarfile.TarInfo(member_name)
                member.size = len(data)
                archive.addfile(member, jobs.io.BytesIO(data))


def test_shards_in_and_out_stopped_in_the_middle_of_one(tmp_path):
    pictures = {f"{number}.png": jobs.picture(number) for number in range(5)}
    (tmp_path / "in").mkdir()
    _tar(tmp_path / "in" / "a.tar", pictures)
    others = {f"b/{number}.png": jobs.picture(number + 10) for number in range(2)}
    _tar(tmp_path / "in" / "b.tar", others)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", "tar"), most_parts=2)
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", "tar")
    assert [unit.name[:-9] for unit in plan.pending()[0]] == ["shard-00000", "shard-00001"]
    jobs.done(plan)
    jobs.assert_results(tmp_path / "out", _expected({**pictures, **others}))
    first, second = (unit.name for unit in plan.units)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [
        f"{first}-00000.tar", f"{first}-00001.tar", f"{first}-00002.tar", f"{second}-00000.tar"]
    with tarfile.open(tmp_path / "out" / f"{second}-00000.tar") as archive:
        assert archive.getnames() == ["b/0.png", "b/0.json", "b/1.png", "b/1.json"]
    with pytest.raises(InputError, match="--retry_failed must not be given with shards"):
        jobs.settled(tmp_path / "in", tmp_path / "out", "tar", retry_failed=True)


def test_a_shard_that_is_cut_short_gives_what_can_be_read_and_a_failure(tmp_path):
    pictures = {f"{number}.png": jobs.picture(number) for number in range(3)}
    _tar(tmp_path / "a.tar", pictures)
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:data.index(b"2.png")])
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", per_shard=10))
    assert [failure["kind"] for failure in totals.failures] == ["refused"]
    assert "a.tar: must be a whole tar file" in totals.failures[0]["message"]
    # What belongs to 1.png may be in the part that is missing.
    jobs.assert_results(tmp_path / "out", _expected({"a/0.png": pictures["0.png"]}))


class _Hiccup:
    """A file, or a data set of records, whose reading fails in the middle."""

    def __init__(self, source, error):
        self._source, self._error, self._reads = source, error, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._source.close()

    def read(self, size):
        self._reads += 1
        if self._reads > 1:
            raise self._error
        return self._source.read(size)

    def as_numpy_iterator(self):
        yield next(self._source.as_numpy_iterator())
        raise self._error


@pytest.mark.parametrize("kind, error", [
    ("tar", OSError(5, "Input/output error")), ("tar", tf.errors.UnavailableError(None, None, "Input/output error")),
    ("tfrecord", tf.errors.UnavailableError(None, None, "Input/output error"))])
def test_a_shard_that_cannot_be_read_for_a_moment_goes_on_at_the_next_start(tmp_path, monkeypatch, kind, error):
    pictures = {f"{number}.png": jobs.picture(number, 60, 60) for number in range(5)}
    if kind == "tar":
        _tar(tmp_path / "a.tar", pictures)
    else:
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
            for name, pixels in pictures.items():
                example = tf.train.Example()
                for feature, value in (("encoded", jobs.encoded(pixels)), ("filename", name.encode())):
                    example.features.feature[f"image/{feature}"].bytes_list.value[:] = [value]
                writer.write(example.SerializeToString())
    source, output = tmp_path / f"a.{kind}", tmp_path / "out"
    plan = jobs.settled(source, output, kind, per_shard=1)
    with monkeypatch.context() as patch:
        reader, name = (places, "opened") if kind == "tar" else (tf.data, "TFRecordDataset")
        read = getattr(reader, name)
        patch.setattr(reader, name, lambda place: _Hiccup(read(place), error) if place == str(source) else read(place))
        with pytest.raises(InputError, match=f"a.{kind}: must be a readable shard, found.*Input/output error"):
            jobs.done(plan)
    totals = jobs.done(jobs.settled(source, output, kind, per_shard=1))
    assert totals.failures == [] and totals.unfinished == 0
    jobs.assert_results(output, _expected(pictures))


def test_a_shard_that_changes_in_between_is_not_read_on(tmp_path):
    _tar(tmp_path / "a.tar", {f"{number}.png": jobs.picture(number) for number in range(4)})
    jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", "tar"), most_parts=1)
    _tar(tmp_path / "a.tar", {f"{number}.png": jobs.picture(number) for number in range(40)})
    with pytest.raises(InputError, match="a.tar: must stay as it was when the work began"):
        jobs.settled(tmp_path / "a.tar", tmp_path / "out", "tar")


def test_files_of_several_shards_do_not_replace_each_other(tmp_path):
    (tmp_path / "in").mkdir()
    pictures = {name: {f"{number}.png": jobs.picture(seed + number) for number in range(3)}
                for name, seed in (("a.tar", 0), ("b.tar", 10))}
    for name, found in pictures.items():
        _tar(tmp_path / "in" / name, found)
    assert jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out"), most_parts=3).unfinished == 1
    assert jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out")).pictures == 6
    expected = _expected({f"{shard[0]}/{name}": pixels for shard, found in pictures.items()
                          for name, pixels in found.items()})
    jobs.assert_results(tmp_path / "out", expected)
    output = str(tmp_path / "out")
    assert sorted(plans.PartReport.load(output, part).written[0] for part in plans.reported_parts(output)) == [
        "a/0.png", "a/2.png", "b/0.png", "b/2.png"]


def test_files_of_a_shard_replace_nothing_that_was_there(tmp_path):
    _tar(tmp_path / "a.tar", {"0.png": jobs.picture(0)})
    jobs.save(tmp_path / "out" / "a", 1)
    with pytest.raises(InputError, match="has 1 of the results already, such as a; name another folder"):
        jobs.settled(tmp_path / "a.tar", tmp_path / "out")
    (tmp_path / "a.tar.gz").write_bytes((tmp_path / "a.tar").read_bytes())
    with pytest.raises(InputError, match="found a.tar.gz and a.tar, with .*/new/a"):
        jobs.settled(tmp_path / "a.*", tmp_path / "new")
    assert len(jobs.settled(tmp_path / "a.*", tmp_path / "new", "tar").units) == 2


def test_a_picture_that_comes_later_has_another_result_than_those_that_wait(tmp_path):
    jobs.save(tmp_path / "in", 1)
    (tmp_path / "in" / "000.png").rename(tmp_path / "in" / "000.gif")
    jobs.settled(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "000.gif").rename(tmp_path / "in" / "000.png")
    with pytest.raises(InputError, match="found 000.png and 000.gif, with .*/out/000.png"):
        jobs.settled(tmp_path / "in", tmp_path / "out")


def test_two_pictures_of_a_shard_with_one_result_are_told(tmp_path):
    _tar(tmp_path / "a.tar", {"a.png": jobs.picture(0), "b.png": jobs.picture(1), "A.png": jobs.picture(2)})
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", per_shard=1))
    assert [(failure["picture"], failure["kind"], failure["message"]) for failure in totals.failures] == [
        ("a/A.png", "refused", "a/A.png: names of results must differ, upper and lower case aside, found a/A.png "
                               "twice")]
    jobs.assert_results(tmp_path / "out", _expected({"a/a.png": jobs.picture(0), "a/b.png": jobs.picture(1)}))


@pytest.mark.parametrize("name, kind", [("../../up.png", "files"), ("/tmp/absolute.png", "files"),
                                        (".batch/plan-0000.png", "tar")])
def test_names_in_a_shard_do_not_lead_out_of_the_output(tmp_path, name, kind):
    _tar(tmp_path / "a.tar", {name: jobs.picture(0), "good.png": jobs.picture(1)})
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "deep" / "er" / "out", kind))
    assert "names of pictures must stay inside the output" in totals.failures[0]["message"] and totals.pictures == 1
    assert [name.rpartition("/")[2] for name, _ in jobs.results(tmp_path / "deep" / "er" / "out")] == ["good.png"]
    assert not list(tmp_path.rglob("up.png"))


def test_the_output_of_another_job_is_refused(tmp_path):
    jobs.save(tmp_path / "in", 2)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out"))
    for keywords, finding in (({"kind": "tar"}, "--output_format"), ({"per_shard": 3}, "--pictures_per_shard")):
        with pytest.raises(InputError, match=f"with another value of {finding}.*--overwrite begins anew"):
            jobs.settled(tmp_path / "in", tmp_path / "out", **keywords)
    jobs.save(tmp_path / "other", 2)
    with pytest.raises(InputError, match=r"found the result of .*in/000.png under the name of .*other/000.png"):
        jobs.settled(tmp_path / "other", tmp_path / "out")
    for choice in (TranslatorChoice(tflite=str(tmp_path / "in" / "000.png")),
                   TranslatorChoice("dark_channel_prior", strength=0.5)):
        with pytest.raises(InputError, match="another value of what translates"):
            plans.settle(find_inputs(str(tmp_path / "in")), Target(str(tmp_path / "out"), "files"), choice, 2)


def test_a_job_at_a_strength(tmp_path):
    pictures = jobs.save(tmp_path / "in", 3)
    half = TranslatorChoice("dark_channel_prior", strength=0.5)
    # Jobs of versions without a strength can be continued.
    assert half.fingerprint()["strength"] == 0.5 and "strength" not in jobs.PRIOR.fingerprint()
    jobs.done(plans.settle(find_inputs(str(tmp_path / "in")), Target(str(tmp_path / "out"), "files"), half, 2),
              half.open())
    prior = BASELINES["dark_channel_prior"]
    jobs.assert_results(tmp_path / "out", {
        name: np.rint(0.5 * picture + 0.5 * prior(picture)).astype(np.uint8) for name, picture in pictures.items()})


def test_files_that_no_plan_knows_are_not_replaced(tmp_path):
    jobs.save(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "001.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="has 1 of the results already, such as 001.png"):
        jobs.settled(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "x.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match="has 1 of the results already, such as x.tar"):
        jobs.settled(tmp_path / "in", tmp_path / "out", "tar")
    with pytest.raises(InputError, match="--output must be another folder than that of --input"):
        jobs.settled(tmp_path / "in", tmp_path / "in", overwrite=True)
    assert not (tmp_path / "out" / ".batch").exists() and not (tmp_path / "in" / ".batch").exists()


def test_pictures_that_come_later_replace_neither_files_nor_the_input(tmp_path):
    output = tmp_path / "out"
    jobs.save(tmp_path / "in", 2)
    jobs.done(jobs.settled(tmp_path / "in", output))
    jobs.save(tmp_path / "in", 1, first=5)
    (output / "005.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="has 1 of the results already, such as 005.png"):
        jobs.settled(tmp_path / "in", output)
    (output / "mine.png").write_bytes(b"mine too")
    for keywords in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="out/mine.png, which is in the input, would be replaced"):
            jobs.settled(output / "mine.png", output, **keywords)
    assert (output / "005.png").read_bytes() == b"mine" and (output / "mine.png").read_bytes() == b"mine too"
    assert [path.name for path in (output / ".batch").glob("plan-*")] == ["plan-0000.json"]


def test_beginning_anew_does_not_remove_what_is_in_the_input(tmp_path):
    jobs.save(tmp_path / "in", 2)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out"))
    before = jobs.results(tmp_path / "out")
    with pytest.raises(InputError, match="out/000.png, which is in the input, would be removed"):
        jobs.settled(tmp_path / "out" / "*.png", tmp_path / "out", "tar", overwrite=True)
    assert len(jobs.results(tmp_path / "out")) == len(before) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_overwrite_begins_anew(tmp_path, kind):
    jobs.save(tmp_path / "in", 5)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind))
    for name in ("000.png", "001.png", "002.png"):
        (tmp_path / "in" / name).unlink()
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", kind, overwrite=True)
    assert not jobs.results(tmp_path / "out") and len(plan.units) == 1
    jobs.done(plan, lambda pixels, _: pixels)
    jobs.assert_results(tmp_path / "out", {name: jobs.picture(number, 18 + number % 3)
                                           for number, name in ((3, "003.png"), (4, "004.png"))})


def test_all_of_it_on_a_remote_file_system(tmp_path):
    root = f"ram://{tmp_path.name}"
    pictures = {f"{number}.png": jobs.picture(number) for number in range(3)}
    tf.io.gfile.makedirs(f"{root}/in")
    for name, pixels in pictures.items():
        with tf.io.gfile.GFile(f"{root}/in/{name}", "wb") as file:
            file.write(jobs.encoded(pixels))
    plan = plans.settle(find_inputs(f"{root}/in/*.png"), Target(f"{root}/out", "files"), jobs.PRIOR, 2)
    worker = Worker(jobs.inverted, plan.target, 2**20)
    for unit in plan.units:
        for part in unit.parts(frozenset()):
            worker.do(part)
    assert plans.conclude(plan).pictures == 3
    for name, pixels in pictures.items():
        with tf.io.gfile.GFile(f"{root}/out/{name}", "rb") as file:
            found = tf.io.decode_png(file.read()).numpy()
        np.testing.assert_array_equal(found, 255 - pixels)
    assert not plan.pending()[0]


def test_a_run_that_trains_on_translates_with_the_checkpoint_of_the_first_start(tmp_path, tiny_settings):
    method = build_method(tiny_settings())
    method.compile()
    method.save(tmp_path / "run")
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=str(tmp_path / "run"))
    first = plans.settle(inputs, target, choice, 2)
    assert first.choice.run == f"{tmp_path / 'run'}@0"
    method.step.assign(5)
    method.save(tmp_path / "run")
    assert plans.settle(inputs, target, choice, 2).choice == first.choice


def _saved_run(settings, folder, seed=None):
    """A run, whose checkpoint holds other weights for each seed."""
    method = build_method(settings)
    method.compile()
    if seed is not None:
        for variable in method.state().values():
            if variable.dtype.is_floating:
                variable.assign(np.random.default_rng(seed).normal(size=variable.shape))
    method.save(folder)
    return method


def test_a_run_with_other_weights_is_another_model(tmp_path, tiny_settings):
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=str(tmp_path / "run"))
    _saved_run(tiny_settings(), tmp_path / "run", seed=0)
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run")
    _saved_run(tiny_settings(), tmp_path / "run", seed=0)
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run")
    _saved_run(tiny_settings(), tmp_path / "run", seed=1)
    with pytest.raises(InputError, match="run@0 must have the weights with which --output=.*out began, found others"):
        plans.settle(inputs, target, choice, 2)
    plan = json.loads((tmp_path / "out" / ".batch" / "plan-0000.json").read_text())
    del plan["checkpoint"]  # as in plans of earlier versions
    (tmp_path / "out" / ".batch" / "plan-0000.json").write_text(json.dumps(plan))
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="run@0 must name a step with a checkpoint, found none"):
        plans.settle(inputs, target, choice, 2)


def _upload(folder, url):
    for path in folder.rglob("*"):
        if path.is_file():
            places.write_bytes(f"{url}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_run_at_a_url_is_pinned_and_only_what_it_takes_is_copied(tmp_path, tiny_settings, monkeypatch):
    url = f"ram://{tmp_path.name}/run"
    method = _saved_run(tiny_settings(), tmp_path / "run")
    _upload(tmp_path / "run", url)
    places.write_bytes(f"{url}/events/large", b"0")
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=url)
    first = plans.settle(inputs, target, choice, 2)
    assert first.choice.run == f"{url}@0"
    method.step.assign(5)
    method.save(tmp_path / "run")
    _upload(tmp_path / "run", url)
    assert plans.settle(inputs, target, choice, 2).choice == first.choice and choice.pinned().run == f"{url}@5"

    copies, copied = [], places.local_folder
    monkeypatch.setattr(places, "local_folder", lambda *arguments: copies.append(copied(*arguments)) or copies[-1])
    pixels = jobs.picture(0)
    for found, run in ((first.choice, tmp_path / "run@0"), (choice, tmp_path / "run")):
        np.testing.assert_array_equal(found.open()(pixels, ""), TranslatorChoice(run=str(run)).open()(pixels, ""))
    for copy, step in zip(copies, ("step_0000000000", "step_0000000005")):
        assert sorted(path.name for path in copy.iterdir()) == ["checkpoints", "settings.json"]
        assert [path.name for path in (copy / "checkpoints").iterdir()] == [step]


@pytest.mark.parametrize("at_url", [False, True])
def test_the_best_checkpoint_is_pinned(tmp_path, tiny_settings, at_url):
    method = _saved_run(tiny_settings(), tmp_path / "run")
    method.step.assign(5)
    method.save(tmp_path / "run")
    CheckpointStore(tmp_path / "run", 2).mark("best", 0)
    url = f"ram://{tmp_path.name}/run"
    _upload(tmp_path / "run", url)
    run = url if at_url else str(tmp_path / "run")
    assert TranslatorChoice(run=run, weights="best").pinned() == TranslatorChoice(run=f"{run}@0")


def test_a_damaged_report_is_named(tmp_path):
    jobs.save(tmp_path / "in", 2)
    plan = jobs.settled(tmp_path / "in", tmp_path / "out")
    jobs.done(plan)
    (report,) = (tmp_path / "out" / ".batch" / "reports").iterdir()
    report.write_text("{")
    with pytest.raises(InputError, match=f"{report.name}: must be a report of a part"):
        plans.conclude(plan)


def test_a_damaged_plan_is_named(tmp_path):
    jobs.save(tmp_path / "in", 2)
    jobs.settled(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / ".batch" / "plan-0000.json").write_text("{")
    with pytest.raises(InputError, match="plan-0000.json: must be a plan as cut_tf.translate writes it, found"):
        jobs.settled(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_workers_of_a_job_that_was_begun_anew_report_to_no_other(tmp_path, kind):
    jobs.save(tmp_path / "in", 5)
    old = jobs.settled(tmp_path / "in", tmp_path / "out", kind)
    new = jobs.settled(tmp_path / "in", tmp_path / "out", kind, overwrite=True)
    assert jobs.done(old).pictures == 5
    new = jobs.settled(tmp_path / "in", tmp_path / "out", kind)
    assert len(new.pending()[0]) == 3 and not new.pending()[1] and plans.conclude(new).pictures == 0
    assert jobs.done(new).pictures == 5 and not new.pending()[0]
    assert jobs.settled(tmp_path / "in", tmp_path / "out", kind, overwrite=True).pending()[1] == frozenset()
    assert not jobs.results(tmp_path / "out")


def test_all_is_begun_anew_with_what_failed_before(tmp_path):
    jobs.save(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out"))
    (unit,) = jobs.settled(tmp_path / "in", tmp_path / "out", overwrite=True, retry_failed=True).units
    assert [item.key for item in unit.items] == ["000.png", "bad.png"]


@pytest.mark.parametrize("before", [0, 2])
def test_of_two_starts_at_once_one_adds_pictures(tmp_path, monkeypatch, before):
    if before:
        jobs.save(tmp_path / "in", before)
        jobs.settled(tmp_path / "in", tmp_path / "out")
    jobs.save(tmp_path / "in", 2, first=5)
    write_new, others = places.write_new, []

    def after_another_start(place, data):
        monkeypatch.setattr(places, "write_new", write_new)
        others.append(jobs.settled(tmp_path / "in", tmp_path / "out"))
        return write_new(place, data)

    monkeypatch.setattr(places, "write_new", after_another_start)
    with pytest.raises(InputError, match="plan-000.*: must be written by one start alone, found that of another"):
        jobs.settled(tmp_path / "in", tmp_path / "out")
    assert jobs.settled(tmp_path / "in", tmp_path / "out") == others[0]
