"""Files of this machine and URLs: TensorFlow's `ram://` stands for a remote file system."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tensorflow as tf

from cut_tf.common import places
from cut_tf.common.errors import InputError


def test_files_are_read_copied_listed_and_removed(folder):
    place = places.join(folder, "sub/a.jpg")
    assert places.read_bytes(place) == b"sub/a.jpg" and places.size_bytes(place) == 9
    with places.local_copy(place) as path:
        assert path.read_bytes() == b"sub/a.jpg" and path.name == "a.jpg"
    copy = places.local_folder(places.join(folder, "sub"))
    assert (copy / "a.jpg").read_bytes() == b"sub/a.jpg" and (copy / "deep" / "c.jpg").read_bytes() == b"sub/deep/c.jpg"
    assert "a.jpg" in places.names_in(places.join(folder, "sub"))
    places.remove(place)
    places.remove(place)
    assert not places.exists(place) and places.is_folder(places.join(folder, "sub"))
    assert places.names_in(places.join(folder, "nothing")) == []


def test_a_file_is_replaced_as_a_whole_or_not_at_all(folder):
    place = places.join(folder, "a.jpg")
    with pytest.raises(RuntimeError, match="in the middle"), places.local_file(place) as path:
        path.write_bytes(b"half")
        raise RuntimeError("in the middle")
    assert places.read_bytes(place) == b"a.jpg"
    assert sorted(places.names_in(folder)) == sorted(["a.jpg", "b.png", "other", "sub"])
    with places.local_file(place) as path:
        path.write_bytes(b"whole")
    assert places.read_bytes(place) == b"whole"


@pytest.mark.parametrize("disk_has_links", [True, False])
def test_a_new_file_replaces_none(folder, monkeypatch, disk_has_links):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    if not disk_has_links:
        monkeypatch.setattr("os.link", refuse)
    place = places.join(folder, "new/a.jpg")
    assert places.write_new(place, b"one") and not places.write_new(place, b"two")
    assert places.read_bytes(place) == b"one" and places.names_in(places.join(folder, "new")) == ["a.jpg"]


def test_what_is_missing_is_named(folder):
    place = places.join(folder, "nothing.jpg")
    for read in (places.read_bytes, places.size_bytes):
        with pytest.raises(InputError, match="nothing.jpg: must be a readable file, found"):
            read(place)
    with pytest.raises(InputError, match="must be a readable file"), places.local_copy(place) as path:
        path.read_bytes()


def test_a_copy_of_a_folder_leaves_with_its_process(tmp_path):
    program = """
from cut_tf.common import places
places.write_bytes("ram://x/sub/a.jpg", b"a")
places.write_bytes("ram://x/b.jpg", b"b")
copy = places.local_folder("ram://x", ("su",))
assert (copy / "sub/a.jpg").is_file() and not (copy / "b.jpg").exists()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2],
                   env={**os.environ, "TMPDIR": str(tmp_path)})
    assert not list(tmp_path.iterdir())


def test_a_copy_of_a_folder_that_fails_leaves_nothing(tmp_path, monkeypatch):
    url = f"ram://{tmp_path.name}-source"
    places.write_bytes(f"{url}/a.jpg", b"a")

    def fail(source, target):
        Path(target).write_bytes(b"half")
        raise tf.errors.UnavailableError(None, None, "gone")

    monkeypatch.setattr(tf.io.gfile, "copy", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(InputError, match="-source: must be a readable folder, found UnavailableError: gone"):
        places.local_folder(url)
    assert not list(tmp_path.iterdir())


def test_a_remote_folder_that_is_missing_is_named():
    with pytest.raises(InputError, match="ram://missing: must be a readable folder, found none"):
        places.local_folder("ram://missing")
    assert tf.io.gfile.isdir("ram://missing") is False


def test_a_place_from_the_root_on_is_what_the_system_finds(tmp_path, monkeypatch):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "home").symlink_to(tmp_path / "near")
    monkeypatch.chdir(tmp_path / "near")
    for place, expected in (("link/../x.png", "far/x.png"), ("./link//./x.png", "near/link/x.png"), ("../x", "x"),
                            (f"{tmp_path}/home/a/../x", "home/x"), (f"{tmp_path}/home/link/../../x", "x"),
                            ("..", ""), ("missing/../x", "near/x")):
        assert places.absolute(place) == f"{tmp_path}/{expected}".rstrip("/")
    assert places.absolute("/../..") == "/" and places.absolute("gs://a/../b") == "gs://a/../b"


def test_places_are_told_apart():
    assert places.is_remote("gs://bucket/x") and places.is_remote("s3://b") and not places.is_remote("/a/b://c")


def test_remote_paths_have_the_parts_of_local_ones():
    path = places.path_of("ram://bucket/photos/") / "a.b.JPG"
    assert (str(path), path.name, path.stem, path.suffix) == ("ram://bucket/photos/a.b.JPG", "a.b.JPG", "a.b", ".JPG")
    assert path.parent == places.path_of("ram://bucket/photos") and {path: 1}[path.parent / "a.b.JPG"] == 1
    assert path != places.path_of("ram://bucket/other") and sorted([path, path.parent])[0] == path.parent
    assert isinstance(places.path_of("photos"), Path)


def test_folders_are_removed(folder):
    places.remove_folder(places.join(folder, "sub"))
    places.remove_folder(places.join(folder, "sub"))
    assert not places.exists(places.join(folder, "sub/a.jpg")) and places.exists(places.join(folder, "a.jpg"))


def test_an_unknown_scheme_is_named():
    with pytest.raises(InputError, match="nofs://bucket/x: must be .* scheme 'nofs' not implemented"):
        places.exists("nofs://bucket/x")
