"""Runs commands in forks of one process that has imported TensorFlow already.

A command gets a process, a working directory and flags of its own, as from the shell, and only the import of
TensorFlow is not done again: 4 seconds each.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_PRELOADED = ["numpy", "PIL.Image", "absl.flags", "tensorflow", "keras", "cut_tf.compat"]
_LONGEST_SEC = 600


class Ended(NamedTuple):
    """A command that has ended, as `subprocess.run` would return it."""

    returncode: int
    stdout: str
    stderr: str


def run(command: Sequence[str], folder: Path, only_parse: bool = False) -> Ended:
    """Runs `-m MODULE ARGUMENTS` or `-c CODE` in `folder`.

    Args:
      command: what would stand behind `python`.
      folder: the working directory.
      only_parse: stop where `main` would be called, with the flags parsed and, for training, checked as settings.
    """
    with tempfile.TemporaryDirectory() as written:
        outputs = [Path(written, name) for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_run, args=(list(command), folder, outputs, only_parse))
        process.start()
        process.join(_LONGEST_SEC)
        if process.is_alive():
            process.kill()
            process.join()
        texts = [output.read_text(encoding="utf-8", errors="replace") if output.exists() else "" for output in outputs]
    return Ended(process.exitcode, *texts)


def _forks() -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


_FORKS = _forks()


def _run(command: list[str], folder: Path, outputs: list[Path], only_parse: bool) -> None:
    """Makes this process that of the command. Ends with its exit code."""
    os.chdir(folder)
    for number, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.path.insert(0, str(folder))
    if only_parse:
        _stop_before_main()
    kind, what, *arguments = command
    sys.argv = [what if kind == "-m" else kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<command>", "exec"), {"__name__": "__main__"})


def _stop_before_main() -> None:
    """Makes `app.run` parse the flags, make the settings of a training run from them, and exit."""
    from absl import app, flags as absl_flags

    def parse(main: object, argv: list[str], flags_parser: Callable[[list[str]], object] = absl_flags.FLAGS) -> None:
        del main
        flags_parser(argv)
        if "dry_run" in absl_flags.FLAGS:
            from cut_tf import flags

            flags.settings_from()
        sys.exit(0)

    app.run = parse
