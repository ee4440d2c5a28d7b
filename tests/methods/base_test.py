"""What all methods share: replicas, running means, trouble, precision, Keras' interface."""

from __future__ import annotations

from collections.abc import Callable

import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from cut_tf.methods.cut import CUT
from cut_tf.methods.optimizers import Adam
from cut_tf.settings import Settings

# ---- replicas --------------------------------------------------------------------------------------------------------


# A small network: compiling for two replicas takes most of the time.
_SMALL = {"batch_size": 2, "generator_blocks": 0, "discriminator_layers": 1, "nce_layers": "0,8", "ema_decay": 0.5}


def _train(strategy: tf.distribute.Strategy, settings: Settings,
           optimizer: Callable[[], keras.optimizers.Optimizer]) -> tuple[CUT, list[dict[str, float]]]:
    """Three steps of a global batch of two images, always the same six."""
    with strategy.scope():
        names = ("generator", "discriminator", "projector")
        method = steps.build(settings, louder=5.0, optimizers={name: optimizer() for name in names},
                             run_eagerly=strategy.num_replicas_in_sync == 1)
    data = steps.batch(6)
    dataset = strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(data).batch(2 // strategy.num_replicas_in_sync))
    train_function, iterator = method.make_train_function(), iter(dataset)
    logs = []
    for _ in range(3):
        train_function(iterator)
        logs.append(steps.numbers(method.step_logs))
    return method, logs


# Plain gradient descent shows a wrong scale of the gradients, which Adam would hide. Adam's epsilon is large, or a
# bias before an instance norm, whose true gradient is 0, would make steps of rounding noise.
@pytest.mark.parametrize("overrides, optimizer", [
    ({"flip_equivariance": True}, lambda: Adam(1e-3, epsilon=1e-2)),
    pytest.param({"negatives": "minibatch", "l1_identity_weight": 1.0}, lambda: keras.optimizers.SGD(1e-3),
                 marks=pytest.mark.slow),
    pytest.param({"gan_mode": "wgangp"}, lambda: keras.optimizers.SGD(3e-4), marks=pytest.mark.slow),
    pytest.param({"negatives": "external", "num_patches": 300}, lambda: keras.optimizers.SGD(1e-3),
                 marks=pytest.mark.slow),
], ids=["internal-flip-adam", "minibatch", "wgangp", "external"])
@pytest.mark.slow
def test_two_replicas_equal_one(tiny_settings, two_replicas, overrides, optimizer):
    settings = tiny_settings(**_SMALL, **overrides)
    start = steps.weights(steps.build(settings, louder=5.0))
    one, one_logs = _train(tf.distribute.MirroredStrategy(["CPU:0"]), settings, optimizer)
    two, two_logs = _train(two_replicas, settings, optimizer)
    for step, (mine, theirs) in enumerate(zip(one_logs, two_logs)):
        assert set(theirs) == set(mine)
        for name, value in mine.items():
            # A query whose positive all but equals a negative may count or not. Without external negatives, in the
            # first step, the projector's gradient is rounding noise.
            tolerance = 0.1 if "_accuracy/" in name else 1e-3 if "gradient_norm/" in name else 1e-5
            assert theirs[name] == pytest.approx(value, rel=1e-4, abs=tolerance), f"{name} of step {step}"
    for name, after in steps.weights(one).items():
        moved = np.abs(after - start[name]).max()
        assert moved > 1e-4, f"{name}: the comparison shows nothing if nothing moves"
        np.testing.assert_allclose(steps.weights(two)[name], after, rtol=0, atol=2e-3 * moved, err_msg=name)
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
    method = steps.build(tiny_settings(ema_decay=ema_decay, learning_rate=1e-2, generator_norm=norm))
    weights, found = (compat.named_weights(network) for network in (method.generator, method.ema_generator))
    assert set(found) == set(weights)
    means = {name: weight.numpy().astype(np.float64) for name, weight in weights.items()}
    for decay in decays:
        method.train_step(steps.batch())
        means = {name: decay * mean + (1 - decay) * weights[name].numpy() for name, mean in means.items()}
    for name, mean in means.items():
        np.testing.assert_allclose(found[name].numpy(), mean, rtol=1e-5, atol=1e-7, err_msg=name)
        if name.endswith("kernel"):
            assert np.abs(mean - weights[name].numpy()).max() > 1e-4


def test_translation_uses_the_running_means_unless_told_otherwise(tiny_settings):
    method = steps.build(tiny_settings(learning_rate=0.05))
    for _ in range(2):
        method.train_step(steps.batch())
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    means, raw = (images.to_bytes(network(images.from_bytes(picture[None])))[0].numpy()
                  for network in (method.ema_generator, method.generator))
    assert not np.array_equal(means, raw)
    np.testing.assert_array_equal(method.translate(picture), means)
    np.testing.assert_array_equal(method.translate(picture, weights="ema"), means)
    np.testing.assert_array_equal(method.translate(picture, weights="raw"), raw)


def test_nan_in_the_input_is_reported(tiny_settings):
    method = steps.build(tiny_settings(), run_eagerly=True)
    fine = steps.batch()
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


@pytest.mark.parametrize("scale, loss, bad_weight, fine", [
    (2.0, 1.0, 3.0, 1.0), (1.0, 1.0, 3.0, 0.0), (2.0, np.nan, 3.0, 1.0), (1.0, 1.0, -1.0, 1.0),
    (2.0, np.nan, -1.0, 0.0)])
def test_float16_gradients_may_overflow_while_the_scale_can_fall(tiny_settings, scale, loss, bad_weight, fine):
    method = build_method(tiny_settings(method="paired", precision="float16", ema_decay=0.0))
    terms = {"loss/gan": loss, "non_finite/generator": bad_weight, "metric/loss_scale": scale}
    assert float(method._all_finite({name: tf.constant(value) for name, value in terms.items()})) == fine


def test_the_first_bad_gradient_is_named_and_the_norm_is_that_of_all(tiny_settings):
    method = steps.build(tiny_settings())
    variables = method.generator.trainable_variables
    with tf.GradientTape() as tape:
        loss = method.scale(2.0 * tf.reduce_sum(variables[0]) + 3.0 * tf.reduce_sum(variables[3]))
    terms = steps.numbers(method.update_networks(["generator", "projector"], tape, loss))
    sizes = [int(np.prod(variables[index].shape)) for index in (0, 3)]
    assert terms["gradient_norm/generator"] == pytest.approx(np.sqrt(4 * sizes[0] + 9 * sizes[1]), rel=1e-5)
    assert terms["gradient_norm/projector"] == 0
    with tf.GradientTape() as tape:
        loss = method.scale(tf.reduce_sum(variables[2]) + tf.reduce_sum(variables[3]) * float("inf"))
    terms = steps.numbers(method.update_networks(["generator", "projector"], tape, loss))
    assert (terms["non_finite/generator"], terms["non_finite/projector"]) == (3, -1)


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 0.03), ("float16", 0.01)])
def test_losses_in_half_precision_are_close_to_float32(tiny_settings, precision, tolerance):
    exact, rounded = (steps.numbers(steps.build(tiny_settings(precision=name)).train_step(steps.batch()))
                      for name in ("float32", precision))
    for name in ("loss/gan", "loss/nce", "loss/nce_identity", "loss/discriminator", "loss/generator"):
        assert rounded[name] == pytest.approx(exact[name], rel=tolerance), name
    assert rounded["loss/nce"] != exact["loss/nce"]


