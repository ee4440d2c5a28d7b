"""Datasets by the form of the `--dataset` flag."""

from __future__ import annotations

from cut_tf.data.folders import open_folder, open_two_folders
from cut_tf.data.haze_layouts import open_haze
from cut_tf.data.scenes import open_scenes
from cut_tf.data.source import TranslationData
from cut_tf.data.tfds_domains import open_tfds
from cut_tf.errors import InputError
from cut_tf.settings import DataSettings

DATASETS = {"scenes": open_scenes, "tfds": open_tfds, "haze": open_haze, "two_folders": open_two_folders,
            "folder": open_folder}


def open_dataset(settings: DataSettings) -> TranslationData:
    """Opens `settings.dataset`; checks folders and file headers, reads no picture.

    Raises:
      InputError: if the dataset is not there or not usable; the message says what was looked for.
    """
    name = settings.dataset
    if name == "scenes":
        kind = "scenes"
    elif name.startswith(("tfds:", "haze:")):
        kind = name.split(":")[0]
    else:
        kind = "two_folders" if "," in name else "folder"
    if settings.crop_border_px and (kind != "haze" or "," not in name):
        raise InputError(f"--crop_border_px must be 0 unless --dataset=haze:TRAIN_DIR,TEST_DIR, "
                         f"found {settings.crop_border_px} with --dataset={name}")
    return DATASETS[kind](settings)
