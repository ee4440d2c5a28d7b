"""What is checked before work whose results go into a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write, check_results
from cut_tf.common.places import RemotePath


def test_a_folder_that_can_be_made_is_not_made(tmp_path):
    check_can_write(tmp_path / "new" / "deep", "--output")
    check_can_write(tmp_path, "--output")
    check_can_write(RemotePath("gs://bucket/folder"), "--output")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("inside", ["", "deep/er"])
def test_a_file_in_the_way_is_named(tmp_path, inside):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match=f"^--output must be a folder that can be .*, found the file {tmp_path}/a$"):
        check_can_write(tmp_path / "a" / inside, "--output")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_url_where_a_folder_of_this_machine_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^--output=gs://b/m must be a folder of this machine, found a URL$"):
        check_can_write(Path("gs://b/m"), "--output=gs://b/m")
    (tmp_path / "gs:").mkdir()
    check_can_write(Path("gs:"), "--output")


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"found for {tmp_path}/a: No such file or directory"):
        check_can_write(tmp_path / "a", "--output")


def test_a_closed_folder_is_refused_before_any_result(tmp_path, monkeypatch):
    """The system's refusal is acted, since an administrator may write everywhere."""
    def refuse(self: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(InputError, match=f"--output={tmp_path}/out must be .* found for {tmp_path}: Permission denied"):
        check_results([], tmp_path / "out", overwrite=False)


def test_a_link_to_nothing_is_no_reason_to_stop_but_is_not_replaced(tmp_path):
    link = tmp_path / "b.png"
    link.symlink_to("/nowhere/b.png")
    check_results([(link, [tmp_path / "out" / "b.png"])], tmp_path / "out", overwrite=False)
    with pytest.raises(InputError, match=f"--output must be another .*{link} would replace the picture {link}$"):
        check_results([(link, [link])], tmp_path, overwrite=True)


def test_a_link_to_itself_is_no_folder(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=f"^--output={tmp_path}/loop must be a folder that can be written, found"):
        check_results([(tmp_path / "a.png", [tmp_path / "loop" / "a.png"])], tmp_path / "loop", overwrite=False)
