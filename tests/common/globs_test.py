"""Globs on this machine and on URLs, for which TensorFlow's `ram://` stands."""

import glob

import pytest

from cut_tf.common import globs, places
from cut_tf.common.errors import InputError


def _matching(pattern):
    return globs.matching(*globs.split(pattern))


@pytest.mark.parametrize("pattern, expected", [
    ("*.jpg", ["a.jpg"]),
    ("?.[jp][pn]g", ["a.jpg", "b.png"]),
    ("**/*.jpg", ["a.jpg", "other/d[1].jpg", "sub/.hidden.jpg", "sub/a.jpg", "sub/deep/c.jpg"]),
    ("sub/**/[!.]*.jpg", ["sub/a.jpg", "sub/deep/c.jpg"]),
    ("*/a.jpg", ["sub/a.jpg"]),
    ("other/d[[]1].jpg", ["other/d[1].jpg"]),
    ("none/*.jpg", []),
])
def test_globs(folder, pattern, expected):
    assert _matching(places.join(folder, pattern)) == [places.join(folder, name) for name in expected]


@pytest.mark.parametrize("pattern", ["*.jpg", "*/*.jpg", "**/*.jpg", "s*/d*/c.jpg", "sub/?.jpg", "[ab].*"])
@pytest.mark.parametrize("folder", ["local"], indirect=True)
def test_globs_of_names_that_are_not_hidden_are_pythons(folder, pattern):
    places.remove(places.join(folder, "sub/.hidden.jpg"))
    expected = sorted(glob.glob(places.join(folder, pattern), recursive=True))
    assert _matching(places.join(folder, pattern)) == expected


def test_a_relative_glob(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert _matching("*.jpg") == ["./a.jpg"]


@pytest.mark.parametrize("pattern, root, rest", [
    ("/a/b/*.jpg", "/a/b", "*.jpg"), ("gs://x/y/**/z?.png", "gs://x/y", "**/z?.png"), ("*.jpg", ".", "*.jpg"),
    ("/*.jpg", "/", "*.jpg"), ("a/b*/c", "a", "b*/c")])
def test_the_folder_that_a_glob_searches(pattern, root, rest):
    assert globs.split(pattern) == (root, rest)


def test_the_folder_that_a_glob_searches_is_no_pattern(tmp_path):
    for name in ("set[1]/a.jpg", "set1/b.jpg"):
        places.write_bytes(str(tmp_path / name), b"")
    assert globs.matching(str(tmp_path / "set[1]"), "*.jpg") == [str(tmp_path / "set[1]" / "a.jpg")]


@pytest.mark.parametrize("pattern, names", [
    ("[!].png", ["[!].png"]), ("[^].png", ["[^].png"]), ("[]].png", ["].png"]), ("[!]].png", ["!.png", "a.png"]),
    ("[!!].png", ["].png", "a.png"]), ("[!", ["[!"]), ("[", []), ("d[a/b]c", ["d[a/b]c"]), ("**/d[!x]c", ["d-c"])])
def test_brackets(tmp_path, pattern, names):
    for name in ("[!].png", "[^].png", "].png", "!.png", "a.png", "[!", "d[a/b]c", "d-c", "d/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert globs.matching(str(tmp_path), pattern) == [str(tmp_path / name) for name in names]


def test_a_range_that_goes_down_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"x\*/\[z-a\].png: ranges of a glob must go up, .* found \[z-a\]"):
        globs.matching(str(tmp_path), "x*/[z-a].png")


def test_links_are_followed_but_lead_in_no_circle(tmp_path):
    for name in ("in/a/1.png", "in/b/2.png", "far/3.png"):
        places.write_bytes(str(tmp_path / name), b"")
    for link, folder in (("in/a/up", "in"), ("in/b/other", "far"), ("in/a/b", "in/b")):
        (tmp_path / link).symlink_to(tmp_path / folder)
    expected = ["a/1.png", "a/b/2.png", "a/b/other/3.png", "b/2.png", "b/other/3.png"]
    assert globs.matching(str(tmp_path / "in"), "**/*.png") == [str(tmp_path / "in" / name) for name in expected]
    assert places.files_below(str(tmp_path / "in")) == [str(tmp_path / "in" / name) for name in expected]


def test_a_glob_walks_no_deeper_than_its_names(folder, monkeypatch):
    walked, walk = [], places.walk

    def noted(root, *others):
        walked.append(root[len(folder):])
        return walk(root, *others)

    monkeypatch.setattr(places, "walk", noted)
    for pattern, below in (("*.jpg", 0), ("*/*.jpg", 2), ("*/*/*.jpg", 3), ("**/*.jpg", 3)):
        walked.clear()
        globs.matching(folder, pattern)
        assert len(walked) == 1 + below


def test_what_is_a_glob():
    assert globs.has_wildcard("a*") and globs.has_wildcard("a[b]") and not globs.has_wildcard("gs://a/b.jpg")
