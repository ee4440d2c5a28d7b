"""TF_CONFIG: the processes of a training cluster, and which of them this one is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from cut_tf.common.errors import InputError

# Jobs that train, in the order in which TensorFlow numbers their tasks.
_TRAINING_JOBS = ("chief", "worker")
_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^:\s\[\]/]+):(\d{1,5})")
_OTHER_JOBS = {
    "ps": "parameter servers, which cut_tf does not use: all processes hold all weights",
    "evaluator": "an evaluator, which cut_tf does not use: the chief evaluates. To evaluate beside a run, start "
                 "cut_tf.translate and cut_tf.evaluate on its folder",
}


class Cluster(NamedTuple):
    """The processes that train together, in TensorFlow's order: the chief if there is one, then the workers."""

    # host:port of every process.
    addresses: tuple[str, ...]
    # The place of this process among them. The first one is the chief, whatever its job is called.
    index: int
    # Their names, from TF_CONFIG: `chief`, `worker 0`, `worker 1` and so on.
    names: tuple[str, ...]


def read_cluster(text: str) -> Cluster | None:
    """The cluster that TF_CONFIG describes; None if it is empty or names no cluster.

    Args:
      text: value of the environment variable TF_CONFIG.

    Raises:
      InputError: naming the part that is wrong.
    """
    if not text.strip():
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _refusal(f"be JSON like {_EXAMPLE}", f"{text!r} ({error})") from error
    if not isinstance(config, dict):
        raise _refusal(f"be like {_EXAMPLE}", repr(text))
    jobs = config.get("cluster") or {}
    if not jobs:
        if not isinstance(config.get("task", {}), Mapping):
            raise _refusal(f"be like {_EXAMPLE}", repr(text))
        return None
    _check_jobs(jobs)
    kind, index = _task(config.get("task"), jobs)
    tasks = [(job, number) for job in _TRAINING_JOBS for number in range(len(jobs.get(job, ())))]
    return Cluster(tuple(jobs[job][number] for job, number in tasks), tasks.index((kind, index)),
                   tuple(job if job == "chief" else f"{job} {number}" for job, number in tasks))


def _refusal(rule: str, found: str) -> InputError:
    return InputError(f"TF_CONFIG must {rule}, found {found}")


def _check_jobs(jobs: object) -> None:
    """Raises InputError unless `jobs` is {"chief": [address], "worker": [address, ...]} or a part of that."""
    if not isinstance(jobs, Mapping):
        raise _refusal(f"be like {_EXAMPLE}", f"cluster {jobs!r}")
    for job, addresses in jobs.items():
        if job not in _TRAINING_JOBS:
            raise _refusal('name only the jobs "chief" and "worker" in its cluster',
                           _OTHER_JOBS.get(job, f"the job {job!r}"))
        if not isinstance(addresses, list) or not addresses:
            raise _refusal(f'list the addresses of "{job}"', repr(addresses))
        for address in addresses:
            match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
            if not match or not 0 < int(match[1]) < 2**16:
                raise _refusal("give addresses as host:port", f"{address!r}")
    if len(jobs.get("chief", ())) > 1:
        raise _refusal("name one chief", f"{len(jobs['chief'])}")
    everyone = [address for addresses in jobs.values() for address in addresses]
    repeated = sorted({address for address in everyone if everyone.count(address) > 1})
    if repeated:
        raise _refusal("give every process an address of its own", f"{repeated[0]} more than once")


def _task(task: object, jobs: Mapping[str, list[str]]) -> tuple[str, int]:
    """(job, index) of this process."""
    if not isinstance(task, Mapping):
        raise _refusal(f"have a task, like {_EXAMPLE}", f"task {task!r}")
    kind, index = task.get("type"), task.get("index")
    if kind in _OTHER_JOBS:
        raise _refusal('have a task of type "chief" or "worker"', _OTHER_JOBS[kind])
    if kind not in jobs:
        raise _refusal(f"have a task whose type is a job of its cluster ({', '.join(jobs)})", f"{kind!r}")
    if isinstance(index, str) and index.isascii() and index.isdigit():
        index = int(index)  # as some launchers write it
    if type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise _refusal(f"have a task index from 0 to {len(jobs[kind]) - 1} for {kind}", f"{index!r}")
    return kind, index
