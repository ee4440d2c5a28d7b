"""Names by which Keras finds the generators of .keras files. A generator is imported when one of it is loaded."""

from __future__ import annotations

from typing import Any

from cut_tf.common.registry import Row
from cut_tf.networks import GENERATORS

# Keras writes a class as PACKAGE>NAME.
PACKAGE = "cut_tf"


class LateGenerator:
    """Stands for a generator that is not imported yet. Keras calls `from_config` and nothing else."""

    row: Row

    @classmethod
    def from_config(cls, config: dict[str, Any], **keywords: Any) -> Any:
        """The generator itself, an object of the row's class."""
        return cls.row.load().from_config(config, **keywords)


def register_generators() -> None:
    """Names every generator of the table to Keras. One that is imported later takes its own name over."""
    import keras  # here, so that naming PACKAGE does not wait for it

    known = keras.saving.get_custom_objects()
    for row in GENERATORS.values():
        name = row.home.partition(":")[2]
        known.setdefault(f"{PACKAGE}>{name}", type(name, (LateGenerator,), {"row": row}))
