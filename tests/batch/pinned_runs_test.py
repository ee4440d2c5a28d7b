"""Plans whose model is a run: its checkpoint is pinned, on this machine and behind a URL."""

import json
import shutil

import numpy as np
import pytest

from cut_tf.batch import plan as plans
from cut_tf.batch.inputs import find_inputs
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.batch.worker import Target
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common import places
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from tests.batch import jobs


def test_a_run_that_trains_on_translates_with_the_checkpoint_of_the_first_start(tmp_path, tiny_settings):
    method = build_method(tiny_settings())
    method.compile()
    method.save(tmp_path / "run")
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=str(tmp_path / "run"))
    first = plans.settle(inputs, target, choice, 2)
    assert first.choice.run == f"{tmp_path / 'run'}@0"
    method.step.assign(5)
    method.save(tmp_path / "run")
    assert plans.settle(inputs, target, choice, 2).choice == first.choice


def _saved_run(settings, folder, seed=None):
    """A run, whose checkpoint holds other weights for each seed."""
    method = build_method(settings)
    method.compile()
    if seed is not None:
        for variable in method.state().values():
            if variable.dtype.is_floating:
                variable.assign(np.random.default_rng(seed).normal(size=variable.shape))
    method.save(folder)
    return method


def test_a_run_with_other_weights_is_another_model(tmp_path, tiny_settings):
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=str(tmp_path / "run"))
    _saved_run(tiny_settings(), tmp_path / "run", seed=0)
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run")
    _saved_run(tiny_settings(), tmp_path / "run", seed=0)
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run")
    _saved_run(tiny_settings(), tmp_path / "run", seed=1)
    with pytest.raises(InputError, match="run@0 must have the weights with which --output=.*out began, found others"):
        plans.settle(inputs, target, choice, 2)
    plan = json.loads((tmp_path / "out" / ".batch" / "plan-0000.json").read_text())
    del plan["checkpoint"]  # as in plans of earlier versions
    (tmp_path / "out" / ".batch" / "plan-0000.json").write_text(json.dumps(plan))
    plans.settle(inputs, target, choice, 2)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(InputError, match="run@0 must name a step with a checkpoint, found none"):
        plans.settle(inputs, target, choice, 2)


def _upload(folder, url):
    for path in folder.rglob("*"):
        if path.is_file():
            places.write_bytes(f"{url}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_run_at_a_url_is_pinned_and_only_what_it_takes_is_copied(tmp_path, tiny_settings, monkeypatch):
    url = f"ram://{tmp_path.name}/run"
    method = _saved_run(tiny_settings(), tmp_path / "run")
    _upload(tmp_path / "run", url)
    places.write_bytes(f"{url}/events/large", b"0")
    jobs.save(tmp_path / "in", 2)
    target, inputs = Target(str(tmp_path / "out"), "files"), find_inputs(str(tmp_path / "in"))
    choice = TranslatorChoice(run=url)
    first = plans.settle(inputs, target, choice, 2)
    assert first.choice.run == f"{url}@0"
    method.step.assign(5)
    method.save(tmp_path / "run")
    _upload(tmp_path / "run", url)
    assert plans.settle(inputs, target, choice, 2).choice == first.choice and choice.pinned().run == f"{url}@5"

    copies, copied = [], places.local_folder
    monkeypatch.setattr(places, "local_folder", lambda *arguments: copies.append(copied(*arguments)) or copies[-1])
    pixels = jobs.picture(0)
    for found, run in ((first.choice, tmp_path / "run@0"), (choice, tmp_path / "run")):
        np.testing.assert_array_equal(found.open()(pixels, ""), TranslatorChoice(run=str(run)).open()(pixels, ""))
    for copy, step in zip(copies, ("step_0000000000", "step_0000000005")):
        assert sorted(path.name for path in copy.iterdir()) == ["checkpoints", "settings.json"]
        assert [path.name for path in (copy / "checkpoints").iterdir()] == [step]


@pytest.mark.parametrize("at_url", [False, True])
def test_the_best_checkpoint_is_pinned(tmp_path, tiny_settings, at_url):
    method = _saved_run(tiny_settings(), tmp_path / "run")
    method.step.assign(5)
    method.save(tmp_path / "run")
    CheckpointStore(tmp_path / "run", 2).mark("best", 0)
    url = f"ram://{tmp_path.name}/run"
    _upload(tmp_path / "run", url)
    run = url if at_url else str(tmp_path / "run")
    assert TranslatorChoice(run=run, weights="best").pinned() == TranslatorChoice(run=f"{run}@0")
