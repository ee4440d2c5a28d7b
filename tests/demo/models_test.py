"""What translates in the demo: names, loading, users at the same time, what flags name."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.demo.models import Models, given, in_the_box, offered
from cut_tf.translators.shipped import shipped_model
from tests.waiting import at_once

PICTURE = np.full([16, 20, 3], 100, np.uint8)


def _invert(picture: np.ndarray, where: str) -> np.ndarray:
    return 255 - picture


def test_a_model_is_loaded_once_and_only_when_it_is_used():
    loaded = []
    models = Models({"a": lambda: loaded.append("a") or _invert, "b": lambda: loaded.append("b") or _invert})
    assert models.names == ["a", "b"] and not loaded
    for _ in range(2):
        output, seconds = models.translate("b", PICTURE, "x.png")
        assert (output == 155).all() and seconds >= 0
    assert loaded == ["b"]


def test_a_name_that_is_not_offered_is_refused():
    with pytest.raises(InputError, match="must be one of a, found 'b'"):
        Models({"a": lambda: _invert}).translate("b", PICTURE, "x.png")


def test_what_cannot_be_loaded_is_tried_again():
    loaders = iter([None, _invert])

    def load() -> object:
        translate = next(loaders)
        if translate is None:
            raise InputError("gone")
        return translate

    models = Models({"a": load})
    with pytest.raises(InputError, match="gone"):
        models.load("a")
    assert (models.translate("a", PICTURE, "x.png")[0] == 155).all()


def test_users_at_the_same_time_get_their_own_pictures_one_after_the_other():
    inside, most = [], []

    def translate(picture: np.ndarray, where: str) -> np.ndarray:
        inside.append(where)
        most.append(len(inside))
        time.sleep(0.02)  # time for others to come in, if they are let in
        inside.remove(where)
        return picture + 1

    models = Models({"a": lambda: translate})
    models.load("a")
    outputs = at_once(lambda level: models.translate("a", np.full([16, 16, 3], level, np.uint8), str(level))[0],
                      range(8))
    assert max(most) == 1 and len(most) == 1 + 8
    assert [set(output.ravel().tolist()) for output in outputs] == [{level + 1} for level in range(8)]


@pytest.mark.parametrize("ask", ["load", "translate"])
def test_a_model_that_several_users_ask_for_first_is_loaded_once(ask):
    loaded = []

    def load() -> object:
        loaded.append("a")
        time.sleep(0.02)  # time for others to come in, if they are let in
        return _invert

    models = Models({"a": load})
    at_once(lambda _: models.load("a") if ask == "load" else models.translate("a", PICTURE, "x.png"), range(8))
    assert loaded == ["a"]


def test_names_of_what_flags_name():
    named = given(["models/zebra", "models/zebra/3", "other/zebra"], ["runs/mine"], ["phone/a.tflite", "b/a.tflite"])
    assert list(named) == ["zebra", "zebra/3", "zebra (2)", "run mine", "a.tflite", "a.tflite (2)"]


@pytest.mark.parametrize(("folders", "pattern"), [
    (([str(Path("nowhere"))], [], []), "--saved_model must be the folder of a SavedModel"),
    (([], ["nowhere"], []), "--run must be the folder of a run"),
    (([], [], ["nowhere.tflite"]), "--tflite=nowhere.tflite cannot be read")])
def test_what_flags_name_must_be_there(folders, pattern):
    if folders[2]:
        pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    with pytest.raises(InputError, match=pattern):
        offered(given(*folders), {})


def test_without_flags_and_box_there_is_nothing_to_show():
    with pytest.raises(InputError, match="one of --saved_model, --run and --tflite must say what translates"):
        offered({}, {})


def test_the_model_in_the_box_comes_first_and_draws_what_translate_draws():
    from cut_tf.translators.exported import SavedModelTranslator

    models = offered({}, in_the_box())
    box = "dehaze_mobile (in the box)"
    assert box in models.names and models.names[0].endswith(" (in the box)")
    assert models.names[-1] == "dark_channel_prior, no network"
    picture = np.random.default_rng(0).integers(0, 256, [37, 50, 3], np.uint8)
    output, _ = models.translate(box, picture, "x.png")
    np.testing.assert_array_equal(output, SavedModelTranslator(shipped_model("dehaze_mobile"))(picture))


def test_files_of_a_fixed_size_resize_and_what_flags_name_comes_before_the_box():
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    file = shipped_model("dehaze_mobile") / "dehaze_mobile_256x256_int8.tflite"
    models = offered(given([], [], [str(file)]), in_the_box())
    assert models.names[0] == file.name and models.names[1].endswith(" (in the box)")
    assert f"{file.name} (2)" in models.names
    picture = np.asarray(Image.new("RGB", (50, 37), (90, 120, 150)))
    assert models.translate(file.name, picture, "x.png")[0].shape == (37, 50, 3)
