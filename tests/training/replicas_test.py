"""Two replicas, in one process or in two, train like one."""

import json
import re
import socket

import numpy as np

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


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_replicas_and_two_workers_equal_one_replica(tmp_path, start_training, train, checkpoint_values):
    one, two, workers = tmp_path / "one", tmp_path / "two", tmp_path / "workers"
    short = ("--steps_per_epoch=1",)
    code, output = train(one, *short)
    assert code == 0, output
    assert "1 replicas in 1 processes; batch 2 global, 2 per replica" in output
    code, output = train(two, "--num_virtual_devices=2", *short)
    assert code == 0, output
    assert "2 replicas in 1 processes; batch 2 global, 1 per replica" in output

    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    processes = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(start_training(workers, *short, environment={"TF_CONFIG": json.dumps(config)}))
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert "2 replicas in 2 processes" in outputs[0]
    # Only the chief writes the run folder.
    assert len(list((workers / "events").iterdir())) == 1

    expected = checkpoint_values(one, 3)
    _assert_same_state(expected, checkpoint_values(two, 3))
    _assert_same_state(expected, checkpoint_values(workers, 3))


def test_batch_must_divide_over_replicas(tmp_path, train):
    code, output = train(tmp_path / "run", "--num_virtual_devices=2", "--batch_size=3")
    assert code == 2
    assert "error: --batch_size must be a multiple of the number of replicas (2), found 3" in output
    assert not (tmp_path / "run").exists()


def test_bad_tf_config(tmp_path, train):
    code, output = train(tmp_path / "run", environment={"TF_CONFIG": '{"task": 1}'})
    assert code == 2
    assert "error: TF_CONFIG must be like" in output
