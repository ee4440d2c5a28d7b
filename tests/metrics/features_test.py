"""Feature extractors: resizing against Pillow, features against NumPy, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cut_tf import compat
from cut_tf.checkpoints import CheckpointStore, write_settings
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import write_png
from cut_tf.metrics import features as feature_extractors
from cut_tf.metrics.features import FeatureExtractor, feature_extractor
from cut_tf.networks import build_generator


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _means(levels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(levels, axis=[1, 2])


def _all(extractor: FeatureExtractor, pictures: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(extractor.batches(pictures)))


@pytest.mark.parametrize("size", [(90, 70), (12, 25), (64, 31), (32, 48)])
def test_resizing_is_pillows_bicubic_with_antialias_on_floats(size):
    """As in clean-fid, whose resizing is Pillow's on single channels of 32-bit floats."""
    extractor = FeatureExtractor("means", "pixels", _means, (32, 48), "")
    picture = _picture(*size)
    channels = [np.asarray(Image.fromarray(picture[..., c].astype(np.float32)).resize((48, 32), Image.BICUBIC))
                for c in range(3)]
    expected = np.clip(np.stack(channels, axis=-1), 0, 255)
    found = extractor.prepare(picture)
    assert found.dtype == np.float32 and (found % 1 != 0).any() == (size != (32, 48))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_batches_of_pictures_of_any_sizes():
    sizes = []

    def network(levels):
        sizes.append(tuple(levels.shape[:3]))
        return _means(levels)

    pictures = [_picture(8 + index, 9, index) for index in range(5)]
    extractor = FeatureExtractor("means", "pixels", network, (8, 9), "", batch=2)
    assert [len(batch) for batch in extractor.batches(iter(pictures))] == [2, 2, 1]
    assert sizes == [(1, 8, 9), (2, 8, 9), (2, 8, 9), (1, 8, 9)]  # the first is a trial
    own_size = FeatureExtractor("means", "pixels", _means, None, "")
    np.testing.assert_allclose(_all(own_size, pictures), [picture.mean(axis=(0, 1)) for picture in pictures],
                               rtol=1e-5)
    assert (own_size.dimension, own_size.description["resize"]) == (3, "none, each picture at its own size")
    assert extractor.description["resize"] == "bicubic with antialias (tf.image.resize, floats) to 9x8"
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\], got float64"):
        extractor.prepare(pictures[0] / 255)


def test_features_must_be_finite_vectors():
    with pytest.raises(InputError, match=r"bad must give finite features, one vector .* with 3 not finite"):
        FeatureExtractor("bad", "", lambda levels: _means(levels) / 0.0 * 0.0, (8, 8), "")
    with pytest.raises(InputError, match=r"bad must give finite features, .* found \[1, 8, 8, 3\]"):
        FeatureExtractor("bad", "", lambda levels: levels, (8, 8), "")


def test_random_features_are_those_of_numpy():
    extractor = feature_extractor("random")
    assert extractor.dimension == 16 + 32 + 64
    pictures = [_picture(64, 64, seed) for seed in range(2)]
    hidden, rng, means = np.stack(pictures) / 127.5 - 1, np.random.RandomState(0), []
    for channels in (16, 32, 64):
        depth = hidden.shape[-1]
        kernel = rng.standard_normal((3, 3, depth, channels)) * np.sqrt(2 / (9 * depth))
        windows = np.lib.stride_tricks.sliding_window_view(hidden, (3, 3), axis=(1, 2))[:, ::2, ::2]
        hidden = np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, kernel), 0)
        means.append(hidden.mean(axis=(1, 2)))
    np.testing.assert_allclose(_all(extractor, pictures), np.concatenate(means, axis=1), rtol=1e-4, atol=1e-5)
    assert feature_extractor("random").description == extractor.description


class _Features(tf.Module):
    """Means of the pictures' values times a weight, as a map of 1x2 places or as vectors."""

    def __init__(self, weight: float, dtype: tf.DType, shape: list, as_map: bool) -> None:
        super().__init__()
        self.weight = tf.Variable(weight)

        def features(pictures):
            means = tf.reduce_mean(tf.cast(pictures, tf.float32), axis=[1, 2]) * self.weight
            return {"out": tf.stack([means, 3 * means], axis=1)[:, None] if as_map else 2 * means}

        self.features = tf.function(features, input_signature=[tf.TensorSpec(shape, dtype, "pictures")])


@pytest.mark.parametrize("dtype, shape, as_map, signature", [
    (tf.uint8, [None, 20, 24, 3], True, "serving_default"), (tf.float32, [1, None, None, 3], False, "features")])
