"""make_haze stopped at any moment, and continued by the same command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clear_photographs import file_names, photograph
from PIL import Image

import cut_tf
from cut_tf.common.errors import InputError
from cut_tf.data.haze.recipe import HazeRecipe
from cut_tf.data.image_files import write_png
from tools import make_haze

ROOT = Path(__file__).parents[2]
SEED_1 = HazeRecipe(seed=1)


def _tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _program(*arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return [sys.executable, "-m", "tools.make_haze", *arguments], environment


def test_a_damaged_photograph_stops_and_once_repaired_the_rest_is_done(photographs, tmp_path):
    make_haze.make_dataset(photographs, tmp_path / "whole", "test")
    path = photographs / "p7.png"
    data = path.read_bytes()
    path.write_bytes(data[:60])
    with pytest.raises(InputError, match=r"p7\.png: .*\d of 18 pictures are done and kept in .*/out/\.test_partial"):
        make_haze.make_dataset(photographs, tmp_path / "out", "test", workers=1)
    assert file_names(tmp_path / "out") == [".test_partial"]
    path.write_bytes(data)
    make_haze.make_dataset(photographs, tmp_path / "out", "test")
    assert _tree(tmp_path / "out") == _tree(tmp_path / "whole")


def test_if_the_first_photograph_is_damaged_nothing_is_left(photographs, tmp_path):
    for path in photographs.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"p\d\.(png|jpg): must be a complete"):
        make_haze.make_dataset(photographs, tmp_path / "out", "test")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("pictures", [0, 1, 6])
def test_a_stopped_run_leaves_no_dataset_and_is_continued(photographs, tmp_path, monkeypatch, workers, pictures):
    """Whenever a run is killed, its output holds what is seen here between two pictures: no part of a split."""
    make_haze.make_dataset(photographs, tmp_path / "whole", "train")
    out, seen, written = tmp_path / "out", [], []

    def write_some(path: Path, image: np.ndarray) -> None:
        seen.append(file_names(out))
        if len(seen) > pictures:
            raise KeyboardInterrupt
        write_png(path, image)

    monkeypatch.setattr(make_haze, "write_png", write_some)
    with pytest.raises(KeyboardInterrupt):
        make_haze.make_dataset(photographs, out, "train", workers=workers)
    assert all(name.startswith(".") for names in [*seen, file_names(out)] for name in names)
    # What SIGKILL leaves while a picture or a line is being written.
    (out / ".train_partial" / "trainA" / ".0123.tmp").write_bytes(b"half a picture")
    with open(out / ".train_partial" / "journal.jsonl", "a", encoding="ascii") as file:
        file.write('{"file": "trainA/p')
    monkeypatch.setattr(make_haze, "write_png", lambda path, image: (written.append(path), write_png(path, image)))
    assert make_haze.make_dataset(photographs, out, "train", workers=workers) == 9
    # Pictures whose lines did not make it into the journal are done again.
    assert 9 - pictures <= len(written) <= 9 and (workers > 1 or len(written) == 9 - pictures)
    assert _tree(out) == _tree(tmp_path / "whole")


def test_a_second_process_is_refused_and_touches_nothing(photographs, tmp_path, monkeypatch):
    """It is started while the first one writes its third picture."""
    out, refused = tmp_path / "out", []

    def write(path: Path, image: np.ndarray) -> None:
        if len(refused) == 0 and len(file_names(out / ".train_partial" / "trainA")) == 2:
            before = file_names(out)
            with pytest.raises(InputError, match=r"\.train_partial: must be written by one process") as caught:
                make_haze.make_dataset(photographs, out, "train")
            assert file_names(out) == before
            refused.append(caught)
        write_png(path, image)

    monkeypatch.setattr(make_haze, "write_png", write)
    assert make_haze.make_dataset(photographs, out, "train", workers=1) == 9
    assert len(refused) == 1
    make_haze.make_dataset(photographs, tmp_path / "whole", "train")
    assert _tree(out) == _tree(tmp_path / "whole")


def test_files_that_lost_their_end_are_made_again(photographs, tmp_path, monkeypatch):
    make_haze.make_dataset(photographs, tmp_path / "whole", "train")
    out = tmp_path / "out"
    monkeypatch.setattr(make_haze, "_finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_haze.make_dataset(photographs, out, "train")
    monkeypatch.undo()
    first, second, third, *_ = sorted((out / ".train_partial").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-40])
    second.write_bytes(b"")
    third.unlink()
    make_haze.make_dataset(photographs, out, "train")
    assert _tree(out) == _tree(tmp_path / "whole")


@pytest.mark.parametrize("moved", [0, 1, 2, 3, 4])
def test_a_run_killed_while_it_moves_the_results_is_completed(photographs, tmp_path, monkeypatch, moved):
    make_haze.make_dataset(photographs, tmp_path / "whole", "train")
    out, calls, replace = tmp_path / "out", [], os.replace

    def replace_some(source: Path, target: Path) -> None:
        if Path(target).parent == out:
            calls.append(target)
            if len(calls) > moved:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_some)
    if moved == 4:
        monkeypatch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_haze.make_dataset(photographs, out, "train")
    assert (out / "trainA").exists() == (moved == 4)
    monkeypatch.undo()
    assert make_haze.make_dataset(photographs, out, "train") == 9
    assert _tree(out) == _tree(tmp_path / "whole")


@pytest.mark.parametrize("change, message", [
    ({"recipe": HazeRecipe(seed=1, beta_max=0.1)}, r"beta_max 0\.0 against 0\.1\. Give"),
    ({"recipe": HazeRecipe(seed=1, nonhomogeneous=0.5, airlight_max=0.9)},
     r"airlight_max 0\.95 against 0\.9; nonhomogeneous 0\.0 against 0\.5\. Give"),
    ({"recipe": HazeRecipe(seed=2)}, "seed 1 against 2"), ({"limit": 8}, "limit 0 against 8"),
    ({"source": "other"}, "input '.*clear' against '.*other'"), ({"version": "0.0.1"}, "cut_tf '.*' against '0.0.1'"),
    ({"photograph": "new.png"}, "photographs 9 against 10"),
])
def test_a_stopped_run_of_another_recipe_is_refused(photographs, tmp_path, monkeypatch, change, message):
    out = tmp_path / "out"
    monkeypatch.setattr(make_haze, "_finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_haze.make_dataset(photographs, out, "train", SEED_1)
    monkeypatch.undo()
    before = _tree(out)
    if "version" in change:
        monkeypatch.setattr(cut_tf, "__version__", change["version"])
    if "photograph" in change:
        photograph(77).save(photographs / change["photograph"])
    source = shutil.copytree(photographs, tmp_path / "other") if "source" in change else photographs
    with pytest.raises(InputError, match=rf"\.train_partial: was begun with another recipe: .*{message}"):
        make_haze.make_dataset(source, out, "train", change.get("recipe", SEED_1), change.get("limit", 0))
    assert _tree(out) == before


@pytest.mark.parametrize("text", ["no journal\n", "{}\n{}\n", "[]\n", "\n"])
def test_a_journal_that_is_none_is_refused(photographs, tmp_path, text):
    (tmp_path / "out" / ".train_partial").mkdir(parents=True)
    (tmp_path / "out" / ".train_partial" / "journal.jsonl").write_text(text)
    with pytest.raises(InputError, match="remove .*folder"):
        make_haze.make_dataset(photographs, tmp_path / "out", "train")


# The program, but after a few pictures it waits for the signal, and writes none after it: the test need not hurry.
_HELD = """
import itertools, runpy, signal, sys, threading
from cut_tf.data import image_files
write_png, written, interrupted = image_files.write_png, itertools.count(1), threading.Event()
def write(path, image):
    if next(written) > 6:
        interrupted.wait()
        raise KeyboardInterrupt
    write_png(path, image)
