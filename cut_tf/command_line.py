"""What all commands share: `--version`, flagfiles found by name inside the package, the entry point."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging as absl_logging

import cut_tf
from cut_tf.errors import InputError

_FLAGFILES = Path(__file__).parent / "flagfiles"
_SUFFIX = ".flags"
# TensorFlow reads it when it is first imported. What it tells its developers is no news to users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Looked for before flags are parsed, so that commands with required flags answer as well; defined for --help.
flags.DEFINE_bool("version", False, "print the version and stop")


def run(main: Callable[[list[str]], int]) -> None:
    """Runs `main` with the command line, after `--version` and `--flagfile=NAME` have been dealt with."""
    if any(argument in ("--version", "-version") for argument in sys.argv[1:]):
        print(f"cut_tf {cut_tf.__version__}")
        sys.exit(0)
    try:
        arguments = with_flagfile_paths(sys.argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    _show_shared_flags_in_help()
    app.run(main, argv=arguments)


def _show_shared_flags_in_help() -> None:
    """Lets --help list the flags of these modules too: absl lists only those that the command's own file defines."""
    for module in ("cut_tf.flags", __name__):
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def log_to_stdout() -> None:
    """Shows what the package has to say, and not what TensorFlow tells its developers."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    log = logging.getLogger("cut_tf")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.propagate = False


def tell_results(folder: str, failures: Sequence[str], num_failed: int) -> int:
    """Says where the results are, and on stderr what failed. Returns the exit code: 1 if there are failures, else 0."""
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"results in {folder}" + (f"; {num_failed} pictures could not be translated" if num_failed else ""))
    return 1 if failures else 0


def progress_bar(total: int, unit: str) -> object:
    """Keras' progress bar with its estimate of the time left; call `add(1)` after each of `total` units.

    Where nobody watches, in a file or a pipe, it prints one line at the end.
    """
    from keras.utils import Progbar  # imports TensorFlow, which commands like --version need not wait for

    return Progbar(total, unit_name=unit, verbose=1 if sys.stdout.isatty() else 2)


def flagfile_names() -> list[str]:
    """Names of the flagfiles that the package brings along."""
    return sorted(path.name[:-len(_SUFFIX)] for path in _FLAGFILES.glob(f"*{_SUFFIX}"))


def with_flagfile_paths(arguments: Sequence[str]) -> list[str]:
    """The command line with every `--flagfile=NAME` made a path.

    Args:
      arguments: as in sys.argv. A flagfile may be a path, or the name of one of the package's flagfiles with or
        without `.flags`; a file of that name in the working directory comes first.

    Raises:
      InputError: if it is neither.
    """
    found, next_is_flagfile = [], False
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if next_is_flagfile:
            argument, next_is_flagfile = _flagfile_path(argument), False
        elif flag in ("--flagfile", "-flagfile"):
            next_is_flagfile = not equals
            argument = f"{flag}={_flagfile_path(value)}" if equals else argument
        found.append(argument)
    return found


def _flagfile_path(value: str) -> str:
    if not value or os.path.isfile(os.path.expanduser(value)):
        return value
    name = value[:-len(_SUFFIX)] if value.endswith(_SUFFIX) else value
    if name in flagfile_names():
        return str(_FLAGFILES / f"{name}{_SUFFIX}")
    raise InputError(f"--flagfile must be a file or one of {', '.join(flagfile_names())}, found {value!r}")