# ---- Keras' interface ------------------------------------------------------------------------------------------------


def test_compile_refuses_optimizers_of_unknown_networks(untrained):
    with pytest.raises(InputError, match="generator, discriminator, projector.*found critic"):
        untrained.compile(optimizers={"critic": keras.optimizers.SGD(0.1)})


def test_unknown_method_lists_the_known_ones(tiny_settings):
    with pytest.raises(InputError, match="--method must be one of cut, .*, found 'cycle'"):
        build_method(tiny_settings(method="cycle"))


def test_layers_that_the_generator_lacks_are_refused(tiny_settings):
    with pytest.raises(InputError, match="--nce_layers must be below 24"):
        build_method(tiny_settings(nce_layers="0,4,24"))


@pytest.mark.slow
def test_fit_and_translate(tiny_settings):
    method = steps.build(tiny_settings())
    before = steps.weights(method)
    data = tf.data.Dataset.from_tensor_slices(steps.batch(4)).batch(2)
    history = method.fit(data, epochs=2, verbose=0)
    assert int(method.step) == 4
    assert set(history.history) == {"loss/generator", "loss/discriminator", "loss/nce"}
    assert np.isfinite(history.history["loss/generator"]).all() and len(history.history["loss/generator"]) == 2
    assert float(method.step_logs["all_finite"]) == 1
    assert method.input_wait_sec > 0
    assert all(np.abs(value - before[name]).max() > 1e-5 for name, value in steps.weights(method).items())
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
