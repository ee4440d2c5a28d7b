"""Makes the shared flags from the settings' fields, and settings from the flags. Besides it only mains read flags."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from absl import flags

from cut_tf.command_line import choices_help
from cut_tf.common.errors import InputError
from cut_tf.common.registry import Row
from cut_tf.data import DATASETS, kinds_of
from cut_tf.methods import METHODS, USED_BY_ALL
from cut_tf.metrics import DISTANCES, IN_TRAINING
from cut_tf.networks import DISCRIMINATORS, GENERATORS
from cut_tf.settings import FIELDS, OWNERS, SECTIONS, Settings, names_in

# Settings whose value is a name in a table of code, which the settings do not know.
_TABLES: dict[str, Mapping[str, Row]] = {
    "method": METHODS, "generator": GENERATORS, "discriminator": DISCRIMINATORS, "best_metric": IN_TRAINING,
    "distribution_metric": {"none": Row("", "none is measured"), **DISTANCES}}
# Flags by which a person chooses what is used. Given after a flagfile, they leave some of its flags without a reader.
_CHOOSING = ("method", "generator", "discriminator", "dataset", "init_from")
_WIDTH = 118


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per setting, with the field's default and help text."""
    kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for name, field in FIELDS.items():
        choices = choices_of(name)
        help_text = _help_of(name)
        if choices:
            flags.DEFINE_enum(name, field.default, choices, help_text, flag_values=flag_values)
        else:
            kinds[field.metadata["kind"]](name, field.default, help_text, flag_values=flag_values)


def choices_of(name: str) -> tuple[str, ...]:
    """The values that the setting `name` may have, () if it is not one of a few names."""
    return tuple(_TABLES.get(name, FIELDS[name].metadata["choices"]))


def _help_of(name: str) -> str:
    text = FIELDS[name].metadata["help"]
    if name == "dataset":
        return choices_help(text, {row.form: row.title for row in DATASETS.values()})
    if name in _TABLES:
        return choices_help(text, {key: row.title for key, row in _TABLES[name].items()})
    return text


def settings_from(flag_values: flags.FlagValues = flags.FLAGS) -> Settings:
    """The settings that the flags give. Raises InputError for bad values and combinations."""
    return Settings.of(**{name: flag_values[name].value for name in FIELDS})


def with_networks_of(settings: Settings, other: Settings, networks: Collection[str], typed: Iterable[str],
                     where: str) -> tuple[Settings, list[str]]:
    """The settings of a training that begins with the networks of another run.

    Args:
      settings: as the flags say them.
      other: those of the other run.
      networks: names of the networks that it has: generator, discriminator, projector.
      typed: names of the flags that were given on the command line itself; those of a flagfile give way.
      where: the other run, for messages.

    Returns:
      The settings with those of the networks that both have, and a line "--name=value" for each that changed.

    Raises:
      InputError: if a typed flag says otherwise than the other run, unless its weights serve both (`same_weights`).
    """
    uses, read = ["generator", *GENERATORS[other.generator.generator].uses], METHODS[settings.train.method].uses
    if "discriminator" in networks and "discriminator" in read:
        uses += ["discriminator", *DISCRIMINATORS[other.discriminator.discriminator].uses]
    if "projector" in networks and "projector.*" in read:
        uses += ["projector.*", "nce_layers"]
    ours, theirs, typed = settings.flat(), other.flat(), set(typed)
    kept = {name for name in names_in(uses) if FIELDS[name].metadata["free"]
            or name in typed and FIELDS[name].metadata["same_weights"]}
    changes = {name: theirs[name] for name in names_in(uses) if name not in kept and ours[name] != theirs[name]}
    refused = [name for name in changes if name in typed]
    if refused:
        raise InputError(f"--{refused[0]} must be left out, or {theirs[refused[0]]!r} as in --init_from={where}, found "
                         f"{ours[refused[0]]!r}")
    return settings.having(**changes), [f"--{name}={value}" for name, value in changes.items()]


