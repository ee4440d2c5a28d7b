"""Pictures by the million: what --input names, a plan of work that survives its processes, Apache Beam pipelines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cut_tf.common.errors import InputError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# How results are written.
FORMATS = {"files": "a picture each", "tfrecord": "TFRecord files of tf.train.Example",
           "tar": "tar files of WebDataset"}


def beam_options(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options, as `beam.pipeline_options`. Raises InputError as it does, and if Beam is not installed."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # warns of every cloud whose extra is not installed
    try:
        from cut_tf.batch import beam
    except ImportError as error:
        raise InputError(f"--runner needs Apache Beam: pip install 'cut_tf[beam]' ({error})") from error
    return beam.pipeline_options(runner, arguments)
