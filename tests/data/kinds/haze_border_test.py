"""The border of clear test pictures, where the test split is not taken as pairs."""

from __future__ import annotations

import numpy as np
import pytest

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.data.image_files import write_png
from cut_tf.settings import Settings


@pytest.mark.parametrize("border_px, fits", [(10, True), (24, True), (25, False), (1000, False)])
def test_pictures_must_be_large_enough_without_it(tmp_path, border_px, fits):
    for name in ("hazy/1_1", "clear/1"):
        (tmp_path / name).parent.mkdir()
        write_png(tmp_path / f"{name}.png", np.zeros([64, 64, 3], np.uint8))
    settings = Settings.of(dataset=f"haze:{tmp_path},{tmp_path}", test_pairs=False, crop_border_px=border_px,
                           load_size_px=36, crop_size_px=32)
    if fits:
        assert open_dataset(settings).test_target.load(0).shape == (64 - 2 * border_px, 64 - 2 * border_px, 3)
    else:
        with pytest.raises(InputError, match=rf"1.png: sides must be at least 16 px.* without {border_px} px on each "
                                             r"side \(--crop_border_px\)"):
            open_dataset(settings)
