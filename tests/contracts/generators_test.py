"""What every generator keeps to: walks the table `GENERATORS`, so that a new one is tested too."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat, networks
from cut_tf.common.errors import InputError
from cut_tf.common.images import MIN_SIDE_PX
from cut_tf.export.saved_model.export import ServingModule
from cut_tf.export.tflite import conversion
from cut_tf.networks import GENERATORS
from cut_tf.settings import Settings
from cut_tf.translators.exported import TFLiteTranslator

_SIZES = ((MIN_SIDE_PX, MIN_SIDE_PX), (17, 33), (40, 23))
# Stages of the official sequences have numbers below this.
_MOST_STAGES = 40
every_generator = pytest.mark.parametrize("generator", GENERATORS, indirect=True)


@pytest.fixture(scope="module", name="generator")
def _generator(request) -> keras.Model:
    """A small one, with weights that make pictures of all colours."""
    norm = "none" if request.param == "mobile" else "instance"
    settings = Settings.of(generator=request.param, generator_norm=norm, ngf=4, generator_blocks=1,
                           stylegan2_size_px=32)
    generator = networks.build_generator(settings, seed=3)
    rng = np.random.default_rng(0)
    for weight in generator.trainable_variables:
        kernel = len(weight.shape) == 4
        scale = 0.6 / np.sqrt(np.prod(weight.shape[:-1])) if kernel else 0.02
        # StyleGAN2's are drawn from N(0, 1) and scaled as they are used; AECR-Net's are as large as they must be.
        if request.param in ("resnet", "mobile", "gunet"):
            weight.assign_add(rng.standard_normal(weight.shape).astype(np.float32) * scale)
    return generator


def _pictures(height: int, width: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng([height, width]).uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


def _stages(generator: keras.Model) -> list[int]:
    stages = []
    for stage in range(_MOST_STAGES):
        try:
            generator.check_layers([stage])
        except InputError:
            continue
        stages.append(stage)
    return stages


@every_generator
def test_pictures_of_any_size_keep_it_and_their_range(generator):
    for size in _SIZES:
        output = generator(_pictures(*size, batch=2), training=False).numpy()
        assert output.shape == (2, *size, 3) and output.dtype == np.float32
        assert np.abs(output).max() <= 1.0 and output.std() > 0.02
        # Pictures of a batch do not see each other.
        one = generator(_pictures(*size, batch=2)[:1], training=False).numpy()
        np.testing.assert_allclose(output[:1], one, atol=1e-5)


@every_generator
def test_features_are_named_and_those_of_their_stage_whatever_else_is_asked_for(generator):
    stages = _stages(generator)
    assert len(stages) >= 3
    names = generator.feature_names(stages)
    assert len(set(names)) == len(stages) == len(names)
    picture = _pictures(32, 40)
    together = generator.encode(picture, stages, training=False)
    assert all(features.shape.rank == 4 and features.shape[0] == 1 for features in together)
    for stage, features in zip(stages[:-1:2], together[:-1:2]):
        # With a later one: as in the official code, a ReLU that follows changes the features, if the pass gets there.
        found, _ = generator.encode(picture, [stage, stages[-1]], training=False)
        np.testing.assert_allclose(found, features, atol=1e-5, err_msg=str(stage))
    with pytest.raises(InputError, match=str(_MOST_STAGES)):
        generator.check_layers([_MOST_STAGES])


@every_generator
def test_gradients_reach_every_kernel(generator):
    with tf.GradientTape() as tape:
        output = generator(_pictures(32, 32, batch=2), training=True)
        loss = tf.reduce_mean(tf.square(output - _pictures(32, 32, batch=2)[:, ::-1]))
    weights = {name: weight for name, weight in compat.named_weights(generator).items() if weight.trainable}
    kernels = 0
    for name, slope in tape.gradient(loss, weights).items():
        # A bias before a norm has none, nor has the strength of noise that is switched off.
        assert slope is None or np.isfinite(slope.numpy()).all(), name
        if name.endswith("kernel"):
            assert slope is not None and np.abs(slope.numpy()).max() > 0, name
            kernels += 1
    assert kernels >= 8


@every_generator
def test_a_declared_reach_holds_and_no_reach_means_all_of_the_picture(generator):
    reach_px = generator.reach_px
    width = (reach_px or 48) + 64
    picture = _pictures(16, width)
    other = picture.copy()
    other[:, :, -1] = -other[:, :, -1]
    change = np.abs(generator(other, training=False) - generator(picture, training=False)).max(axis=(0, 1, 3))
    assert change[-1] > 1e-4
    if reach_px is None:
        assert change[0] > 0
    else:
        np.testing.assert_array_less(change[:width - 1 - reach_px], 1e-6)


@pytest.mark.parametrize("changes", [
    {"generator_norm": "instance"}, {"generator_norm": "batch"}, {"generator_norm": "none"},
    {"generator": "mobile", "generator_norm": "batch"}, {"generator": "mobile", "generator_norm": "none"},
    {"generator": "gunet"}, {"generator": "stylegan2"},
    {"generator": "aecrnet"}, {"generator": "aecrnet", "aecr_whitening": True}], ids=str)
def test_it_declares_whether_pictures_of_a_batch_change_each_other_in_training(changes):
    settings = Settings.of(ngf=4, generator_blocks=1, stylegan2_size_px=32, **changes)
    generator = networks.build_generator(settings, seed=3)
    pictures = _pictures(32, 32, batch=2)
    others = np.stack([pictures[0], 0.2 * pictures[1] + 0.5])
    found, expected = (generator(batch, training=True).numpy()[0] for batch in (others, pictures))
    assert (np.abs(found - expected).max() > 1e-6) == generator.mixes_batch


@every_generator
def test_a_saved_model_draws_the_same(generator, tmp_path):
    module = ServingModule(generator, 64 * 64)
    tf.saved_model.save(module, str(tmp_path), signatures=module.signatures())
    serve = tf.saved_model.load(str(tmp_path)).signatures["image_float"]
    for size in _SIZES:
        picture = _pictures(*size)
        np.testing.assert_allclose(serve(image=tf.constant(picture))["image"],
                                   generator(picture, training=False), atol=1e-4)


@every_generator
def test_a_tflite_file_for_any_size_draws_the_same(generator):
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    model, _ = conversion.convert(generator, None, "none", [_pictures(24, 32)])
    translator = TFLiteTranslator(model)
    for size in _SIZES:
        picture = _pictures(*size)
        np.testing.assert_allclose(translator.translate_floats(picture), generator(picture, training=False), atol=1e-3)


@every_generator
def test_keras_saves_and_loads_it(generator, tmp_path):
    generator.save(tmp_path / "generator.keras")
    again = keras.models.load_model(tmp_path / "generator.keras")
    assert type(again) is type(generator) and again.count_params() == generator.count_params()
    for size in _SIZES:
        picture = _pictures(*size)
        np.testing.assert_array_equal(again(picture, training=False), generator(picture, training=False))


@pytest.mark.parametrize("generator", [pytest.param(name, marks=pytest.mark.slow) if name == "aecrnet" else name
                                       for name in GENERATORS], indirect=True)
def test_keras_exports_it_for_any_size(generator, tmp_path):
    generator.export(tmp_path / "exported")
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    for size in _SIZES:
        picture = _pictures(*size, batch=2)
        np.testing.assert_allclose(exported.serve(picture), generator(picture, training=False), atol=1e-5)