def interrupt(number, frame):
    interrupted.set()
    raise KeyboardInterrupt
image_files.write_png = write
signal.signal(signal.SIGINT, interrupt)
sys.argv[0] = "make_haze"
runpy.run_module("tools.make_haze", run_name="__main__")
"""


@pytest.mark.parametrize("sent, code", [
    (signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)])
def test_a_killed_program_is_continued(tmp_path, sent, code):
    (tmp_path / "clear").mkdir()
    for number in range(16):
        photograph(number, 400, 300).resize((800, 600), Image.Resampling.BICUBIC).save(
            tmp_path / "clear" / f"p{number}.png")
    make_haze.make_dataset(tmp_path / "clear", tmp_path / "whole", "test", HazeRecipe(nonhomogeneous=0.5))
    command, environment = _program("--input=clear", "--output=out", "--split=test", "--nonhomogeneous=0.5",
                                    "--workers=2")
    held = [sys.executable, "-c", _HELD, *command[command.index("tools.make_haze") + 1:]]
    journal = tmp_path / "out" / ".test_partial" / "journal.jsonl"
    with subprocess.Popen(held, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as process:
        while not (journal.exists() and journal.read_bytes().count(b"\n") > 4):
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.01)
        process.send_signal(sent)
        error = process.communicate(timeout=900)[1].decode()
        assert process.returncode == code, error
    assert file_names(tmp_path / "out") == [".test_partial"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "continuing in out/.test_partial: " in done.stdout and " of 32 pictures are there" in done.stdout
    found, expected = _tree(tmp_path / "out"), _tree(tmp_path / "whole")
    # Only the folder's name differs, which is relative here.
    head, expected_head = (tree.pop("haze_test.jsonl").split(b"\n", 1) for tree in (found, expected))
    assert head[1] == expected_head[1] and {**json.loads(head[0]), "input": ""} == {
        **json.loads(expected_head[0]), "input": ""}
    assert found == expected
