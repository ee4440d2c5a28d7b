"""The CUT and FastCUT training step: terms, order of updates, random draws, replicas, precision, Keras' interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat, images
from cut_tf.errors import InputError
from cut_tf.losses import patch_nce
from cut_tf.methods import build_method, cut
from cut_tf.methods.cut import CUT, Draws
from cut_tf.networks.resnet_generator import ResnetGenerator
from cut_tf.optimizers import Adam
from cut_tf.settings import Settings
from tools.check_parity import check_file

_SIDE_PX = 32
_LAYERS = (0, 4, 8, 12)


def _batch(size: int = 2, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    return {name: tf.constant(rng.uniform(-1, 1, (size, _SIDE_PX, _SIDE_PX, 3)), tf.float32)
            for name in ("source", "target")}


def _build(settings: Settings, louder: float = 10.0, **compile_arguments: object) -> CUT:
    """A compiled method whose weights are large enough that every update and every term is noticed."""
    method = build_method(settings)
    for network in method.networks.values():
        for weight in network.trainable_variables:
            weight.assign(weight * louder)
    if method.ema_generator is not None:
        weights = compat.named_weights(method.generator)
        for name, mean in compat.named_weights(method.ema_generator).items():
            mean.assign(weights[name])
    method.compile(**compile_arguments)
    return method


def _numbers(terms: Mapping[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}


def _weights(method: CUT) -> dict[str, np.ndarray]:
    return {name: np.concatenate([np.ravel(weight) for weight in network.get_weights() or [np.zeros(0)]])
            for name, network in method.networks.items()}


def _mirror(pictures: tf.Tensor, flip: bool) -> tf.Tensor:
    return tf.reverse(pictures, [2]) if flip else pictures


@pytest.fixture(name="untrained", scope="module")
def _untrained(tiny_settings) -> CUT:
    return build_method(tiny_settings())


@pytest.mark.parametrize("name, compared", [("cut_step1", 95), ("fastcut_step1", 87)])
def test_first_step_equals_the_official_code(testdata, name, compared):
    row = check_file(testdata / "golden" / f"{name}.npz")
    assert row.status == "ok", row.failures
    assert row.compared == compared


# ---- terms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_every_term_by_the_formulas(tiny_settings, flip):
    """Recomputes a step with the networks alone: old generator and projector, old and new discriminator."""
    method = _build(tiny_settings(flip_equivariance=True, gan_weight=0.5, nce_weight=2.0, nce_identity_weight=3.0,
                                  l1_identity_weight=5.0, temperature=0.2, learning_rate=1e-2))
    batch = _batch()
    ids = {name: [tf.range(first, first + 10) for _ in _LAYERS] for name, first in (("source", 0), ("target", 7))}
    generator, discriminator, projector = (method.networks[name] for name in method.networks)

    expected, fakes = {}, {}
    for name, term, weight in (("source", "nce", 2.0), ("target", "nce_identity", 3.0)):
        fakes[name] = generator(_mirror(batch[name], flip))
        keys = projector(generator.encode(batch[name], _LAYERS), ids[name])
        queries = projector([_mirror(feature, flip) for feature in generator.encode(fakes[name], _LAYERS)], ids[name])
        losses = [float(tf.reduce_mean(patch_nce.patch_nce(query, key, 0.2))) for query, key in zip(queries, keys)]
        expected[f"loss/{term}"] = weight * np.mean(losses)
        expected.update({f"metric/{term}_loss/{feature}": loss
                         for feature, loss in zip(generator.feature_names(_LAYERS), losses)})
    expected["loss/l1_identity"] = 5.0 * np.abs(fakes["target"] - _mirror(batch["target"], flip)).mean()
    expected["loss/discriminator_real"] = np.square(discriminator(batch["target"]) - 1.0).mean()
    expected["loss/discriminator_fake"] = np.square(discriminator(fakes["source"])).mean()
    expected["loss/discriminator"] = (expected["loss/discriminator_real"] + expected["loss/discriminator_fake"]) / 2
    with_old_discriminator = 0.5 * np.square(discriminator(fakes["source"]) - 1.0).mean()

    terms = _numbers(method.train_step(batch, Draws(tf.constant(flip), ids["source"], ids["target"])))
    expected["loss/gan"] = 0.5 * np.square(discriminator(fakes["source"]) - 1.0).mean()
    assert abs(expected["loss/gan"] - with_old_discriminator) > 0.01  # the update is large enough to tell
    expected["loss/generator"] = (expected["loss/gan"] + (expected["loss/nce"] + expected["loss/nce_identity"]) / 2
                                  + expected["loss/l1_identity"])
    assert set(expected) <= set(terms)
    for name, value in expected.items():
        assert terms[name] == pytest.approx(value, rel=2e-4), name


@pytest.mark.parametrize("overrides", [
    {"gan_weight": 0.25}, {"nce_identity_weight": 0.0, "nce_weight": 10.0, "flip_equivariance": True},
    {"l1_identity_weight": 5.0}, {"nce_identity_weight": 0.0, "l1_identity_weight": 5.0}, {"nce_weight": 0.0},
    {"nce_weight": 0.0, "nce_identity_weight": 0.0}], ids=str)
def test_generator_loss_is_the_visible_weighted_sum(tiny_settings, overrides):
    settings = tiny_settings(**overrides)
    terms = _numbers(_build(settings).train_step(_batch()))
    contrast = terms["loss/nce"]
    if settings.loss.nce_identity_weight:
        contrast = (contrast + terms["loss/nce_identity"]) / 2
    else:
        assert "loss/nce_identity" not in terms
    assert ("loss/l1_identity" in terms) == (settings.loss.l1_identity_weight > 0)
    expected = terms["loss/gan"] + contrast + terms.get("loss/l1_identity", 0.0)
    assert terms["loss/generator"] == pytest.approx(expected, rel=1e-6)
    assert terms["loss/discriminator"] == pytest.approx(
        (terms["loss/discriminator_real"] + terms["loss/discriminator_fake"]) / 2, rel=1e-6)


def test_gradient_penalty_is_added_to_the_discriminators_loss(tiny_settings):
    terms = _numbers(_build(tiny_settings(gan_mode="wgangp", gradient_penalty_weight=7.0)).train_step(_batch()))
    halves = (terms["loss/discriminator_real"] + terms["loss/discriminator_fake"]) / 2
    assert terms["loss/gradient_penalty"] > 0.01
    assert terms["loss/discriminator"] == pytest.approx(halves + terms["loss/gradient_penalty"], rel=1e-5)
    double = _numbers(_build(tiny_settings(gan_mode="wgangp", gradient_penalty_weight=14.0)).train_step(_batch()))
    assert double["loss/gradient_penalty"] == pytest.approx(2 * terms["loss/gradient_penalty"], rel=1e-5)


# ---- order and reach of the updates ----------------------------------------------------------------------------------


def _still() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.0)


def test_generator_sees_the_updated_discriminator(tiny_settings):
    settings = tiny_settings(learning_rate=1e-2)
    moving = _numbers(_build(settings).train_step(_batch()))
    still = _numbers(_build(settings, optimizers={"discriminator": _still()}).train_step(_batch()))
    for name in ("loss/discriminator_real", "loss/discriminator_fake", "loss/discriminator", "loss/nce"):
        assert moving[name] == pytest.approx(still[name], rel=1e-6), name
    assert abs(moving["loss/gan"] - still["loss/gan"]) > 0.01


def test_discriminator_does_not_see_the_generators_update(tiny_settings):
    settings = tiny_settings(learning_rate=1e-2)
    methods = [_build(settings), _build(settings, optimizers={"generator": _still(), "projector": _still()})]
    moving, still = (_numbers(method.train_step(_batch())) for method in methods)
    for name in moving:
        if not name.startswith("learning_rate/"):
            assert moving[name] == pytest.approx(still[name], rel=1e-6), name
    after = [_weights(method) for method in methods]
    np.testing.assert_allclose(after[0]["discriminator"], after[1]["discriminator"], atol=1e-7)
    assert np.abs(after[0]["generator"] - after[1]["generator"]).max() > 1e-3


@pytest.mark.parametrize("name", ["generator", "discriminator", "projector"])
def test_each_network_has_its_own_optimizer(tiny_settings, name):
    method = _build(tiny_settings(), optimizers={name: _still()})
    before = _weights(method)
    method.train_step(_batch())
    moved = {key: float(np.abs(value - before[key]).max()) for key, value in _weights(method).items()}
    assert moved.pop(name) == 0
    assert min(moved.values()) > 1e-5


def test_discriminator_takes_no_gradient_from_the_generators_terms(tiny_settings):
    """With a far larger weight of the generator's adversarial loss the discriminator moves the same way."""
    after = []
    for weight in (1.0, 1000.0):
        method = _build(tiny_settings(gan_weight=weight),
                        optimizers={"discriminator": keras.optimizers.SGD(0.1)})
        method.train_step(_batch())
        after.append(_weights(method)["discriminator"])
    np.testing.assert_allclose(after[0], after[1], atol=1e-7)


