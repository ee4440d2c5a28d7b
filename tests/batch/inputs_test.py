"""What --input names when a pipeline translates."""

import pytest

from cut_tf.batch.inputs import FILES, TAR, TFRECORD, find_inputs, is_safe, shard_stem
from cut_tf.common.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.md", ".hidden.jpg", "sub/a.jpg", "sub/.x/z.jpg", "sub/deep/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    return tmp_path


def _keys(spec):
    return [item.key for item in find_inputs(str(spec)).items]


def test_a_folder_a_picture_and_globs(folder):
    assert _keys(folder) == ["a.PNG", "b.jpg"]
    assert _keys(folder / "b.jpg") == ["b.jpg"]
    assert _keys(folder / "*.jpg") == ["b.jpg"]
    assert _keys(folder / "**" / "*") == ["a.PNG", "b.jpg", "sub/a.jpg", "sub/deep/c.gif"]
    assert find_inputs(str(folder / "s*" / "*.jpg")).items[0].place == str(folder / "sub" / "a.jpg")


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "a[1].jpg").touch()
    assert _keys(tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_wildcards_count_in_what_was_typed_alone(tmp_path, monkeypatch):
    for name in ("set[1]/t1/mine.png", "set1/t1/others.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "set[1]")
    for pattern in ("t*/*.png", "./t*/.//*.png"):
        assert dict(find_inputs(pattern).items) == {"t1/mine.png": f"{tmp_path}/set[1]/t1/mine.png"}
    monkeypatch.chdir(tmp_path / "set[1]" / "t1")
    with pytest.raises(InputError, match="--input must be .* found no such file"):
        find_inputs("missing.png")
    with pytest.raises(InputError, match=r"must have no '..' after its first wildcard, found t\*/../x.png"):
        find_inputs("t*/../x.png")


def test_the_folder_above_a_link_is_that_of_its_target(tmp_path, monkeypatch):
    for name in ("far/deep/c.png", "far/a.png", "near/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "deep")
    monkeypatch.chdir(tmp_path / "near")
    for spec in ("link/..", "link/../*.png", "link/../a.png", f"{tmp_path}/near/link/.."):
        assert dict(find_inputs(spec).items) == {"a.png": f"{tmp_path}/far/a.png"}
    assert dict(find_inputs("link/*.png").items) == {"c.png": f"{tmp_path}/near/link/c.png"}


def test_a_manifest_names_places(folder):
    manifest = folder / "list.txt"
    manifest.write_text(f"sub/a.jpg\n\n  b.jpg  \n{folder}/a.PNG\nram://bucket/x/y.jpg\n", encoding="utf-8")
    found = find_inputs(str(manifest))
    assert found.kind == FILES
    assert dict(found.items) == {
        "sub/a.jpg": f"{folder}/sub/a.jpg", "b.jpg": f"{folder}/b.jpg",
        f"{folder}/a.PNG".lstrip("/"): f"{folder}/a.PNG", "bucket/x/y.jpg": "ram://bucket/x/y.jpg"}


def test_a_manifest_as_other_programs_write_it(tmp_path):
    text = "\ufeff./a.png\r\n././/sub/b.png\r\nc\u2028d.png\ne\u0085f\fg.png"
    (tmp_path / "list.txt").write_bytes(text.encode())
    assert dict(find_inputs(str(tmp_path / "list.txt")).items) == {
        name: f"{tmp_path}/{name}" for name in ("a.png", "sub/b.png", "c\u2028d.png", "e\u0085f\fg.png")}
    for line in ("./", "./../up.png", "./.hidden.png"):
        (tmp_path / "list.txt").write_text(line, encoding="utf-8")
        with pytest.raises(InputError, match=f"found '{line}' in line 1"):
            find_inputs(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("names, kind", [
    (["x.tar", "y.tgz", "z.tar.gz"], TAR), (["x.tfrecord", "x.tfrecord-00001-of-00002", "x.tfrecords"], TFRECORD)])
def test_shards(tmp_path, names, kind):
    for name in names:
        (tmp_path / name).touch()
    found = find_inputs(str(tmp_path))
    assert found.kind == kind and [item.key for item in found.items] == sorted(names)


def test_what_is_refused(folder, tmp_path):
    for spec in (folder / "nothing.jpg", folder / "*.webp", folder / "nothing"):
        with pytest.raises(InputError, match="--input must be a picture, a folder, a glob"):
            find_inputs(str(spec))
    with pytest.raises(InputError, match="must name pictures .* found notes.md"):
        find_inputs(str(folder / "notes.md"))
    (folder / "x.tar").touch()
    with pytest.raises(InputError, match="files of one kind, pictures, .* found .* and x.tar"):
        find_inputs(str(folder))
    (folder / "list.txt").write_text("../up.jpg\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"found '../up.jpg' in line 1"):
        find_inputs(str(folder / "list.txt"))
    (folder / "list.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match="must be text in UTF-8"):
        find_inputs(str(folder / "list.txt"))


@pytest.mark.parametrize("pair", [("a.png", "a.gif"), ("A.png", "a.png")])
def test_two_pictures_with_one_result(tmp_path, pair):
    (tmp_path / "list.txt").write_text("\n".join(pair), encoding="utf-8")
    with pytest.raises(InputError, match="two files whose results would be one, found"):
        find_inputs(str(tmp_path / "list.txt"))


def test_twice_the_same_line(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\na.png\n", encoding="utf-8")
    with pytest.raises(InputError, match="found a.png and a.png"):
        find_inputs(str(tmp_path / "list.txt"))


def test_the_stem_of_a_shard():
    for name, stem in (("x/a.tar", "x/a"), ("a.TAR.gz", "a"), ("a.b.tgz", "a.b"), ("a.tfrecords", "a"),
                       ("a.tfrecord-00001-of-00002", "a-00001-of-00002")):
        assert shard_stem(name) == stem


@pytest.mark.parametrize("key, safe", [("a.jpg", True), ("a/b.jpg", True), ("../a.jpg", False), ("a/../b.jpg", False),
                                       ("/a.jpg", False), ("", False), (".batch/a.jpg", False), ("a//b.jpg", False),
                                       ("a\\..\\b.jpg", False), ("a\0.jpg", False), ("a/.b.jpg", True)])
def test_keys_stay_inside_the_output(key, safe):
    assert is_safe(key) is safe
