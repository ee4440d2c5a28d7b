"""`--dataset=single:SOURCE_FILE,TARGET_FILE`: one picture per domain, for SinCUT (CUT, ECCV 2020, section 4.4).

With --preprocess=zoom_and_crop the picture is reduced by a random factor for every crop. Both pictures are decoded
once, unless --cache_mb is too small for them.
"""

from __future__ import annotations

from pathlib import Path

from cut_tf.common.errors import InputError
from cut_tf.data.domain import TranslationData
from cut_tf.data.kinds.folders import FolderDomain, check_headers
from cut_tf.settings import Settings


def open_single(settings: Settings) -> TranslationData:
    """Two domains of one picture each; the test split is both pictures, unpaired.

    Raises:
      InputError: if there are not two files, or one is no readable picture or too small.
    """
    paths = [Path(part) for part in settings.data.dataset.split(":", 1)[1].split(",")]
    missing = [str(path) for path in paths if not path.is_file()]
    if len(paths) != 2 or missing:
        raise InputError("--dataset must be single:SOURCE_FILE,TARGET_FILE with one picture each, found "
                         + (f"no file {missing[0]!r} in " if missing and len(paths) == 2 else "")
                         + repr(settings.data.dataset))
    for path in paths:
        check_headers(path.parent, [path], settings.data)
    source, target = (FolderDomain([path]) for path in paths)
    return TranslationData(source, target, source, target, False, f"single pictures: {paths[0]} to {paths[1]}")
