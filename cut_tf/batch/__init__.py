"""Pictures by the million: what --input names, a plan of work that survives its processes, Apache Beam pipelines."""

from __future__ import annotations

# How results are written.
FORMATS = {"files": "a picture each", "tfrecord": "TFRecord files of tf.train.Example",
           "tar": "tar files of WebDataset"}
