"""Every shared flag, made from the settings' fields, and the way back. The only reader of flags but the mains."""

from __future__ import annotations

from absl import flags

from cut_tf.methods import METHODS
from cut_tf.networks import GENERATORS
from cut_tf.settings import FIELDS, Settings

# Choices that come from tables of objects, which the settings do not know.
_CHOICES = {"method": tuple(METHODS), "generator": tuple(GENERATORS)}


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag per setting, with the field's default and help text."""
    for name, field in FIELDS.items():
        choices = _CHOICES.get(name, field.metadata["choices"])
        help_text = field.metadata["help"]
        if choices:
            flags.DEFINE_enum(name, field.default, choices, help_text, flag_values=flag_values)
        elif isinstance(field.default, bool):
            flags.DEFINE_bool(name, field.default, help_text, flag_values=flag_values)
        elif isinstance(field.default, int):
            flags.DEFINE_integer(name, field.default, help_text, flag_values=flag_values)
        elif isinstance(field.default, float):
            flags.DEFINE_float(name, field.default, help_text, flag_values=flag_values)
        else:
            flags.DEFINE_string(name, field.default, help_text, flag_values=flag_values)


def settings_from(flag_values: flags.FlagValues = flags.FLAGS) -> Settings:
    """The settings that the flags say. Raises InputError for bad values and combinations."""
    return Settings.of(**{name: flag_values[name].value for name in FIELDS})