# ---- which settings a run reads -----------------------------------------------------------------------------------


def used_settings(settings: Settings) -> dict[str, str]:
    """The settings that a run's method, generator, discriminator and dataset read.

    Returns:
      Name of each setting to the name of its section.
    """
    uses = [*USED_BY_ALL, *METHODS[settings.train.method].uses, *GENERATORS[settings.generator.generator].uses]
    if "discriminator" in uses:
        uses += DISCRIMINATORS[settings.discriminator.discriminator].uses
    for kind in kinds_of(settings.data.dataset):
        uses += DATASETS[kind].uses
    return dict(names_in(uses))


def changed_lines(settings: Settings) -> list[str]:
    """The settings that a run reads and that differ from the defaults, as lines "section: --name=value ..."."""
    used, changed = used_settings(settings), settings.changed()
    lines = []
    for section in SECTIONS:
        own = [f"--{name}={changed[name]}" for name, owner in used.items() if owner == section and name in changed]
        if own:
            lines += textwrap.wrap(f"{section}: {' '.join(own)}", _WIDTH, subsequent_indent="  ",
                                   break_on_hyphens=False, break_long_words=False)
    return lines


def check_used(settings: Settings, typed: Iterable[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Looks for flags that the run would never read.

    Args:
      settings: of the run.
      typed: names of the settings that were given on the command line itself.
      flag_values: parsed flags, those of flagfiles too.

    Returns:
      Names of flags of a flagfile that nothing reads, because the command line chose another method, network or
      dataset than the flagfile.

    Raises:
      InputError: for any other such flag. It names the methods, networks or datasets that read it.
    """
    used, typed = used_settings(settings), set(typed)
    unread = [name for name in FIELDS if flag_values[name].present and name not in used]
    refused = unread if typed.isdisjoint(_CHOOSING) else [name for name in unread if name in typed]
    if refused:
        name = refused[0]
        readers = _readers(name, METHODS[settings.train.method].uses)
        chosen = " ".join(f"--{flag}={settings.flat()[flag]}" for flag in readers)
        raise InputError(f"--{name} must be left out unless {' or '.join(sum(readers.values(), []))}, found "
                         f"{flag_values[name].value!r} with {chosen}, which does not read it")
    return unread


def _readers(name: str, method_uses: Sequence[str]) -> dict[str, list[str]]:
    """Who reads a setting: "method" to ["--method=odcr", ...], and the same for generator, discriminator, dataset."""
    readers: dict[str, list[str]] = {}
    tables = {"method": METHODS, "generator": GENERATORS, "discriminator": DISCRIMINATORS,
              "dataset": {row.form: row for row in DATASETS.values()}}
    if "discriminator" not in method_uses:
        del tables["discriminator"]
    for flag, table in tables.items():
        found = [f"--{flag}={key}" for key, row in table.items() if name in names_in(row.uses)]
        if found:
            readers[flag] = found
    # Nothing found: a discriminator reads it, but the method has no discriminator.
    return readers or _readers("discriminator", ("discriminator",))


# ---- help ---------------------------------------------------------------------------------------------------------


def help_lines() -> Iterator[str]:
    """The flags that are set most often, by section, with their defaults."""
    often = [name for name, field in FIELDS.items() if field.metadata["often"]]
    yield f"Flags that are set most often; --helpfull lists all {len(FIELDS)}:"
    for section, type_ in SECTIONS.items():
        own = [name for name in often if OWNERS[name] == section]
        if own:
            yield ""
            yield type_.__doc__.splitlines()[0]
        for name in own:
            yield from _flag_lines(name)


def _flag_lines(name: str) -> Sequence[str]:
    default = FIELDS[name].default
    shown = f"--[no]{name}" if isinstance(default, bool) else f"--{name}={default}"
    return textwrap.wrap(f"{shown}  {_help_of(name)}", _WIDTH, initial_indent="  ", subsequent_indent="      ",
                         break_on_hyphens=False)