def test_saved_models(tmp_path, dtype, shape, as_map, signature):
    for version, weight in enumerate((1.0, 1.5)):
        module = _Features(weight, dtype, shape, as_map)
        tf.saved_model.save(module, str(tmp_path / f"{version}"), signatures={signature: module.features})
    pictures = [_picture(20, 24, seed) for seed in range(3)]
    means = np.stack([picture.mean(axis=(0, 1)) for picture in pictures])
    expected = 2 * 1.5 * (means if dtype == tf.uint8 else means / 127.5 - 1)
    newest, first = feature_extractor(str(tmp_path)), feature_extractor(str(tmp_path / "0"))
    np.testing.assert_allclose(_all(newest, pictures), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(_all(first, pictures), expected / 1.5, rtol=1e-4, atol=1e-4)
    assert newest.description["layer"] == f"{signature}/out" and newest.dimension == 3
    assert newest.description["weights"] != first.description["weights"]
    shutil.copytree(tmp_path / "0", tmp_path / "copy")
    assert feature_extractor(str(tmp_path / "copy")).description == first.description


def test_saved_models_of_another_kind_are_refused(tmp_path):
    module = _Features(1.0, tf.float32, [16, 20, 24, 3], False)
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"features": module.features})
    with pytest.raises(InputError, match=r"signature features must take one batch of pictures .* found .*\(16, 20, 24"):
        feature_extractor(str(tmp_path))
    tf.saved_model.save(module, str(tmp_path / "2"), signatures={"other": module.features})
    with pytest.raises(InputError, match=r"must have the signature features or serving_default, found \['other'\]"):
        feature_extractor(str(tmp_path))
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="--feature_extractor=.*3 cannot be loaded"):
        feature_extractor(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="--feature_extractor must be the folder of a SavedModel, .* found none in"):
        feature_extractor(str(tmp_path / "empty"))


def test_the_encoder_of_a_run(tmp_path, tiny_settings):
    settings = tiny_settings(crop_size_px=32)
    generator = build_generator(settings, seed=1)
    weights = {f"ema_generator/{name}": weight for name, weight in compat.named_weights(generator).items()}
    CheckpointStore(tmp_path, 1).save(weights, 7, settings)
    write_settings(tmp_path, settings)
    extractor = feature_extractor(f"run:{tmp_path}")
    pictures = [_picture(32, 32, seed) for seed in range(2)]
    hidden = generator.encode(np.stack(pictures) / np.float32(127.5) - 1, [12])[0].numpy()
    expected = np.concatenate([hidden.mean(axis=(1, 2)), hidden.std(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(_all(extractor, pictures), expected, rtol=1e-3, atol=1e-4)
    assert extractor.description["extractor"] == "encoder of a run of cut, step 7"
    assert extractor.description["resize"].endswith("to 32x32")
    with pytest.raises(InputError, match=r"--feature_extractor=run:.*nowhere: .* found no settings.json in"):
        feature_extractor(f"run:{tmp_path / 'nowhere'}")


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def offline(name, url, **_):
        assert url == feature_extractors.INCEPTION_URL and url.endswith(f"/{name}")
        raise Exception("URL fetch failure: no route to host")  # as Keras does

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(InputError) as caught:
        feature_extractor("inception")
    for phrase in ("inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", str(tmp_path / "models"),
                   "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/", "no route to host",
                   "--inception_weights=FILE", "--feature_extractor=random"):
        assert phrase in str(caught.value), phrase
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name, content, found", [
    ("a.h5", b"\x80\x04pickle", r"begins with b'\\x80\\x04pickle'"), ("a.keras", b"\x89HDF\r\n\x1a\n", "begins with"),
    ("missing.h5", None, "no file")])
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, content, found):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"--inception_weights.*{found}"):
        feature_extractor("inception", str(tmp_path / name))


def test_flags_that_do_not_go_together_and_unknown_names(tmp_path):
    with pytest.raises(InputError, match="--inception_weights must be empty unless --feature_extractor=inception"):
        feature_extractor("random", "a.h5")
    write_png(tmp_path / "a.png", _picture(3, 3))
    for spec in ("inceptionv4", str(tmp_path / "a.png")):
        with pytest.raises(InputError, match=f"--feature_extractor must be inception, random, run:DIR or .*'{spec}'"):
            feature_extractor(spec)


def _write_h5(path: Path, model: keras.Model) -> None:
    """Weights in the format of the published file, which Keras 3 reads but does not write."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in model.layers:
            group, names = file.create_group(layer.name), [f"w{index}" for index in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights):
                group[name] = weight.numpy()


@pytest.mark.slow
def test_inception_from_a_file_of_weights(tmp_path):
    model = feature_extractors.inception_network()
    _write_h5(tmp_path / "untrained.h5", model)
    extractor = feature_extractor("inception", str(tmp_path / "untrained.h5"))
    assert extractor.dimension == 2048 and extractor.description["resize"].endswith("to 299x299")
    picture = _picture(299, 299)
    np.testing.assert_allclose(_all(extractor, [picture]), model(picture[None] / np.float32(127.5) - 1, training=False),
                               rtol=1e-3, atol=1e-5)
    _write_h5(tmp_path / "other.h5", keras.Sequential([keras.layers.InputLayer([4]), keras.layers.Dense(2)]))
    with pytest.raises(InputError, match="--inception_weights: .*other.h5 must be an .h5 file of weights of"):
        feature_extractor("inception", str(tmp_path / "other.h5"))