# ---- mirroring -------------------------------------------------------------------------------------------------------


def _record_inputs(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the generator is given to translate, from now on."""
    seen = []
    original = ResnetGenerator.translate_with_features

    def recorder(self: ResnetGenerator, pictures: tf.Tensor, layers: tuple, training: bool | None = None) -> tuple:
        if layers:  # inference asks for no features
            seen.append(np.asarray(pictures))
        return original(self, pictures, layers, training)

    monkeypatch.setattr(ResnetGenerator, "translate_with_features", recorder)
    return seen


def test_about_half_of_the_steps_are_mirrored(tiny_settings):
    method = build_method(tiny_settings(flip_equivariance=True))
    flips = []
    for step in range(300):
        method.step.assign(step)
        flips.append(bool(method._draw_flip()))
    assert 120 < sum(flips) < 180
    assert 100 < sum(first != second for first, second in zip(flips, flips[1:])) < 200  # no pattern


def test_a_mirrored_step_mirrors_what_the_generator_sees(tiny_settings, monkeypatch):
    method = _build(tiny_settings(flip_equivariance=True, nce_identity_weight=0.0))
    seen = _record_inputs(monkeypatch)
    batch = _batch()
    flips = []
    for _ in range(8):
        flips.append(bool(method._draw_flip()))
        method.train_step(batch)
    assert set(flips) == {True, False}
    for flip, pictures in zip(flips, seen):
        np.testing.assert_array_equal(pictures, _mirror(batch["source"], flip))


def test_without_flip_equivariance_nothing_is_mirrored(tiny_settings, monkeypatch):
    method = _build(tiny_settings())
    seen = _record_inputs(monkeypatch)
    batch = _batch()
    for _ in range(4):
        method.train_step(batch)
    for pictures in seen:
        np.testing.assert_array_equal(pictures, tf.concat([batch["source"], batch["target"]], 0))


def test_translation_never_mirrors(tiny_settings):
    method = _build(tiny_settings(flip_equivariance=True, ema_decay=0.0))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 33, 3), dtype=np.uint8)
    flips = []
    for _ in range(6):
        flips.append(bool(method._draw_flip()))
        method.train_step(_batch())
        direct = method.generator(images.from_bytes(pictures), training=False)
        np.testing.assert_array_equal(method.translate(pictures), images.to_bytes(direct))
        np.testing.assert_allclose(method(images.from_bytes(pictures)), direct, atol=1e-6)
    assert set(flips) == {True, False}


# ---- features, patches, negatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [{}, {"nce_identity_weight": 0.0}, {"antialias_down": False},
                                       {"flip_equivariance": True}], ids=str)
def test_reused_key_features_equal_encoded_ones(tiny_settings, monkeypatch, overrides):
    reused = _numbers(_build(tiny_settings(**overrides)).train_step(_batch()))
    monkeypatch.setattr(CUT, "_key_features", lambda self, real, *_: [
        self.generator.encode(part, self.layers_compared) for part in real])
    encoded = _numbers(_build(tiny_settings(**overrides)).train_step(_batch()))
    assert reused == pytest.approx(encoded, rel=1e-4)  # losses and norms of the gradients


def test_real_images_are_encoded_once(tiny_settings, monkeypatch):
    method = _build(tiny_settings())
    encoded = []
    original = ResnetGenerator.encode
    monkeypatch.setattr(ResnetGenerator, "encode", lambda self, *args, **kwargs: encoded.append(1) or original(
        self, *args, **kwargs))
    method.train_step(_batch())
    assert len(encoded) == 1  # the translations


def test_without_identity_terms_the_target_is_not_translated(tiny_settings, monkeypatch):
    seen = _record_inputs(monkeypatch)
    for overrides in ({"nce_identity_weight": 0.0}, {}, {"nce_identity_weight": 0.0, "l1_identity_weight": 1.0}):
        _build(tiny_settings(**overrides)).train_step(_batch())
    assert [len(pictures) for pictures in seen] == [2, 4, 4]


def test_patches_are_drawn_anew_per_layer_term_and_step(tiny_settings, monkeypatch):
    drawn = []
    original = cut.draw_patch_ids

    def recorder(locations: tf.Tensor, num_patches: int, seed: tf.Tensor) -> tf.Tensor:
        drawn.append(tuple(original(locations, num_patches, seed).numpy()))
        return original(locations, num_patches, seed)

    monkeypatch.setattr(cut, "draw_patch_ids", recorder)
    method = _build(tiny_settings(nce_layers="4,5,6"))  # three layers of the same size
    for _ in range(2):
        method.train_step(_batch())
    assert len(drawn) == len(set(drawn)) == 2 * 2 * 3
    assert all(len(ids) == 16 and max(ids) > 256 for ids in drawn)  # of 32 x 32 places


def test_a_run_is_repeated_with_its_seed_only(tiny_settings):
    def losses(seed: int) -> list[float]:
        method = _build(tiny_settings(seed=seed, flip_equivariance=True))
        return [_numbers(method.train_step(_batch(seed=step)))["loss/generator"] for step in range(2)]

    first = losses(1)
    assert losses(1) == pytest.approx(first, rel=1e-5)
    assert losses(2) != pytest.approx(first, rel=1e-3)


def test_sample_projector_compares_the_features_themselves(tiny_settings):
    method = _build(tiny_settings(projector="sample"))
    assert method.networks["projector"].weights == []
    assert set(method.optimizers_by_network) == {"generator", "discriminator"}
    before = _weights(method)["generator"]
    terms = _numbers(method.train_step(_batch()))
    assert terms["loss/nce"] > 0 and "gradient_norm/projector" not in terms
    assert np.abs(_weights(method)["generator"] - before).max() > 1e-5


def test_external_negatives_come_from_earlier_steps(tiny_settings):
    method = _build(tiny_settings(negatives="external"))
    first = _numbers(method.train_step(_batch(seed=0)))
    assert first["loss/nce"] == 0 and first["loss/nce_identity"] == 0  # there are none yet
    queue = method.queues["nce"]
    assert all(bool(tf.reduce_all(present)) for present in queue.present)
    assert [tuple(keys.shape) for keys in queue.keys] == [(15, 16)] * 4
    np.testing.assert_allclose(np.linalg.norm(queue.keys[1], axis=-1), 1.0, rtol=1e-3)
    kept = queue.keys[1].numpy()
    second = _numbers(method.train_step(_batch(seed=1)))
    assert second["loss/nce"] > 0.1 and second["loss/nce_identity"] > 0.1
    assert np.abs(queue.keys[1].numpy() - kept).max() > 1e-3


@pytest.mark.parametrize("overrides", [
    {"negatives": "internal"}, {"negatives": "minibatch"}, {"negatives": "external"}, {"num_negatives": 3},
    {"num_patches": 5000}, {"gan_mode": "vanilla"}, {"gan_mode": "nonsaturating"}, {"gan_mode": "wgangp"},
    {"gan_mode": "wgangp", "gradient_penalty_weight": 0.0},
    {"generator_norm": "batch", "discriminator_norm": "batch"},
    {"generator_norm": "none", "discriminator_norm": "none"},
    {"generator_norm": "batch", "flip_equivariance": True, "nce_identity_weight": 0.0},
    {"antialias_down": False, "antialias_up": False}, {"precision": "bfloat16"},
    {"precision": "bfloat16", "gan_mode": "wgangp"}, {"precision": "float16"}, {"ema_decay": 0.0},
], ids=str)
def test_two_steps_are_finite_and_train_all_networks(tiny_settings, overrides):
    method = _build(tiny_settings(**overrides), louder=1.0)
    if method.settings.train.precision == "float16":
        method.loss_scale.assign(16.0)  # where the first steps of this network would bring it
    before = _weights(method)
    for step in range(2):
        terms = _numbers(method.train_step(_batch(seed=step)))
        assert {name: value for name, value in terms.items() if not np.isfinite(value)} == {}
        assert {name: value for name, value in terms.items() if name.startswith("non_finite/") and value != -1} == {}
    assert int(method.step) == 2
    for name, after in _weights(method).items():
        assert np.isfinite(after).all()
        assert np.abs(after - before[name]).max() > 1e-5, name


@pytest.mark.parametrize("overrides", [{}, {"nce_identity_weight": 0.0}, {"flip_equivariance": True},
                                       {"l1_identity_weight": 1.0}], ids=str)
def test_source_and_target_may_differ_in_size_without_preprocessing(tiny_settings, overrides):
    method = _build(tiny_settings(preprocess="none", **overrides))
    batch = {"source": _batch(1)["source"], "target": tf.tile(_batch(1)["target"], [1, 2, 1, 1])[:, :44]}
    terms = _numbers(method.train_step(batch))
    assert {name: value for name, value in terms.items() if not np.isfinite(value)} == {}


def test_images_taken_one_by_one_or_together_give_the_same_terms(tiny_settings):
    apart, together = (_numbers(_build(tiny_settings(preprocess=preprocess)).train_step(_batch(1)))
                       for preprocess in ("none", "crop"))
    assert apart == pytest.approx(together, rel=1e-4, abs=1e-6)


# ---- replicas --------------------------------------------------------------------------------------------------------


# A small network: compiling for two replicas takes most of the time.
_SMALL = {"batch_size": 2, "generator_blocks": 0, "discriminator_layers": 1, "nce_layers": "0,8", "ema_decay": 0.5}


def _train(strategy: tf.distribute.Strategy, settings: Settings,
           optimizer: Callable[[], keras.optimizers.Optimizer]) -> tuple[CUT, list[dict[str, float]]]:
    """Three steps of a global batch of two images, always the same six."""
    with strategy.scope():
        names = ("generator", "discriminator", "projector")
        method = _build(settings, louder=5.0, optimizers={name: optimizer() for name in names},
                        run_eagerly=strategy.num_replicas_in_sync == 1)
    data = _batch(6)
    dataset = strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(data).batch(2 // strategy.num_replicas_in_sync))
    train_function, iterator = method.make_train_function(), iter(dataset)
    logs = []
    for _ in range(3):
        train_function(iterator)
        logs.append(_numbers(method.step_logs))
    return method, logs


# Plain gradient descent shows a wrong scale of the gradients, which Adam would hide. Adam's epsilon is large, or a
# bias before an instance norm, whose true gradient is 0, would make steps of rounding noise.
@pytest.mark.parametrize("overrides, optimizer", [
    ({"flip_equivariance": True}, lambda: Adam(1e-3, epsilon=1e-2)),
    ({"negatives": "minibatch", "l1_identity_weight": 1.0}, lambda: keras.optimizers.SGD(1e-3)),
    ({"gan_mode": "wgangp"}, lambda: keras.optimizers.SGD(3e-4)),
    ({"negatives": "external", "num_patches": 300}, lambda: keras.optimizers.SGD(1e-3)),
], ids=["internal-flip-adam", "minibatch", "wgangp", "external"])
def test_two_replicas_equal_one(tiny_settings, two_replicas, overrides, optimizer):
    settings = tiny_settings(**_SMALL, **overrides)
    start = _weights(_build(settings, louder=5.0))
    one, one_logs = _train(tf.distribute.MirroredStrategy(["CPU:0"]), settings, optimizer)
    two, two_logs = _train(two_replicas, settings, optimizer)
    for step, (mine, theirs) in enumerate(zip(one_logs, two_logs)):
        assert set(theirs) == set(mine)
        for name, value in mine.items():
            # A query whose positive all but equals a negative may count or not. Without external negatives, in the
            # first step, the projector's gradient is rounding noise.
            tolerance = 0.1 if "_accuracy/" in name else 1e-3 if "gradient_norm/" in name else 1e-5
            assert theirs[name] == pytest.approx(value, rel=1e-4, abs=tolerance), f"{name} of step {step}"
    for name, after in _weights(one).items():
        moved = np.abs(after - start[name]).max()
        assert moved > 1e-4, f"{name}: the comparison shows nothing if nothing moves"
        np.testing.assert_allclose(_weights(two)[name], after, rtol=0, atol=2e-3 * moved, err_msg=name)
    one_state, two_state = one.state(), two.state()
    assert set(two_state) == set(one_state)
    for name, variable in two_state.items():
        expected = one_state[name].numpy().astype(np.float64)
        tolerance = 1e-3 * np.abs(expected).max() + 1e-5
        np.testing.assert_allclose(variable.numpy(), expected, rtol=0, atol=tolerance, err_msg=name)
    for variable in two.generator.trainable_variables:
        first, second = two_replicas.experimental_local_results(compat.raw_variable(variable))
        np.testing.assert_array_equal(first.numpy(), second.numpy())


# ---- running means, trouble, precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("ema_decay, decays", [(0.999, (2 / 11, 3 / 12)), (0.2, (2 / 11, 0.2))])
def test_running_means_by_hand(tiny_settings, norm, ema_decay, decays):
    method = _build(tiny_settings(ema_decay=ema_decay, learning_rate=1e-2, generator_norm=norm))
    weights, found = (compat.named_weights(network) for network in (method.generator, method.ema_generator))
    assert set(found) == set(weights)
    means = {name: weight.numpy().astype(np.float64) for name, weight in weights.items()}
    for decay in decays:
        method.train_step(_batch())
        means = {name: decay * mean + (1 - decay) * weights[name].numpy() for name, mean in means.items()}
    for name, mean in means.items():
        np.testing.assert_allclose(found[name].numpy(), mean, rtol=1e-5, atol=1e-7, err_msg=name)
        if name.endswith("kernel"):
            assert np.abs(mean - weights[name].numpy()).max() > 1e-4


def test_translation_uses_the_running_means_unless_told_otherwise(tiny_settings):
    method = _build(tiny_settings(learning_rate=0.05))
    for _ in range(2):
        method.train_step(_batch())
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    means, raw = (images.to_bytes(network(images.from_bytes(picture[None])))[0].numpy()
                  for network in (method.ema_generator, method.generator))
    assert not np.array_equal(means, raw)
    np.testing.assert_array_equal(method.translate(picture), means)
    np.testing.assert_array_equal(method.translate(picture, weights="ema"), means)
    np.testing.assert_array_equal(method.translate(picture, weights="raw"), raw)


def test_nan_in_the_input_is_reported(tiny_settings):
    method = _build(tiny_settings(), run_eagerly=True)
    fine = _batch()
    broken = {**fine, "source": tf.fill(fine["source"].shape, float("nan"))}
    train_function = method.make_train_function()
    train_function(iter([fine]))
    assert float(method.step_logs["all_finite"]) == 1
    assert float(method.step_logs["non_finite/generator"]) == -1
    train_function(iter([broken]))
    assert float(method.step_logs["all_finite"]) == 0
    assert float(method.step_logs["non_finite/generator"]) >= 0
    assert float(method.step_logs["non_finite/discriminator"]) >= 0


@pytest.mark.parametrize("loss, bad_weight, fine", [(1.0, -1.0, 1.0), (np.inf, -1.0, 0.0), (np.nan, -1.0, 0.0),
                                                    (1.0, 0.0, 0.0), (1.0, 3.0, 0.0)])
def test_a_step_is_finite_if_losses_and_gradients_are(untrained, loss, bad_weight, fine):
    terms = {"loss/nce": 2.0, "loss/gan": loss, "non_finite/discriminator": -1.0, "non_finite/generator": bad_weight,
             "metric/other": np.nan}
    found = untrained._all_finite({name: tf.constant(value, tf.float32) for name, value in terms.items()})
    assert float(found) == fine


@pytest.mark.parametrize("scale, fine", [(2.0, 1.0), (1.0, 0.0)])
def test_float16_gradients_may_overflow_while_the_scale_can_fall(tiny_settings, scale, fine):
    method = build_method(tiny_settings(precision="float16", ema_decay=0.0))
    method.loss_scale.assign(scale)
    found = method._all_finite({"loss/gan": tf.constant(1.0), "non_finite/generator": tf.constant(3.0)})
    assert float(found) == fine


def test_the_first_bad_gradient_is_named_and_the_norm_is_that_of_all(tiny_settings):
    method = _build(tiny_settings())
    variables = method.generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = method.scale(2.0 * tf.reduce_sum(variables[0]) + 3.0 * tf.reduce_sum(variables[3]))
    terms = _numbers(method.update_networks(["generator", "projector"], tape, loss))
    sizes = [int(np.prod(variables[index].shape)) for index in (0, 3)]
    assert terms["gradient_norm/generator"] == pytest.approx(np.sqrt(4 * sizes[0] + 9 * sizes[1]), rel=1e-5)
    assert terms["gradient_norm/projector"] == 0
    with tf.GradientTape() as tape:
        loss = method.scale(tf.reduce_sum(variables[2]) + tf.reduce_sum(variables[3]) * float("inf"))
    terms = _numbers(method.update_networks(["generator", "projector"], tape, loss))
    assert (terms["non_finite/generator"], terms["non_finite/projector"]) == (3, -1)


def test_overflow_of_float16_halves_the_scale_and_changes_no_weight(tiny_settings):
    method = _build(tiny_settings(precision="float16", ema_decay=0.0))
    method.loss_scale.assign(256.0)
    method.train_step(_batch())
    method.loss_scale.assign(1e38)
    state = method.state()
    kept = {name: value.numpy() for name, value in state.items()
            if name not in ("step", "loss_scale", "finite_steps") and not name.endswith("iterations")}
    method.train_step(_batch(seed=1))
    # Once for the discriminator's overflow, once for the generator's.
    assert float(method.loss_scale) in (pytest.approx(0.5e38), pytest.approx(0.25e38))
    for name, value in kept.items():
        np.testing.assert_array_equal(state[name].numpy(), value, err_msg=name)
    method.loss_scale.assign(256.0)
    method.train_step(_batch(seed=1))
    assert np.abs(state["generator/stem/kernel"].numpy() - kept["generator/stem/kernel"]).max() > 1e-5
    assert float(method.loss_scale) == 256


def _update_by_hand(method: CUT, factor: float) -> None:
    """One update of generator and projector, with gradients of 1, except `factor` in the generator's third weight."""
    variables = method.generator.trainable_variables + method.networks["projector"].trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(variable) for variable in variables])
        scaled = method.scale(loss + (factor - 1.0) * tf.reduce_sum(variables[2]))
    method.update_networks(["generator", "projector"], tape, scaled)


