"""Plans: started again after a kill, with more pictures, with another model."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf.baselines import BASELINES
from cut_tf.batch import plan as plans
from cut_tf.batch.inputs import find_inputs
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.batch.worker import Target, Worker
from cut_tf.common import places
from cut_tf.common.errors import InputError
from tests.batch import jobs

KINDS = ("files", "tar", "tfrecord")


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
    jobs.assert_results(tmp_path / "out", jobs.all_inverted(pictures))


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
    jobs.assert_results(tmp_path / "out", jobs.all_inverted(pictures))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_come_later_are_added(tmp_path, kind):
    pictures = jobs.save(tmp_path / "in", 3)
    jobs.done(jobs.settled(tmp_path / "in", tmp_path / "out", kind))
    pictures.update(jobs.save(tmp_path / "in", 2, first=5))
    plan = jobs.settled(tmp_path / "in", tmp_path / "out", kind)
    assert [unit.name[:-9] for unit in plan.pending()[0]] == ["shard-00002"]
    assert jobs.done(plan).pictures == 5
    jobs.assert_results(tmp_path / "out", jobs.all_inverted(pictures))
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
    jobs.assert_results(tmp_path / "out", jobs.all_inverted(pictures))
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


def test_a_picture_that_comes_later_has_another_result_than_those_that_wait(tmp_path):
    jobs.save(tmp_path / "in", 1)
    (tmp_path / "in" / "000.png").rename(tmp_path / "in" / "000.gif")
    jobs.settled(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "000.gif").rename(tmp_path / "in" / "000.png")
    with pytest.raises(InputError, match="found 000.png and 000.gif, with .*/out/000.png"):
        jobs.settled(tmp_path / "in", tmp_path / "out")


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
def test_results_inside_the_input_are_not_translated_again(tmp_path, kind):
    pictures = {f"in/{name}": pixels for name, pixels in jobs.save(tmp_path / "in", 3).items()}
    source, output = tmp_path / "**" / "*", tmp_path / "out"
    jobs.done(jobs.settled(source, output, kind), most_parts=1)
    for _ in range(2):
        assert jobs.done(jobs.settled(source, output, kind)).pictures == len(pictures)
        jobs.assert_results(output, jobs.all_inverted(pictures))
    Image.fromarray(jobs.picture(9)).save(output / "mine.png")  # no result of the job
    assert jobs.done(jobs.settled(tmp_path / "*" / "*", output, kind)).pictures == len(pictures) + 1
    with pytest.raises(InputError, match="--output must be another folder than that of --input, found that all of"):
        jobs.settled(output / "shard-*" if kind != "files" else output / "in" / "*", output, kind)


def test_a_picture_that_its_result_would_replace_stays_an_input(tmp_path):
    Image.fromarray(jobs.picture(0)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="0.png, which is in the input, would be replaced"):
        jobs.settled(tmp_path, tmp_path)


def test_pictures_in_the_output_stay_inputs(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(jobs.picture(0)).save(tmp_path / "in" / "0.gif")
    for _ in range(2):
        assert jobs.done(jobs.settled(tmp_path / "in", tmp_path / "in")).pictures == 1


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


def test_a_damaged_report_is_named(tmp_path):
    jobs.save(tmp_path / "in", 2)
    plan = jobs.settled(tmp_path / "in", tmp_path / "out")
    jobs.done(plan)
    (report,) = (tmp_path / "out" / ".batch" / "reports").iterdir()
    report.write_text("{")
    with pytest.raises(InputError, match=f"{report.name}: must be a report of a part"):
        plans.conclude(plan)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"format": 1}'])
def test_a_damaged_plan_is_named(tmp_path, text):
    jobs.save(tmp_path / "in", 2)
    jobs.settled(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / ".batch" / "plan-0000.json").write_text(text)
    with pytest.raises(InputError, match="plan-0000.json: must be a plan as cut_tf.translate writes it, found"):
        jobs.settled(tmp_path / "in", tmp_path / "out")


def test_a_saved_model_is_there_when_a_job_begins_and_keeps_its_files(tmp_path):
    jobs.save(tmp_path / "in", 2)
    model = tmp_path / "model [v1]"  # in a glob the brackets would stand for one character
    choice, target = TranslatorChoice(saved_model=str(model)), Target(str(tmp_path / "out"), "files")
    with pytest.raises(InputError, match=re.escape(f"--saved_model={model} must be the folder of a SavedModel")):
        plans.settle(find_inputs(str(tmp_path / "in")), target, choice, 2, False, False)
    assert not (tmp_path / "out").exists()
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"one")
    plans.settle(find_inputs(str(tmp_path / "in")), target, choice, 2, False, False)
    (model / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(InputError, match="must be a new folder or that of the same job, found .* what translates"):
        plans.settle(find_inputs(str(tmp_path / "in")), target, choice, 2, False, False)


@pytest.mark.parametrize("flag", ["saved_model", "tflite"])
def test_a_model_that_was_moved_is_the_same(tmp_path, monkeypatch, flag):
    jobs.save(tmp_path / "in", 2)
    source, target = tmp_path / "in", Target(str(tmp_path / "out"), "files")
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"one")

    def settled(place):
        place = f"{place}/saved_model.pb" if flag == "tflite" else place
        return plans.settle(find_inputs(str(source)), target, TranslatorChoice(**{flag: place}), 2), place

    settled(str(model))
    monkeypatch.chdir(tmp_path)
    settled("model")
    model.rename(tmp_path / "moved")
    jobs.save(source, 1, first=5)
    plan, place = settled("moved")
    # Workers open it where it is now, and the plan that is added says so.
    assert getattr(plan.choice, flag) == place and len(plan.units) == 2
    other = {"saved_model": "tflite", "tflite": "saved_model"}[flag]
    with pytest.raises(InputError, match="another value of what translates"):
        plans.settle(find_inputs(str(source)), target, TranslatorChoice(
            **{other: "moved" if other == "saved_model" else "moved/saved_model.pb"}), 2)


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
