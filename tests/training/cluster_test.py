"""What TF_CONFIG says, against what TensorFlow's own resolver makes of it and by hand."""

import json

import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.training.cluster import read_cluster

A, B, C = "10.0.0.1:2222", "10.0.0.2:2222", "trainer-2.example:2223"


def _config(cluster, kind, index):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize("cluster, kind, index, expected", [
    ({"worker": [A, B]}, "worker", 0, ((A, B), 0)),
    ({"worker": [A, B]}, "worker", 1, ((A, B), 1)),
    ({"chief": [C], "worker": [A, B]}, "chief", 0, ((C, A, B), 0)),
    ({"chief": [C], "worker": [A, B]}, "worker", 0, ((C, A, B), 1)),
    ({"worker": [A, B], "chief": [C]}, "worker", 1, ((C, A, B), 2)),
    ({"chief": [A]}, "chief", 0, ((A,), 0)),
    ({"worker": [A]}, "worker", "0", ((A,), 0)),
    ({"worker": ["[::1]:80", "localhost:81"]}, "worker", 1, (("[::1]:80", "localhost:81"), 1)),
])
def test_processes_in_tensorflows_order(cluster, kind, index, expected, monkeypatch):
    found = read_cluster(_config(cluster, kind, index))
    assert found[:2] == expected
    assert found.names[found.index] in (kind, f"{kind} {index}") and found.names.count("chief") == ("chief" in cluster)
    from tensorflow.python.distribute import multi_worker_util

    spec = tf.train.ClusterSpec(cluster).as_cluster_def()
    assert multi_worker_util.id_in_cluster(spec, kind, int(index)) == found.index
    assert multi_worker_util.worker_count(spec, kind) == len(found.addresses)
    assert multi_worker_util.is_chief(spec, kind, int(index)) == (found.index == 0)


@pytest.mark.parametrize("text", ["", "  ", "{}", '{"cluster": {}}', '{"task": {"type": "worker", "index": 0}}'])
def test_no_cluster(text):
    assert read_cluster(text) is None


@pytest.mark.parametrize("text, message", [
    ("no json", "TF_CONFIG must be JSON like .* found 'no json'"),
    ("[1]", "TF_CONFIG must be like"),
    ('{"cluster": 3}', "TF_CONFIG must be like .* found cluster 3"),
    ('{"cluster": {"worker": "a:1"}, "task": {}}', "must list the addresses of \"worker\", found 'a:1'"),
    (_config({"worker": []}, "worker", 0), "must list the addresses"),
    (_config({"worker": [A], "ps": [B]}, "worker", 0), "found parameter servers, which cut_tf does not use"),
    (_config({"worker": [A], "evaluator": [B]}, "evaluator", 0), "found an evaluator, which cut_tf does not use"),
    (_config({"worker": [A]}, "evaluator", 0), "found an evaluator, which cut_tf does not use: the chief evaluates"),
    (_config({"worker": [A], "master": [B]}, "worker", 0), "found the job 'master'"),
    (_config({"chief": [A, B]}, "chief", 0), "must name one chief, found 2"),
    (_config({"chief": [A], "worker": [A]}, "chief", 0), "an address of its own, found 10.0.0.1:2222 more than once"),
    (_config({"worker": [A]}, "chief", 0), "a job of its cluster .worker., found 'chief'"),
    (_config({"worker": [A, B]}, "worker", 2), "a task index from 0 to 1 for worker, found 2"),
    (_config({"worker": [A, B]}, "worker", -1), "found -1"),
    (_config({"worker": [A, B]}, "worker", True), "found True"),
    (_config({"worker": [A, B]}, "worker", None), "found None"),
    (_config({"worker": ["nowhere"]}, "worker", 0), "addresses as host:port, found 'nowhere'"),
    (_config({"worker": ["a:99999"]}, "worker", 0), "addresses as host:port, found 'a:99999'"),
    (_config({"worker": ["http://a:80"]}, "worker", 0), "addresses as host:port"),
    (_config({"worker": [7]}, "worker", 0), "addresses as host:port, found 7"),
    (json.dumps({"cluster": {"worker": [A]}}), "must have a task, like .* found task None"),
])
def test_what_is_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        read_cluster(text)
