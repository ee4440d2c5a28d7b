"""Times from the start of a process: rows of made-up commands, and the commands themselves."""

from __future__ import annotations

import importlib.util

import pytest

from cut_tf.common.errors import InputError
from tools.benchmark import start


def test_commands_run_in_turns_each_in_its_own_process(tmp_path):
    noted = tmp_path / "noted"
    code = "import os, sys; print(sys.argv[1], os.getpid(), file=open(sys.argv[2], 'a'))"
    commands = {name: ["-c", code, name, str(noted)] for name in ("one", "two")}
    rows = list(start.measured(commands, tmp_path, 3))
    runs = [run.split() for run in noted.read_text().splitlines()]
    assert [name for name, _ in runs] == ["one", "two"] * 3 and len({process for _, process in runs}) == 6
    assert [row["name"] for row in rows] == ["one", "two"]
    for row in rows:
        assert 0 < row["least_cpu_sec"] <= row["cpu_sec"] <= row["most_cpu_sec"] and row["wall_sec"] > 0
        assert row["name"] in start.line(row)


def test_a_command_that_fails_is_shown(tmp_path):
    with pytest.raises(InputError, match="one failed: .*no such thing"):
        list(start.measured({"one": ["-c", "raise SystemExit('no such thing')"]}, tmp_path, 1))


def test_a_step_is_taken_again_with_the_graph_of_the_process_before(monkeypatch):
    given = []
    monkeypatch.setattr(start, "_seconds", lambda name, command: given.append((name, command)) or (1.0, 1.0))
    list(start.rows(2))
    steps = [(name, dict(flag.split("=") for flag in command if flag.startswith(("--run", "--step_cache"))))
             for name, command in given if name.startswith("first step")]
    assert len({flags["--run"] for _, flags in steps}) == len(steps) == 8
    caches = {}
    for name, flags in steps:
        again = name.endswith(", again")
        assert (flags["--step_cache"] in caches) == again
        assert caches.setdefault(flags["--step_cache"], name) == name.removesuffix(", again")
    assert len(caches) == 4


@pytest.mark.slow
def test_every_command_gives_its_first_result(monkeypatch):
    tiny = ["--dataset=scenes", "--scenes_images=2", "--preprocess=crop", "--crop_size_px=32", "--ngf=4", "--ndf=4",
            "--generator_blocks=1", "--nce_layers=0,4"]
    monkeypatch.setattr(start, "_STEPS", {"first step": tiny})
    names = [row["name"] for row in start.rows(1)]
    twins = ["translate --tflite"] if importlib.util.find_spec("ai_edge_litert") else []
    assert names == ["translate --help", "translate --saved_model", "translate --model", *twins, "first step",
                     "first step, again"]
