"""Plans of shards: read in parts, damaged, out of reach for a moment, with names that meet."""

import json
import tarfile

import pytest
import tensorflow as tf

from cut_tf.batch import plan as plans
from cut_tf.common import places
from cut_tf.common.errors import InputError
from tests.batch import jobs


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
    jobs.assert_results(tmp_path / "out", jobs.all_inverted({**pictures, **others}))
    first, second = (unit.name for unit in plan.units)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [
        f"{first}-00000.tar", f"{first}-00001.tar", f"{first}-00002.tar", f"{second}-00000.tar"]
    with tarfile.open(tmp_path / "out" / f"{second}-00000.tar") as archive:
        assert archive.getnames() == ["b/0.png", "b/0.json", "b/1.png", "b/1.json"]
    with pytest.raises(InputError, match="--retry_failed must not be given with shards"):
        jobs.settled(tmp_path / "in", tmp_path / "out", "tar", retry_failed=True)


@pytest.mark.parametrize("kind", ["files", "tar", "tfrecord"])
def test_shards_among_their_own_results(tmp_path, kind):
    _tar(tmp_path / "a.tgz", {"0.png": jobs.picture(0), "1.png": jobs.picture(1)})
    source = tmp_path / "**" / "*" if kind == "files" else tmp_path
    for _ in range(3):
        totals = jobs.done(jobs.settled(source, tmp_path, kind, per_shard=1), most_parts=1)
    assert totals.pictures == 2 and len(jobs.results(tmp_path)) == 2


def test_a_shard_that_is_cut_short_gives_what_can_be_read_and_a_failure(tmp_path):
    pictures = {f"{number}.png": jobs.picture(number) for number in range(3)}
    _tar(tmp_path / "a.tar", pictures)
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:data.index(b"2.png")])
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", per_shard=10))
    assert [failure["kind"] for failure in totals.failures] == ["refused"]
    assert "a.tar: must be a whole tar file" in totals.failures[0]["message"]
    # What belongs to 1.png may be in the part that is missing.
    jobs.assert_results(tmp_path / "out", jobs.all_inverted({"a/0.png": pictures["0.png"]}))


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
    jobs.assert_results(output, jobs.all_inverted(pictures))


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
    expected = jobs.all_inverted({f"{shard[0]}/{name}": pixels for shard, found in pictures.items()
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


@pytest.mark.parametrize("kind, folder", [("files", "a/"), ("tar", "")])
def test_two_pictures_of_a_shard_with_one_result_are_told(tmp_path, kind, folder):
    _tar(tmp_path / "a.tar", {"a.png": jobs.picture(0), "b.png": jobs.picture(1), "A.png": jobs.picture(2)})
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", kind, per_shard=1))
    assert [(failure["picture"], failure["kind"], failure["message"]) for failure in totals.failures] == [
        (f"{folder}A.png", "refused", f"{folder}A.png: names of results must differ, upper and lower case aside, found "
                                      f"{folder}A.png twice")]
    jobs.assert_results(tmp_path / "out", jobs.all_inverted({f"{folder}a.png": jobs.picture(0),
                                                             f"{folder}b.png": jobs.picture(1)}))


def test_records_may_have_one_name_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for seed in range(2):
            member, data = tarfile.TarInfo("a.png"), jobs.encoded(jobs.picture(seed))
            member.size = len(data)
            archive.addfile(member, jobs.io.BytesIO(data))
            archive.addfile(tarfile.TarInfo(f"{seed}.txt"))
    assert jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "records", "tfrecord")).pictures == 2
    assert jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "tar", "tar")).pictures == 1


def _linked(path):
    _tar(path, {"a.png": jobs.picture(0)})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("b.png", tarfile.LNKTYPE), ("c.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.png"
            archive.addfile(member)
        for number in range(2):
            member, data = tarfile.TarInfo(f"d{number}.png"), jobs.encoded(jobs.picture(1 + number))
            member.size = len(data)
            archive.addfile(member, jobs.io.BytesIO(data))
    return jobs.all_inverted({"a.png": jobs.picture(0), "b.png": jobs.picture(0), "d0.png": jobs.picture(1),
                              "d1.png": jobs.picture(2)})


@pytest.mark.parametrize("kind", ["files", "tar"])
def test_links_in_a_shard_are_translated_or_told(tmp_path, kind):
    expected = _linked(tmp_path / "a.tar")
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", kind))
    assert [failure["message"].partition(": ")[2] for failure in totals.failures] == [
        "must be a file, or a hard link to an earlier file of its tar, found a symbolic link to a.png"]
    jobs.assert_results(tmp_path / "out", {f"a/{name}" if kind == "files" else name: pixels
                                           for name, pixels in expected.items()})


def test_a_job_that_began_without_links_goes_on_without_them(tmp_path):
    expected = _linked(tmp_path / "a.tar")
    jobs.settled(tmp_path / "a.tar", tmp_path / "out", "tar")
    (place,) = (tmp_path / "out" / ".batch").glob("plan-*.json")
    plan = json.loads(place.read_text())
    for name in ("reads_links", "names_differ"):
        del plan["units"][0][name]  # as earlier versions wrote it
    place.write_text(json.dumps(plan))
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "out", "tar"))
    assert totals.failures == []
    jobs.assert_results(tmp_path / "out", {name: pixels for name, pixels in expected.items() if name != "b.png"})


@pytest.mark.parametrize("name, kind", [("../../up.png", "files"), ("/tmp/absolute.png", "files"),
                                        (".batch/plan-0000.png", "tar")])
def test_names_in_a_shard_do_not_lead_out_of_the_output(tmp_path, name, kind):
    _tar(tmp_path / "a.tar", {name: jobs.picture(0), "good.png": jobs.picture(1)})
    totals = jobs.done(jobs.settled(tmp_path / "a.tar", tmp_path / "deep" / "er" / "out", kind))
    assert "names of pictures must stay inside the output" in totals.failures[0]["message"] and totals.pictures == 1
    assert [name.rpartition("/")[2] for name, _ in jobs.results(tmp_path / "deep" / "er" / "out")] == ["good.png"]
    assert not list(tmp_path.rglob("up.png"))
