"""What all commands share: `--version`, `--help`, flagfiles found by name inside the package, the entry point.

A command's own file imports what is light and defines its flags. What needs TensorFlow it imports inside its functions,
after `start_tensorflow`, so that `--help` and errors in flags are answered at once.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import app, flags, logging as absl_logging

import cut_tf
from cut_tf.common.errors import InputError

_FLAGFILES = Path(__file__).parent / "flagfiles"
_SUFFIX = ".flags"
_LEVEL_WAS_SET = "TF_CPP_MIN_LOG_LEVEL" in os.environ
# TensorFlow reads it when it is first imported. At 2 it prints errors alone, and no remarks about its own start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# `run` looks for it before flags are parsed, so that commands with required flags answer too. Defined here for --help.
flags.DEFINE_bool("version", False, "print the version and stop")


def run(main: Callable[[list[str]], int], help_lines: Callable[[], Iterable[str]] | None = None,
        unknown_flags: Sequence[str] = ()) -> None:
    """Answers `--version` and `--help`, finds the file of `--flagfile=NAME`, then runs `main`.

    Args:
      main: takes the command's name and the arguments that are no flags, returns the exit code.
      help_lines: what `--help` prints; the command's description and its flags if None.
      unknown_flags: names of flags. If one of them is given, flags that are not known are left among the arguments of
        `main`; else they are refused.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    if any(argument in ("--version", "-version") for argument in sys.argv[1:]):
        print(f"cut_tf {cut_tf.__version__}")
        sys.exit(0)
    if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in sys.argv[1:]):
        whole = "--helpfull" in sys.argv[1:] or help_lines is None
        print(*(_all_flags() if whole else help_lines()), sep="\n")
        sys.exit(0)
    try:
        arguments = with_flagfile_paths(sys.argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    _show_shared_flags_in_help()
    parser = _known_flags if typed_flags(arguments[1:]) & set(unknown_flags) else app.parse_flags_with_usage
    app.run(main, argv=arguments, flags_parser=parser)


def _known_flags(arguments: list[str]) -> list[str]:
    """Parses the flags that are known, and returns the others behind the program's name."""
    try:
        return flags.FLAGS(arguments, known_only=True)
    except flags.Error:
        return app.parse_flags_with_usage(arguments)  # says what is wrong, and ends the program


def _all_flags() -> list[str]:
    """The command's description, and every flag that it knows."""
    _show_shared_flags_in_help()
    return [(sys.modules["__main__"].__doc__ or "").strip(), "", flags.FLAGS.main_module_help()]


def _show_shared_flags_in_help() -> None:
    """Lets --help list the flags of these modules too: absl lists only those that the command's own file defines."""
    for module in ("cut_tf.flags", __name__):
        for flag in flags.FLAGS.get_key_flags_for_module(module):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def choices_help(text: str, choices: Mapping[str, str]) -> str:
    """Help of a flag that is one of a few names: "text. name: what it means; ..."."""
    return f"{text}. " + "; ".join(f"{name}: {meaning}" for name, meaning in choices.items())


def start_tensorflow() -> None:
    """Imports TensorFlow and lists the devices, without their remarks about missing GPUs and libraries.

    If TF_CPP_MIN_LOG_LEVEL is set, the remarks are printed as usual.

    Raises:
      ImportError: or another error of this start. The remarks are printed before it.
    """
    with contextlib.nullcontext() if _LEVEL_WAS_SET else _stderr_held_back():
        import tensorflow as tf  # not at the head of the file: takes seconds

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Holds back what is written to stderr, by C++ code too, and prints it if the block fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            if failed:
                kept.seek(0)
                sys.stderr.write(kept.read().decode("utf-8", errors="replace"))


def log_to_stdout() -> None:
    """Prints this package's messages to stdout, and of TensorFlow's and absl's only warnings and errors."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    log = logging.getLogger("cut_tf")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.propagate = False


def require_values(*names: str) -> None:
    """Raises InputError for a flag whose text is empty, as that of a shell's variable that was never set."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise InputError(f"--{name} must not be empty, found {flags.FLAGS[name].value!r}")


def report_results(folder: str, failures: Sequence[str], num_failed: int) -> int:
    """Prints where the results are, and on stderr the failures. Returns the exit code: 1 if there are any, else 0."""
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"results in {folder}" + (f"; {num_failed} pictures could not be translated" if num_failed else ""))
    return 1 if failures else 0


class _NoBar:
    """Stands in for a progress bar."""

    def add(self, count: int) -> None:
        """Prints nothing."""


def progress_bar(total: int, unit: str) -> object:
    """Keras' progress bar with its estimate of the time left; call `add(1)` after each of `total` units.

    In a file or a pipe it prints one line at the end. For a single unit there is no bar, which would come too late.
    """
    if total == 1:
        return _NoBar()
    from keras.utils import Progbar  # here, since it imports TensorFlow, which takes seconds

    return Progbar(total, unit_name=unit, verbose=1 if sys.stdout.isatty() else 2)


def flagfile_names() -> list[str]:
    """Names of the flagfiles that come with the package."""
    return sorted(path.name[:-len(_SUFFIX)] for path in _FLAGFILES.glob(f"*{_SUFFIX}"))


def flagfile_titles() -> dict[str, str]:
    """Name of each flagfile of the package to its title, the first line of its head."""
    return {name: (_FLAGFILES / f"{name}{_SUFFIX}").read_text(encoding="utf-8").splitlines()[0].lstrip("# ").rstrip(".")
            for name in flagfile_names()}


def typed_flags(arguments: Sequence[str]) -> set[str]:
    """Names of the flags that stand on the command line itself, not in a flagfile; `--noflip` counts as flip."""
    names = {argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("-")}
    return names | {name[2:] for name in names if name.startswith("no")}


def with_flagfile_paths(arguments: Sequence[str]) -> list[str]:
    """The command line with the NAME of every `--flagfile=NAME` replaced by a path.

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