def test_overflow_in_one_weight_stops_the_update_of_all(tiny_settings):
    method = _build(tiny_settings(precision="float16"))
    before = _weights(method)
    _update_by_hand(method, float("inf"))
    assert float(method.loss_scale) == 2.0**14
    for name, after in _weights(method).items():
        np.testing.assert_array_equal(after, before[name], err_msg=name)
    _update_by_hand(method, 1.0)
    assert float(method.loss_scale) == 2.0**14
    for name in ("generator", "projector"):
        assert np.abs(_weights(method)[name] - before[name]).min() > 1e-5


def test_loss_scale_grows_after_many_finite_updates_and_stays_above_one(tiny_settings):
    method = _build(tiny_settings(precision="float16"))
    method.finite_steps.assign(1998)
    scales = []
    for _ in range(3):
        _update_by_hand(method, 1.0)
        scales.append(float(method.loss_scale))
    assert scales == [2.0**15, 2.0**16, 2.0**16]
    method.loss_scale.assign(1.0)
    _update_by_hand(method, float("nan"))
    assert float(method.loss_scale) == 1


def test_gradients_do_not_depend_on_the_loss_scale(tiny_settings):
    norms = []
    for scale in (32.0, 512.0):
        method = _build(tiny_settings(precision="float16"))
        method.loss_scale.assign(scale)
        norms.append(_numbers(method.train_step(_batch()))["gradient_norm/generator"])
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.03), ("float16", 0.01)])
def test_losses_in_half_precision_are_close_to_float32(tiny_settings, precision, tolerance):
    exact, rounded = (_numbers(_build(tiny_settings(precision=name)).train_step(_batch()))
                      for name in ("float32", precision))
    for name in ("loss/gan", "loss/nce", "loss/nce_identity", "loss/discriminator", "loss/generator"):
        assert rounded[name] == pytest.approx(exact[name], rel=tolerance), name
    assert rounded["loss/nce"] != exact["loss/nce"]


