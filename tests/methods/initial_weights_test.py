"""Fine-tuning: the weights of another run, without its optimizers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cut_tf import compat
from cut_tf.checkpoints import CheckpointStore, write_settings
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from cut_tf.training import trainer
from tests import warm_process


def _weights(method, name):
    return {key: value.numpy() for key, value in compat.named_weights(method.networks[name]).items()}


@pytest.fixture(name="trained")
def _trained(tmp_path, tiny_settings):
    """A run of CUT at step 0 with random weights, and its method."""
    method = build_method(tiny_settings(seed=5))
    method.compile()
    for weight in method.ema_generator.weights:
        weight.assign(weight + 1.0)  # not what training goes on with
    method.save(tmp_path / "trained")
    return method


def test_all_networks_begin_with_the_weights_and_the_means_with_the_generator(trained, tmp_path, tiny_settings):
    method = build_method(tiny_settings(seed=6, init_from=str(tmp_path / "trained")))
    for name in ("generator", "discriminator", "projector"):
        for key, value in _weights(trained, name).items():
            np.testing.assert_array_equal(_weights(method, name)[key], value)
    for key, value in compat.named_weights(method.ema_generator).items():
        np.testing.assert_array_equal(value, _weights(trained, "generator")[key])
    other = build_method(tiny_settings(seed=6))
    assert np.abs(_weights(other, "generator")["stem/kernel"] - _weights(method, "generator")["stem/kernel"]).max() > 0
    method.compile()
    assert int(method.step.numpy()) == 0
    slots = [value for key, value in method.state().items() if key.startswith("optimizer/generator/mean")]
    assert slots and all(not np.any(value) for value in slots)


def test_what_a_run_lacks_begins_anew(trained, tmp_path, tiny_settings, caplog):
    """The generator alone, into a method with other networks; a head of another kind is no error."""
    store = CheckpointStore(tmp_path / "half", 1)
    store.save({f"generator/{key}": value for key, value in compat.named_weights(trained.generator).items()}, 0,
               trained.settings)
    write_settings(tmp_path / "half", trained.settings)
    for method in ("cut", "cyclegan", "odcr"):
        with caplog.at_level("INFO", "cut_tf"):
            made = build_method(tiny_settings(method=method, init_from=str(tmp_path / "half"), seed=7))
        assert "not of discriminator" in caplog.text
        np.testing.assert_array_equal(_weights(made, "generator")["stem/kernel"],
                                      _weights(trained, "generator")["stem/kernel"])
    made = build_method(tiny_settings(method="odcr", init_from=str(tmp_path / "trained"), seed=7))
    np.testing.assert_array_equal(_weights(made, "discriminator")["conv1/kernel"],
                                  _weights(trained, "discriminator")["conv1/kernel"])


@pytest.mark.parametrize("changes, reason", [
    ({"ngf": 8}, r"same generator, found that generator/.* is \[.*\] here and \[.*\] there, and \d+ more"),
    ({"generator_blocks": 2}, "is only here"), ({"ndf": 8}, "same discriminator"),
    ({"projector_width": 8}, "same projector"),
    ({"init_from": "gone"}, "--init_from=gone: --run must be a folder with"),
    ({"init_from": "{run}@7"}, "must name a step with a checkpoint, found 0")])
def test_a_run_of_other_networks_is_refused(trained, tmp_path, tiny_settings, changes, reason):
    run = str(tmp_path / "trained")
    changes = {name: value.format(run=run) if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(InputError, match=reason):
        build_method(tiny_settings(**{"init_from": run, **changes}))


@pytest.mark.slow
def test_a_begun_run_goes_on_without_the_one_that_it_began_with(tmp_path, tiny_settings):
    quick = tiny_settings(method="paired", generator="mobile", generator_norm="none", preprocess="crop")
    teacher = build_method(quick.having(seed=5))
    teacher.compile()
    teacher.save(tmp_path / "trained")
    settings = quick.having(run=str(tmp_path / "tuned"), init_from=str(tmp_path / "trained"), constant_epochs=1,
                            decay_epochs=0, steps_per_epoch=1)
    first = trainer.Run(settings)
    begun = _weights(first.method, "generator")["head/kernel"]
    np.testing.assert_array_equal(begun, _weights(teacher, "generator")["head/kernel"])
    assert first.train(verbose=0).finished
    moved = _weights(first.method, "generator")["head/kernel"]
    assert np.abs(moved - begun).max() > 0
    shutil.rmtree(tmp_path / "trained")
    np.testing.assert_array_equal(_weights(trainer.Run(settings).method, "generator")["head/kernel"], moved)
    with pytest.raises(InputError, match="--init_from: '.*' against ''"):
        trainer.Run(settings.having(init_from=""))


def test_the_command_of_a_begun_run_needs_not_the_step_that_it_began_with(tmp_path, tiny_settings):
    """A run that trains on removes its old checkpoints by and by."""
    quick = tiny_settings(method="paired", generator="mobile", generator_norm="none", ngf=6)
    for name in ("trained", "begun"):
        method = build_method(quick)
        method.compile()
        method.save(tmp_path / name)
    (tmp_path / "trained" / "checkpoints" / "step_0000000000").rename(tmp_path / "removed")

    def dry_run(run: str) -> warm_process.Ended:
        return warm_process.run(["-m", "cut_tf.train", "--dataset=scenes", "--method=paired", "--dry_run",
                                 f"--init_from={tmp_path / 'trained'}@0", f"--run={tmp_path / run}"], tmp_path)

    begun = dry_run("begun")
    assert begun.returncode == 0 and '"ngf": 6' in begun.stdout, begun.stderr
    new = dry_run("new")
    assert new.returncode == 2 and not (tmp_path / "new").exists()
    assert f"error: --init_from={tmp_path / 'trained'}@0: " in new.stderr
    assert "must name a step with a checkpoint, found none" in new.stderr
