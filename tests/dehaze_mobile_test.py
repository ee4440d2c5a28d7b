"""The model in the box: complete, small, and it removes haze."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.data import open_dataset
from cut_tf.metrics.temporal import noise_gain
from cut_tf.settings import Settings
from cut_tf.translators.exported import SavedModelTranslator, TFLiteTranslator, newest_version
from cut_tf.translators.shipped import MOST_TWIN_PIXELS, fast_twin

BOX = Path(__file__).parents[1] / "saved_models" / "dehaze_mobile"
_SCENES = 8
_NOISE_LEVELS = 2.0
_MOST_NOISE_GAIN = 1.3


@pytest.fixture(scope="module")
def scenes():
    """Hazy test scenes, which no training has seen, and the clear ones: uint8 [256, 256, 3] each."""
    data = open_dataset(Settings.of(dataset="scenes", preprocess="none", scenes_size_px=256))
    return [(data.test_source.load(index), data.test_target.load(index)) for index in range(_SCENES)]


def _gains_db(translate, scenes) -> np.ndarray:
    """PSNR of the output minus that of the input, by scikit-image."""
    return np.array([peak_signal_noise_ratio(clear, translate(hazy)) - peak_signal_noise_ratio(clear, hazy)
                     for hazy, clear in scenes])


def test_box_is_complete_and_small():
    files = [path for path in BOX.rglob("*") if path.is_file()]
    names = {path.relative_to(BOX).as_posix() for path in files}
    assert {"1/saved_model.pb", "2/saved_model.pb", "MODEL_CARD.md", "dehaze_mobile_256x256_float16.tflite",
            "dehaze_mobile_256x256_int8.tflite"} <= names
    assert sum(path.stat().st_size for path in files) <= 10e6
    assert max(path.stat().st_size for path in files if path.suffix == ".tflite") <= 0.8e6
    assert (BOX / "dehaze_mobile_256x256_float16.tflite").stat().st_size <= 1.5e6
    assert (BOX / "dehaze_mobile_256x256_int8.tflite").stat().st_size <= 0.5e6


def test_card_tells_what_a_card_must():
    card = (BOX / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("Made by", "Data", "Measured", "Failures", "Licence"):
        assert f"\n## {heading}\n" in card
    assert "python -m cut_tf.train --flagfile=dehaze_mobile" in card and "at commit " in card


@pytest.mark.parametrize("version", ["1", "2"])
def test_warm_up_requests_ask_every_signature_and_are_answered(version):
    """What TF Serving replays when it loads the version."""
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2",
                                             reason="the extra serving (tensorflow-serving-api) is not installed")
    signatures = tf.saved_model.load(str(BOX / version)).signatures
    asked, path = {}, BOX / version / "assets.extra/tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        asked[request.model_spec.signature_name] = signatures[request.model_spec.signature_name](**inputs)
    assert set(asked) == set(signatures) and "with_strength" in asked
    assert asked["image_float"]["image"].shape[1:] == [256, 256, 3]


@pytest.mark.parametrize("version", ["1", "2"])
def test_saved_model_removes_haze(version, scenes):
    gains = _gains_db(SavedModelTranslator(BOX / version), scenes)
    assert gains.mean() >= 3.0, gains


def test_the_newest_version_leaves_clear_pictures_alone_and_clears_rooms(scenes):
    """What the first version did not: it made clear pictures darker, and rooms hardly better."""
    translate = SavedModelTranslator(BOX)
    assert np.mean([peak_signal_noise_ratio(clear, translate(clear)) for _, clear in scenes]) >= 26.0
    rooms = open_dataset(Settings.of(dataset="rooms", preprocess="none", scenes_size_px=256))
    pairs = [(rooms.test_source.load(index), rooms.test_target.load(index)) for index in range(4)]
    assert _gains_db(translate, pairs).mean() >= 4.0


@pytest.mark.parametrize("form, least_db", [("float16", 60), ("int8", 35), ("dynamic", 45)])
def test_twins_draw_the_same_pictures_and_do_not_flicker(scenes, form, least_db):
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    twin = TFLiteTranslator(BOX / f"dehaze_mobile_256x256_{form}.tflite")
    original = tf.saved_model.load(str(newest_version(BOX, "BOX"))).signatures["image_float"]
    pictures = np.stack([hazy for hazy, _ in scenes]).astype(np.float32) / 127.5 - 1.0
    found = np.concatenate([twin.translate_floats(picture[None]) for picture in pictures])
    expected = original(image=tf.constant(pictures))["image"].numpy()
    assert peak_signal_noise_ratio(expected, found, data_range=2.0) >= least_db
    assert _gains_db(twin, scenes).mean() >= 3.0
    gain = np.mean([noise_gain(twin, hazy, _NOISE_LEVELS) for hazy, _ in scenes])
    assert gain <= _MOST_NOISE_GAIN, gain


@pytest.mark.parametrize("height, width", [(16, 16), (17, 16), (16, 203), (101, 64), (231, 330), (1448, 1447)])
def test_the_file_that_stands_in_draws_the_same_within_a_level(height, width):
    """On noise, on blocks of pure colours, which are the hardest, and on a smooth picture; up to the largest size."""
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    twin, saved_model = TFLiteTranslator(fast_twin("dehaze_mobile"), resize=False), SavedModelTranslator(BOX)
    assert height * width <= MOST_TWIN_PIXELS
    random = np.random.default_rng(height)
    noise = random.integers(0, 256, [height, width, 3], np.uint8)
    blocks = 255 * random.integers(0, 2, [height // 8 + 1, width // 8 + 1, 3], np.uint8)
    blocks = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    smooth = np.asarray(Image.fromarray(noise[:6, :6]).resize((width, height), Image.Resampling.BICUBIC))
    for picture in [noise, blocks, smooth] if height < 1000 else [noise]:
        assert np.abs(twin(picture).astype(int) - saved_model(picture)).max() <= 1