# ---- Keras' interface ------------------------------------------------------------------------------------------------


def test_compile_refuses_optimizers_of_unknown_networks(untrained):
    with pytest.raises(InputError, match="generator, discriminator, projector.*found critic"):
        untrained.compile(optimizers={"critic": keras.optimizers.SGD(0.1)})


def test_unknown_method_lists_the_known_ones(tiny_settings):
    with pytest.raises(ValueError, match="--method.*'cycle'.*cut"):
        build_method(tiny_settings(method="cycle"))


def test_layers_that_the_generator_lacks_are_refused(tiny_settings):
    with pytest.raises(InputError, match="--nce_layers must be below 24"):
        build_method(tiny_settings(nce_layers="0,4,24"))


def test_fit_and_translate(tiny_settings):
    method = _build(tiny_settings())
    before = _weights(method)
    data = tf.data.Dataset.from_tensor_slices(_batch(4)).batch(2)
    history = method.fit(data, epochs=2, verbose=0)
    assert int(method.step) == 4
    assert set(history.history) == {"loss/generator", "loss/discriminator", "loss/nce"}
    assert np.isfinite(history.history["loss/generator"]).all() and len(history.history["loss/generator"]) == 2
    assert float(method.step_logs["all_finite"]) == 1
    assert method.input_wait_sec > 0
    assert all(np.abs(value - before[name]).max() > 1e-5 for name, value in _weights(method).items())
    pictures = np.random.default_rng(0).integers(0, 256, (2, 17, 23, 3), dtype=np.uint8)
    output = method.translate(pictures)
    assert output.shape == (2, 17, 23, 3) and output.dtype == np.uint8
    np.testing.assert_array_equal(method.translate(pictures[1]), output[1])


@pytest.mark.parametrize("pictures, weights, message", [
    (np.zeros((32, 32, 3), np.uint8), "best", "weights must be ema or raw, found 'best'"),
    (np.zeros((32, 32, 3), np.float32), "ema", r"expected uint8 \[H, W, 3\], got float32"),
    (np.zeros((32, 32), np.uint8), "ema", r"expected uint8 \[H, W, 3\]"),
    (np.zeros((2, 32, 32, 4), np.uint8), "ema", r"expected uint8 \[H, W, 3\]"),
    (np.zeros((1, 2, 32, 32, 3), np.uint8), "ema", r"expected uint8 \[H, W, 3\]"),
    (np.zeros((0, 32, 32, 3), np.uint8), "ema", r"expected uint8 \[H, W, 3\]"),
    (np.zeros((15, 32, 3), np.uint8), "ema", "sides must be at least 16 px, found 32x15"),
], ids=["weights", "float", "grey", "alpha", "rank", "empty", "small"])
def test_translate_refuses_what_is_no_picture(untrained, pictures, weights, message):
    with pytest.raises(ValueError, match=message):
        untrained.translate(pictures, weights)
