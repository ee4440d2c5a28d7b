"""Trains a method: python -m cut_tf.train --flagfile=FILE --run=DIR [overrides]. The same command continues a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags as absl_flags

from cut_tf import command_line, flags
from cut_tf.common.errors import InputError, LostProcessError, NonFiniteError
from cut_tf.settings import Settings
from cut_tf.training import early_signals

flags.define()
_DRY_RUN = absl_flags.DEFINE_bool("dry_run", False, "print the settings that the run would read, and stop")

# Exit code 1 is left to Python, for errors of the program itself.
_EXIT_CODES = {InputError: 2, OSError: 2, NonFiniteError: 3, LostProcessError: 4}
_NAME_WIDTH = 22


def main(argv: list[str]) -> int:
    """Exit code 0 when finished or stopped by a signal, else that of the error."""
    command_line.log_to_stdout()
    if len(sys.argv) == 1:
        print(*_first_lines(), sep="\n", file=sys.stderr)
        return 2
    with early_signals.watched():
        return _run(argv)


def _run(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        typed = command_line.typed_flags(sys.argv[1:])
        settings = _with_networks(flags.settings_from(), typed)
        unread = flags.check_used(settings, typed)
        if _DRY_RUN.value:
            print(_used_json(settings))
            return 0
        _train(settings, unread)
    except tuple(_EXIT_CODES) as error:
        print(f"error: {error}", file=sys.stderr)
        return next(code for kind, code in _EXIT_CODES.items() if isinstance(error, kind))
    return 0


def _with_networks(settings: Settings, typed: set[str]) -> Settings:
    """The settings with those of the networks of --init_from. A run that goes on has them in its own folder."""
    where = settings.train.init_from
    if not where:
        return settings
    command_line.start_tensorflow()
    from cut_tf.checkpoints import CheckpointStore, read_settings, run_and_step

    folder, step = run_and_step(where)
    own = Path(settings.train.run)
    is_run = settings.train.run and (own / "settings.json").is_file()
    if is_run and (CheckpointStore(own, keep=1, writes=False).steps() or not folder.exists()):
        networks, other = {"generator", "discriminator", "projector"}, read_settings(own)
    else:
        other = read_settings(folder, "--init_from")
        store = CheckpointStore(folder, keep=1, writes=False)
        try:
            networks = store.networks(store.find("last") if step is None else store.check(step))
        except InputError as error:
            raise InputError(f"--init_from={where}: {error}") from error
    settings, changes = flags.with_networks_of(settings, other, networks, typed, where)
    if changes:
        print(f"Networks as in {where}: {' '.join(changes)}")
    return settings


def _train(settings: Settings, unread: list[str]) -> None:
    command_line.start_tensorflow()
    from cut_tf import devices
    from cut_tf.training import trainer

    print(*devices.report(settings.devices.num_virtual_devices), sep="\n")
    print("What differs from the defaults:", *(f"  {line}" for line in flags.changed_lines(settings)), sep="\n")
    if unread:
        print(f"In the flagfile, but not read with --method={settings.train.method}: "
              + ", ".join(f"--{name}" for name in unread))
    sys.stdout.flush()
    run = trainer.Run(settings)
    print(trainer.summary(run, run.train()))


def _used_json(settings: Settings) -> str:
    """The settings that the run would read, as a JSON object of sections."""
    values, sections = settings.flat(), {}
    for name, section in flags.used_settings(settings).items():
        sections.setdefault(section, {})[name] = values[name]
    return json.dumps(sections, indent=2)


def _first_lines() -> Iterator[str]:
    """What is printed for the command without flags: what to type next."""
    yield "Trains a method. To begin with, about 2 minutes on two CPU cores:"
    yield "  python -m cut_tf.train --flagfile=quickstart --run=runs/quickstart"
    yield ""
    yield "Flagfiles; a flag behind --flagfile overrides it, and the same command continues a run:"
    for name, title in command_line.flagfile_titles().items():
        yield f"  {name:{_NAME_WIDTH}} {title}"
    yield ""
    yield "--help explains the flags."


def _help_lines() -> Iterator[str]:
    yield from _first_lines()
    yield from flags.help_lines()
    yield ""
    yield "Also: --dry_run prints the settings that the run would read, and stops; --version."


def run() -> None:
    """Console-script entry."""
    command_line.run(main, _help_lines)


if __name__ == "__main__":
    run()
