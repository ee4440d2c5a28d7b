"""Checkpoints: written whole or not at all, the right ones kept, damage reported."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.checkpoints import CheckpointStore, read_settings
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.settings import Settings


def _state(value):
    return {"generator/stem/kernel": tf.Variable([value, value + 1.0]), "step": tf.Variable(int(value), dtype=tf.int64)}


def test_save_and_restore(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    path = store.save(_state(7.0), 7, Settings())
    assert path == tmp_path / "checkpoints" / "step_0000000007"
    assert json.loads((path / "checkpoint.json").read_text()) == {"format": 1, "step": 7, "variables": 2}
    assert Settings.from_json((path / "settings.json").read_text(), "saved") == Settings()
    fresh = _state(0.0)
    store.restore(fresh, 7)
    np.testing.assert_array_equal(fresh["generator/stem/kernel"].numpy(), [7.0, 8.0])
    assert int(fresh["step"].numpy()) == 7


def test_settings_are_read_behind_a_url_too_and_damage_is_named(tmp_path):
    (tmp_path / "settings.json").write_text(Settings().to_json())
    assert read_settings(tmp_path) == Settings()
    assert read_settings(places.path_of(f"file://{tmp_path}")) == Settings()
    (tmp_path / "settings.json").write_bytes(b"\xff{}")
    with pytest.raises(InputError, match="settings.json: must be text in UTF-8, found .*0xff"):
        read_settings(tmp_path)
    with pytest.raises(InputError, match="settings.json: must be a readable file, found: File name too long"):
        read_settings(tmp_path / ("a" * 300))


def test_newest_best_and_final_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in range(1, 7):
        store.save(_state(float(step)), step, Settings())
        if step == 2:
            store.mark("best", 2, metric="psnr", value=20.0)
        if step == 3:
            store.mark("final", 3)
    assert store.steps() == [2, 3, 5, 6]
    assert store.find("best") == 2
    assert store.find("last") == store.find("ema") == 6


def test_a_failed_save_leaves_everything_as_it_was(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, keep=1)
    store.save(_state(1.0), 1, Settings())

    def disk_full(self, prefix):
        with open(prefix + ".data-00000-of-00001", "w") as file:
            file.write("half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", disk_full)
    with pytest.raises(InputError, match="step_0000000002: checkpoint cannot be written: No space left"):
        store.save(_state(2.0), 2, Settings())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_0000000001"]
    fresh = _state(0.0)
    store.restore(fresh, 1)
    assert int(fresh["step"].numpy()) == 1


def test_an_existing_checkpoint_is_not_replaced(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    store.save(_state(1.0), 1, Settings())
    store.save(_state(5.0), 1, Settings())
    fresh = _state(0.0)
    store.restore(fresh, 1)
    assert int(fresh["step"].numpy()) == 1


def test_damaged_or_foreign_checkpoints_are_refused(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    path = store.save(_state(1.0), 1, Settings())
    with pytest.raises(InputError, match="step_0000000001: checkpoint cannot be read"):
        store.restore({"another/kernel": tf.Variable([1.0, 2.0])}, 1)
    (path / "variables.index").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="step_0000000001: checkpoint cannot be read"):
        store.restore(_state(0.0), 1)


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    path = store.save(_state(1.0), 1, Settings())
    shutil.copytree(path, path.with_name(".step_0000000002.123.tmp"))
    shutil.copytree(path, path.with_name(".removed_0000000000"))
    assert store.steps() == [1]
    store.remove_leftovers()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_0000000001"]


def test_find_says_what_is_missing(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    with pytest.raises(InputError, match="--run must be a folder with a checkpoint"):
        store.find("ema")
    store.save(_state(1.0), 1, Settings())
    with pytest.raises(InputError, match="--weights=best needs a run with test pairs"):
        store.find("best")


@pytest.mark.parametrize("name", ["best", "final"])
@pytest.mark.parametrize("text", ["{", "", "[]", "7", "{}", '{"step": "two"}', '{"step": null}'])
def test_a_damaged_mark_is_named_and_no_checkpoint_is_removed(tmp_path, name, text):
    store = CheckpointStore(tmp_path, keep=1)
    store.save(_state(1.0), 1, Settings())
    (tmp_path / "checkpoints" / f"{name}.json").write_text(text)
    for ask in (lambda: store.marked(name), lambda: store.save(_state(2.0), 2, Settings())):
        with pytest.raises(InputError, match=f"checkpoints/{name}.json: not a mark of a checkpoint: "):
            ask()
    assert store.steps() == [1, 2]


def test_a_mark_whose_checkpoint_is_gone_is_none(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    for step in (1, 2):
        store.save(_state(float(step)), step, Settings())
    store.mark("best", 1, metric="psnr", value=20.0)
    assert store.marked("best") == {"step": 1, "metric": "psnr", "value": 20.0} and store.marked("final") is None
    shutil.rmtree(store.path(1))
    assert store.marked("best") is None
    with pytest.raises(InputError, match="--weights=best needs a run with test pairs, found no evaluation"):
        store.find("best")
    assert store.find("last") == 2


def test_other_processes_leave_nothing(tmp_path):
    store = CheckpointStore(tmp_path, keep=3, writes=False)
    store.save(_state(1.0), 1, Settings())
    store.mark("best", 1, metric="psnr", value=1.0)
    assert not list(tmp_path.rglob("step_*")) and not list(tmp_path.rglob("*.json"))
