"""Trains a method: python -m cut_tf.train --flagfile=FILE --run=DIR [overrides]. The same command continues a run."""

from __future__ import annotations

import sys

from absl import flags as absl_flags

from cut_tf import command_line, devices, flags
from cut_tf.errors import InputError, LostProcessError, NonFiniteError
from cut_tf.training import trainer

flags.define()
_DRY_RUN = absl_flags.DEFINE_bool("dry_run", False, "print the settings and stop")

# 1 is Python's, for errors of the program.
_EXIT_CODES = {InputError: 2, NonFiniteError: 3, LostProcessError: 4}


def main(argv: list[str]) -> int:
    """Exit code 0 when finished or stopped by a signal, else that of the error."""
    command_line.log_to_stdout()
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {argv[1:]}")
        settings = flags.settings_from()
        if not _DRY_RUN.value:
            print(*devices.report(settings.devices.num_virtual_devices), sep="\n")
        print(settings.to_json(), end="", flush=True)
        if _DRY_RUN.value:
            return 0
        run = trainer.Run(settings)
        print(trainer.summary(run, run.train()))
    except tuple(_EXIT_CODES) as error:
        print(f"error: {error}", file=sys.stderr)
        return next(code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
    return 0


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
