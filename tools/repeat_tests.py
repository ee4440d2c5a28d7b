"""Runs the tests again and again on a busy machine, to find those that fail by chance.

    python -m tools.repeat_tests --output=FOLDER [--runs=20] [--busy=2] [-- PYTEST_ARGUMENTS]

Beside the tests, `--busy` programs compute without a pause. FOLDER/run_01.log and so on have the output of each run,
FOLDER/results.jsonl has a line for each. The same command continues after a stop. Exit code 0 if all runs passed, else
1, and the failed tests are named.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file

_OUTPUT = flags.DEFINE_string("output", "", "folder of the logs and of results.jsonl")
_RUNS = flags.DEFINE_integer("runs", 20, "how often to run the tests", lower_bound=1)
_BUSY = flags.DEFINE_integer("busy", 2, "programs that compute meanwhile, one per core; 0 for none", lower_bound=0)

_ROOT = Path(__file__).parents[1]
# As in the README, but quiet.
_DEFAULT = ("-q", "-n", "2", "--dist=loadfile", "-m", "not slow")
# Until its parent, whose number it is given, is gone, however that ended.
_COMPUTE = ("import os, sys\nx = 1\nwhile os.getppid() == int(sys.argv[1]):\n"
            "    for _ in range(100000):\n        x = x * 1103515245 % 2147483648 + 12345")
_KEYS = {"run", "exit_code", "summary", "failed", "sec", "busy", "arguments"}
_SUMMARY = re.compile(r"^=*\s*(\d+ (?:passed|failed|error).*?) in [\d.]+s", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?(?:\[.*?\])?)(?: - .*)?$", re.MULTILINE)


def main(argv: list[str]) -> int:
    """Exit code 0 if every run passed, 1 if not, 2 for bad flags."""
    try:
        if not _OUTPUT.value:
            raise InputError("--output must name the folder of the logs, found nothing")
        results = repeat(Path(_OUTPUT.value), _RUNS.value, _BUSY.value, argv[1:] or _DEFAULT)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = [result for result in results if result["exit_code"]]
    print(f"{len(results) - len(failed)} of {len(results)} runs passed with {_BUSY.value} busy programs beside them")
    for result in failed:
        print(f"  run {result['run']}: {', '.join(result['failed']) or 'ended with ' + str(result['exit_code'])}")
    return 1 if failed else 0


def repeat(folder: Path, runs: int, busy: int, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Runs pytest until there are `runs` results. Returns them all, those of an earlier call too.

    Args:
      folder: of logs and results.
      runs: wanted.
      busy: programs that compute meanwhile.
      arguments: of pytest.

    Raises:
      InputError: if the folder holds results of other arguments, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output={folder} cannot be created: {error}") from error
    path = folder / "results.jsonl"
    results = _read(path, arguments, busy)
    with _busy(busy):
        for run in range(len(results) + 1, runs + 1):
            results.append(_run(folder / f"run_{run:02d}.log", run, busy, arguments))
            replace_file(path, "".join(json.dumps(result) + "\n" for result in results).encode())
            result, left = results[-1], runs - run
            print(f"run {run} of {runs}: {result['summary']} in {result['sec']:.0f} s; about "
                  f"{left * sum(each['sec'] for each in results) / len(results) / 60:.0f} min left", flush=True)
    return results


def _read(path: Path, arguments: Sequence[str], busy: int) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        results = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {(tuple(result["arguments"]), result["busy"]) for result in results}
        if any(_KEYS - result.keys() for result in results):
            raise KeyError(f"each line must have {', '.join(sorted(_KEYS))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the results of this program: {error}") from error
    if found - {(tuple(arguments), busy)}:
        raise InputError("--output must be a new folder for other arguments, found results of "
                         f"{sorted(found)} in {path}")
    return results


def _run(log: Path, run: int, busy: int, arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run(command, cwd=_ROOT, stdout=file, stderr=subprocess.STDOUT).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    summary = _SUMMARY.search(text)
    return {"run": run, "exit_code": code, "summary": summary.group(1) if summary else f"exit code {code}",
            "failed": _FAILED.findall(text), "sec": time.monotonic() - start, "busy": busy,
            "arguments": list(arguments)}


@contextlib.contextmanager
def _busy(count: int) -> Iterator[list[subprocess.Popen]]:
    """Programs that compute until the end of the context."""
    command = [sys.executable, "-c", _COMPUTE, str(os.getpid())]
    programs = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ""}) for _ in range(count)]
    try:
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.wait()


if __name__ == "__main__":
    command_line.run(main)
