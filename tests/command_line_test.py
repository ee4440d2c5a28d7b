"""--version and flagfiles by name, in every command and from any working directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import cut_tf
from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.settings import FIELDS
from tests import warm_process

ROOT = Path(__file__).parents[1]
FLAGFILES = ROOT / "cut_tf" / "flagfiles"
COMMANDS = ["cut_tf.train", "cut_tf.translate", "cut_tf.evaluate", "cut_tf.export", "cut_tf.client", "cut_tf.demo",
            "cut_tf.import_weights", "tools.picture_tensorboard", "tools.make_haze", "tools.live_page",
            "tools.benchmark", "tools.check_parity", "tools.evaluate_dehazing", "tools.make_dehaze_mobile",
            "tools.make_records", "tools.record_stack",
            "tools.fetch_clear_photographs", "tools.plots", "tools.plots.record", "tools.repeat_tests",
            "tools.reproduce", "tools.reproduce.curves", "tools.style_distance", "tools.update_build"]


def _run(folder: Path, *words: str) -> warm_process.Ended:
    return warm_process.run(["-m", *words], folder)


def test_every_command_is_listed_here():
    mains = {path.relative_to(ROOT).as_posix() for folder in ("cut_tf", "tools") for path in
             (ROOT / folder).rglob("*.py") if '__name__ == "__main__"' in path.read_text()}
    listed = {name.replace(".", "/") for name in COMMANDS}
    assert {name.removesuffix(".py").removesuffix("/__main__") for name in mains} == listed


def test_every_command_knows_its_version(tmp_path):
    for command in COMMANDS:
        done = _run(tmp_path, command, "--version")
        assert (done.returncode, done.stdout) == (0, f"cut_tf {cut_tf.__version__}\n"), f"{command}: {done.stderr}"


def test_help_lists_the_settings_and_what_all_commands_share(tmp_path):
    short, whole = (_run(tmp_path, "cut_tf.train", flag) for flag in ("--help", "--helpfull"))
    assert short.returncode == whole.returncode == 0, short.stderr + whole.stderr
    for field in FIELDS.values():
        assert re.search(rf"^  --(\[no\])?{field.name}:", whole.stdout, re.MULTILINE), field.name
        assert (f"  --{field.name}=" in short.stdout) == field.metadata["often"], field.name
    assert "--[no]version:" in whole.stdout and "--[no]dry_run:" in whole.stdout
    assert all(f"  {name} " in short.stdout for name in command_line.flagfile_names())
    assert "--[no]version:" in _run(tmp_path, "tools.update_build", "--help").stdout


def test_a_flagfile_is_found_by_name_from_any_folder(tmp_path):
    done = _run(tmp_path, "cut_tf.train", "--flagfile=quickstart", "--seed=5", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert '"scenes_images": 200' in done.stdout and '"ngf": 24' in done.stdout and '"seed": 5' in done.stdout


def test_an_unknown_flagfile_is_refused_with_the_names(tmp_path):
    done = _run(tmp_path, "cut_tf.train", "--flagfile=quickstrat", "--dry_run")
    assert done.returncode == 2
    assert "error: --flagfile must be a file or one of aecrnet_folder, " in done.stderr
    assert "sincut_monet_etretat, sincut_small, found 'quickstrat'" in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["quickstart", "quickstart.flags"])
@pytest.mark.parametrize("spelling", ["--flagfile={}", "-flagfile={}"])
def test_names_become_paths(given, spelling):
    found = command_line.with_flagfile_paths(["train", spelling.format(given), "--seed=1"])
    assert found == ["train", spelling.format(FLAGFILES / "quickstart.flags"), "--seed=1"]


def test_the_value_may_be_the_next_word():
    assert command_line.with_flagfile_paths(["train", "--flagfile", "cut_folder", "--flip"]) == [
        "train", "--flagfile", str(FLAGFILES / "cut_folder.flags"), "--flip"]


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("--seed=3\n")
    assert command_line.with_flagfile_paths(["train", "--flagfile=quickstart"])[1] == "--flagfile=quickstart"


@pytest.mark.parametrize("value", ["cut_tf/flagfiles/nothing.flags", "../quickstart", "nothing"])
def test_what_is_neither_file_nor_name_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--flagfile must be a file or one of .*, found '{value}'"):
        command_line.with_flagfile_paths(["train", f"--flagfile={value}"])


def test_all_flagfiles_have_a_name():
    assert command_line.flagfile_names() == sorted(path.stem for path in FLAGFILES.iterdir())


def test_train_alone_says_what_to_type(tmp_path):
    done = _run(tmp_path, "cut_tf.train")
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert "python -m cut_tf.train --flagfile=quickstart --run=runs/quickstart" in done.stderr
    for name, title in command_line.flagfile_titles().items():
        assert re.search(rf"^  {name} +{re.escape(title)}$", done.stderr, re.MULTILINE), name


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_wait_for_tensorflow(tmp_path, command):
    code = ("import runpy, sys\nsys.argv = ['x', '--help']\n"
            f"try:\n    runpy.run_module({command!r}, run_name='__main__')\n"
            "except SystemExit as stop:\n    print(stop.code, 'tensorflow' in sys.modules, 'keras' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.endswith("\n0 False False\n") and done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("cut_tf.train", "--flagfile=quickstart", "--run=run", "--dataset=nowhere"),
    ("cut_tf.translate", "--run=nowhere", "--input=a.png", "--output=out"),
    ("cut_tf.export", "--run=nowhere", "--output=out"),
    ("cut_tf.evaluate", "--pred=nowhere", "--target=nowhere")], ids=lambda words: words[0])
def test_nothing_is_said_before_our_own_first_line(tmp_path, words):
    """A cold process, with the environment of a newcomer."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, text=True, capture_output=True,
                          env={**environment, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert done.stdout.startswith("Device: ") or done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def test_what_tensorflow_says_is_shown_if_it_cannot_start(capfd):
    with pytest.raises(ImportError), command_line._stderr_held_back():
        os.write(2, b"said by a library\n")
        raise ImportError
    assert capfd.readouterr().err == "said by a library\n"
    with command_line._stderr_held_back():
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == ""


def test_a_folder_whose_name_is_no_text_is_told_too(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    done = subprocess.run([sys.executable, "-m", "cut_tf.translate", "--method=dark_channel_prior", "--input=a.png",
                           b"--output=out\xff"], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert done.stdout == "results in out\\udcff\n" and (tmp_path / os.fsdecode(b"out\xff") / "a.png").exists()
