"""Two replicas, in one process or in two, train like one."""

import json
import re

import numpy as np
import pytest

from tests.training.processes import cluster_environments

# Biases before a norm have a gradient of zero, so that Adam moves them by the sign of rounding errors.
_ZERO_GRADIENT = re.compile(r"(stem|block\d_conv\d|up\d|conv[234])\.Sbias")


def _assert_same_state(expected, found):
    assert expected.keys() == found.keys()
    weights = 0
    for name, value in expected.items():
        if _ZERO_GRADIENT.search(name):
            continue
        if "optimizer" in name:
            # Running means of gradients can be large: they are compared with their largest value.
            np.testing.assert_allclose(found[name], value, atol=1e-4 * np.max(np.abs(value)), rtol=0, err_msg=name)
        else:
            np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=0, err_msg=name)
            weights += "kernel" in name
    assert weights == 8 + 8 + 5 + 4 * 2  # generator, its running means, discriminator, projector


def _best(run):
    return json.loads((run / "checkpoints" / "best.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [("worker", "worker"), ("chief", "worker")], ids="-".join)
def test_two_processes_equal_one_replica_and_keep_its_best_checkpoint(jobs, tmp_path, start_training, train,
                                                                      checkpoint_values):
    one, several = tmp_path / "one", tmp_path / "several"
    short = ("--steps_per_epoch=1", "--eval_steps=2", "--keep_checkpoints=1")
    code, output = train(one, *short)
    assert code == 0, output
    assert "1 replicas in 1 processes; batch 2 global, 2 per replica" in output
    processes = [start_training(several, *short, environment=environment) for environment in cluster_environments(jobs)]
    for process in processes:
        code, output = process.end()
        assert code == 0 and "2 replicas in 2 processes; batch 2 global, 1 per replica" in output, output
    # Only the first process writes the run folder.
    assert len(list((several / "events").iterdir())) == 1
    assert sorted(path.name for path in several.rglob("step_*")) == sorted(path.name for path in one.rglob("step_*"))
    expected, found = _best(one), _best(several)
    assert (found["step"], found["weights"]) == (expected["step"], expected["weights"])
    assert found["value"] == pytest.approx(expected["value"], abs=1e-3)
    for step in sorted({3, expected["step"]}):
        _assert_same_state(checkpoint_values(one, step), checkpoint_values(several, step))


@pytest.mark.slow  # every method's steps are compared by tests/contracts, always
def test_two_replicas_of_a_process_equal_one(tmp_path, train, checkpoint_values):
    for name, flags in (("one", ()), ("two", ("--num_virtual_devices=2",))):
        code, output = train(tmp_path / name, "--steps_per_epoch=1", *flags)
        assert code == 0, output
    assert "2 replicas in 1 processes; batch 2 global, 1 per replica" in output
    _assert_same_state(checkpoint_values(tmp_path / "one", 3), checkpoint_values(tmp_path / "two", 3))


def test_batch_must_divide_over_replicas(tmp_path, train):
    code, output = train(tmp_path / "run", "--num_virtual_devices=2", "--batch_size=3")
    assert code == 2
    assert "error: --batch_size must be a multiple of the number of replicas (2), found 3" in output
    assert not (tmp_path / "run").exists()


def test_bad_tf_config(tmp_path, train):
    code, output = train(tmp_path / "run", environment={"TF_CONFIG": '{"task": 1}'})
    assert code == 2
    assert "error: TF_CONFIG must be like" in output
