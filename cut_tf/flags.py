"""Every shared flag, made from the settings' fields, and the way back. The only reader of flags but the mains."""

from __future__ import annotations

import dataclasses

from absl import flags

from cut_tf.methods import METHODS
from cut_tf.networks import GENERATORS
from cut_tf.settings import SECTIONS, Settings

# Choices that come from tables of objects, which the settings do not know.
_CHOICES = {"method": tuple(METHODS), "generator": tuple(GENERATORS)}


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per setting, with the field's default and help text."""
    for section in SECTIONS:
        for field in dataclasses.fields(section.type_):
            choices = _CHOICES.get(field.name, field.metadata["choices"])
            help_text = field.metadata["help"]
            if choices:
                flags.DEFINE_enum(field.name, field.default, choices, help_text, flag_values=flag_values)
            elif isinstance(field.default, bool):
                flags.DEFINE_bool(field.name, field.default, help_text, flag_values=flag_values)
            elif isinstance(field.default, int):
                flags.DEFINE_integer(field.name, field.default, help_text, flag_values=flag_values)
            elif isinstance(field.default, float):
                flags.DEFINE_float(field.name, field.default, help_text, flag_values=flag_values)
            else:
                flags.DEFINE_string(field.name, field.default, help_text, flag_values=flag_values)


def settings_from(flag_values: flags.FlagValues = flags.FLAGS) -> Settings:
    """The settings that the flags say. Raises InputError for bad values and combinations."""
    return Settings(**{
        section.name: section.type_(**{field.name: flag_values[field.name].value
                                       for field in dataclasses.fields(section.type_)})
        for section in SECTIONS})
