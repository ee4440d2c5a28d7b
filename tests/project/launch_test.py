"""The launch lines of docs/scale.md: the manifest is what Kubeflow reads, the script makes a TF_CONFIG that we read."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from cut_tf.training.cluster import read_cluster
from tests.waiting import LONGEST_SEC, wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
(MANIFEST,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(SCRIPT,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
# Stands for `python`: a training that is stopped by SIGTERM, and otherwise finishes as soon as it may.
TRAINING = """#!/bin/sh
trap 'echo stopped; exit 0' TERM
echo "$@" > command
echo "$TF_CONFIG" > config
touch started
while [ ! -e may_finish ]; do sleep 0.02; done
mkdir -p checkpoints && touch checkpoints/final.json
"""


def _program(folder: Path, name: str, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(text, encoding="utf-8")
    (folder / "bin" / name).chmod(0o755)


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **variables}


def test_the_manifest_has_a_chief_and_workers_that_run_the_same():
    roles = yaml.safe_load(MANIFEST)["spec"]["tfReplicaSpecs"]
    assert {name: role["replicas"] for name, role in roles.items()} == {"Chief": 1, "Worker": 3}
    assert roles["Chief"]["template"] == roles["Worker"]["template"]
    (container,) = roles["Chief"]["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"  # where Kubeflow puts TF_CONFIG


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_container_that_is_stopped_asks_to_be_restarted(tmp_path, shell, stopped):
    _program(tmp_path, "python", TRAINING)
    chief = yaml.safe_load(MANIFEST)["spec"]["tfReplicaSpecs"]["Chief"]
    (command,) = chief["template"]["spec"]["containers"][0]["args"]
    process = subprocess.Popen([shell, "-c", command.replace("/data/runs/cut/", "")], cwd=tmp_path,
                               env=_environment(tmp_path))
    try:
        wait_until((tmp_path / "started").exists, "the training has started", process)
        if stopped:
            process.send_signal(signal.SIGTERM)
        else:
            (tmp_path / "may_finish").touch()
        assert process.wait(LONGEST_SEC) == (1 if stopped else 0)
    finally:
        (tmp_path / "may_finish").touch()
        process.kill()
        process.wait(LONGEST_SEC)
    assert "-m cut_tf.train --flagfile=cut_folder" in (tmp_path / "command").read_text()


@pytest.mark.parametrize("task", [0, 3])
def test_the_script_makes_a_cluster_of_its_nodes(tmp_path, task):
    _program(tmp_path, "python", TRAINING)
    _program(tmp_path, "scontrol", '#!/bin/sh\n[ "$1" = requeue ] && touch requeued || printf "a1\\na2\\nb1\\nb2\\n"\n')
    _program(tmp_path, "srun", '#!/bin/sh\nshift\nexec "$@"\n')
    (tmp_path / "may_finish").touch()
    subprocess.run(["bash", "-c", SCRIPT.replace("/data/runs/cut/", "")], cwd=tmp_path, check=True, timeout=60,
                   env=_environment(tmp_path, SLURM_PROCID=str(task), SLURM_JOB_NODELIST="a[1-2],b[1-2]"))
    cluster = read_cluster(json.dumps(json.loads((tmp_path / "config").read_text())))
    assert cluster.addresses == ("a1:2222", "a2:2222", "b1:2222", "b2:2222") and cluster.index == task
    assert not (tmp_path / "requeued").exists()
