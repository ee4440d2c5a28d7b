"""float16: the loss scale, steps that overflow, and penalties whose inner gradient would vanish."""

from __future__ import annotations

from collections.abc import Callable

import gain_networks
import keras
import method_steps as steps
import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat, networks
from cut_tf.common.errors import NonFiniteError
from cut_tf.losses import gradient_penalty
from cut_tf.methods import build_method, distancegan, loss_scaling
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.optimizers import LinearDecay

_COUNTED = ("step", "loss_scale", "finite_steps")
_GAINS = {"generator": 0.8123, "backward_generator": 1.0717, "discriminator": 0.6, "backward_discriminator": 0.4}
_SMALL = {"precision": "float16", "generator_blocks": 0, "discriminator_layers": 1, "nce_layers": "0,8",
          "ema_decay": 0.5, "batch_size": 2}


def _overflow_in(monkeypatch: pytest.MonkeyPatch, method: TranslationMethod, update: int) -> None:
    """Makes the gradients of one update of the next step infinite, counted in the order of the step."""
    scale, calls = method.scale, iter(range(100))
    monkeypatch.setattr(method, "scale", lambda loss: scale(loss) * (np.inf if next(calls) == update else 1.0))


@pytest.mark.parametrize("overrides, update, parts", [
    ({"discriminator_norm": "spectral", "negatives": "external"}, 0, ("/vector_u", "queue/")),
    ({"generator_norm": "batch", "discriminator_norm": "batch", "negatives": "external"}, 1,
     ("/moving_mean", "/moving_variance", "queue/")),
    ({"method": "odcr", "nce_identity_weight": 0.0}, 1, ("_centre1/", "_centre2/", "/mean_square")),
    ({"method": "odcr", "nce_identity_weight": 0.0}, 2, ("_centre1/", "_centre2/", "/mean_square")),
    ({"method": "distancegan", "distance": "self", "pool_images": 3}, 1, ("distances/", "pool/")),
], ids=["discriminator", "generator-and-projector", "classifier", "stiefel", "pool-and-distances"])
def test_an_overflow_in_any_network_leaves_all_networks_as_they_were(tiny_settings, monkeypatch, overrides, update,
                                                                         parts):
    monkeypatch.setattr(distancegan, "FIRST_DISTANCES", 1)
    method = build_method(tiny_settings(**_SMALL, **overrides))
    method.compile(LinearDecay(2e-4, 1, 5, steps_per_epoch=1))
    method.loss_scaling.scale.assign(16.0)
    before = {name: value.numpy() for name, value in method.state().items()}
    method.train_step(steps.batch(seed=0))
    kept = {name: value.numpy() for name, value in method.state().items()}
    for part in ("optimizer/generator/iterations", "optimizer/discriminator/iterations", "ema_generator/", *parts):
        of_part = [name for name in kept if part in name]
        assert of_part, f"{part} is not there"
        assert any(np.any(kept[name] != before[name]) for name in of_part), f"{part} never moves"

    with monkeypatch.context() as patch:
        _overflow_in(patch, method, update)
        terms = steps.numbers(method.train_step(steps.batch(seed=1)))
    assert max(value for name, value in terms.items() if name.startswith("non_finite/")) >= 0
    state = {name: value.numpy() for name, value in method.state().items()}
    for name, value in kept.items():
        if name not in _COUNTED:
            assert state[name].tobytes() == value.tobytes(), name
    assert (state["step"], state["loss_scale"], state["finite_steps"]) == (2, 8.0, 0)
    assert terms["metric/loss_scale"] == 16.0

    rates = steps.numbers(method.train_step(steps.batch(seed=1)))
    assert rates["learning_rate/generator"] == pytest.approx(2e-4 * (1 - 1 / 6))  # the second step of the schedule
    assert int(method.optimizers_by_network["generator"].iterations) == 2
    assert np.any(method.state()["generator/stem/kernel"].numpy() != kept["generator/stem/kernel"])


@pytest.mark.slow
def test_replicas_put_back_the_same(tiny_settings, two_replicas, monkeypatch):
    """Also statistics that each replica moves by its own pictures."""
    with two_replicas.scope():
        method = gain_networks.build(monkeypatch, tiny_settings(
            method="cyclegan", precision="float16", batch_size=2, pool_images=3, ema_decay=0.5), _GAINS)
        moved = tf.Variable(1.0, trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                            aggregation=tf.VariableAggregation.MEAN)
    state, take_step = method.state, method._take_step

    def take_step_and_move(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        moved.assign_add(1.0 + tf.reduce_mean(batch["source"]))
        return take_step(batch)

    monkeypatch.setattr(method, "state", lambda: {**state(), "moved": moved})
    monkeypatch.setattr(method, "_take_step", take_step_and_move)
    train_function = method.make_train_function()
    data = two_replicas.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensor_slices(steps.batch(4)).batch(1))
    iterator = iter(data)
    train_function(iterator)
    kept = {name: value.numpy() for name, value in method.state().items()}
    assert kept["moved"] > 1.5 and kept["step"] == 1 and kept["finite_steps"] == 1
    method.loss_scaling.scale.assign(np.float32(3e38))
    train_function(iterator)
    for name, value in method.state().items():
        if name not in _COUNTED:
            copies = [np.asarray(copy) for copy in two_replicas.experimental_local_results(value)]
            assert name == "moved" or copies[0].tobytes() == copies[1].tobytes() == kept[name].tobytes(), name
    assert method.state()["moved"].numpy() == kept["moved"]
    assert method.step.numpy() == 2 and method.loss_scaling.scale.numpy() == pytest.approx(1.5e38)


@pytest.fixture(name="gains")
def _gains(tiny_settings, monkeypatch) -> Callable[..., TranslationMethod]:
    """gains(): CycleGAN of four numbers, which takes three updates a step, with a scale that grows every third step."""
    monkeypatch.setattr(loss_scaling, "_GROWTH_STEPS", 3)
    return lambda **overrides: gain_networks.build(monkeypatch, tiny_settings(
        method="cyclegan", precision="float16", pool_images=0, ema_decay=0.0, **overrides), _GAINS)


def test_the_scale_doubles_after_so_many_finite_steps_and_not_after_so_many_updates(gains, monkeypatch):
    method, scales = gains(), []
    assert float(method.loss_scaling.scale) == 2.0**15
    method.loss_scaling.scale.assign(8.0)
    for step in range(9):
        with monkeypatch.context() as patch:
            if step == 4:
                _overflow_in(patch, method, 1)
            method.train_step(steps.batch())
        scales.append(float(method.loss_scaling.scale))
    assert scales == [8, 8, 16, 16, 8, 8, 8, 16, 16]
    assert int(method.loss_scaling.finite_steps) == 1 and int(method.step) == 9


def test_the_scale_stays_above_one_where_an_overflow_is_an_error(gains):
    """The third of steps that all overflow: 4, 2, 1."""
    method = gains(log_steps=100)
    method.loss_scaling.scale.assign(4.0)
    broken = {name: images * np.inf for name, images in steps.batch().items()}
    train_function = method.make_train_function()
    for finite in (1.0, 1.0, 0.0):
        train_function(iter([broken]))
        assert method.step_logs["all_finite"] == finite
    assert float(method.loss_scaling.scale) == 1.0
    with pytest.raises(NonFiniteError, match="step 3: not finite: .*gradient of discriminator/gain/kernel"):
        method.check_finite()


def test_without_float16_nothing_is_scaled_or_put_back(tiny_settings, monkeypatch):
    method = gain_networks.build(monkeypatch, tiny_settings(
        method="cyclegan", precision="bfloat16", pool_images=0, ema_decay=0.0), _GAINS)
    terms = steps.numbers(method.train_step(steps.batch()))
    assert float(method.loss_scaling.scale) == 1.0 and "metric/loss_scale" not in terms
    method.train_step({name: images * np.inf for name, images in steps.batch().items()})
    assert float(method.loss_scaling.scale) == 1.0 and int(method.loss_scaling.finite_steps) == 0
    assert np.isnan(gain_networks.gains_of(method)["generator"])


def test_gradients_do_not_depend_on_the_loss_scale(tiny_settings):
    norms, method = [], build_method(tiny_settings(**_SMALL))
    for scale in (32.0, 512.0):
        method.compile(optimizers={name: keras.optimizers.SGD(0.0) for name in method.networks})
        method.loss_scaling.scale.assign(scale)
        method.step.assign(0)
        norms.append(steps.numbers(method.train_step(steps.batch()))["gradient_norm/generator"])
    assert norms[0] == pytest.approx(norms[1], rel=0.05) and norms[0] > 1e-3


# ---- penalties on the discriminator's gradient -----------------------------------------------------------------------

# Half of the way back the gradient is 2.56e-8, which float16 rounds to 0; at the image it is 1.28e-3.
_STAGES = (5e4, 1.6e-4, 1.6e-4)
_SLOPE = float(np.prod(_STAGES))


class _Stages(keras.layers.Layer):
    """Images times three numbers, one after the other, in float16 or float32."""

    def __init__(self, arithmetic: str) -> None:
        super().__init__(name="stages")
        self._arithmetic = arithmetic
        self.numbers = [self.add_weight(name=f"stage{index}", shape=(), initializer=keras.initializers.Constant(value))
                        for index, value in enumerate(_STAGES)]
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        hidden = tf.cast(images, self._arithmetic)
        for number in self.numbers:
            hidden = hidden * tf.cast(tf.convert_to_tensor(number), self._arithmetic)
        return tf.cast(hidden, tf.float32)


class _FadingDiscriminator(keras.Model):
    """Scores of the shape of the images."""

    def __init__(self, dtype: str) -> None:
        super().__init__(name="discriminator")
        self.stages = _Stages(dtype.replace("mixed_", ""))
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.stages(images)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("overrides, name, expected", [
    ({"r1_weight": 3.0}, "loss/r1", 3.0 * 3072 * _SLOPE**2 / 2),
    ({"gan_mode": "wgangp", "gradient_penalty_weight": 7.0}, "loss/gradient_penalty",
     7.0 * (3072**0.5 * _SLOPE - 1) ** 2),
], ids=["r1", "wgangp"])
def test_penalties_in_float16_are_those_of_the_formula(tiny_settings, monkeypatch, precision, overrides, name,
                                                       expected):
    monkeypatch.setattr(networks, "build_generator", lambda *_: gain_networks.GainNetwork("generator"))
    monkeypatch.setattr(networks, "build_discriminator", lambda *given: _FadingDiscriminator(given[-1]))
    method = build_method(tiny_settings(method="distancegan", precision=precision, ema_decay=0.0, pool_images=0,
                                        **overrides))
    method.generator(tf.zeros([1, 4, 4, 3]))
    method.compile()
    assert float(method.train_step(steps.batch())[name]) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("penalty", ["r1", "wgangp"])
def test_gradients_of_penalties_in_float16_are_those_of_float32(penalty):
    """With respect to the small numbers of the discriminator; without the scale those of float16 are 0."""
    images, found = steps.batch(), {}
    for dtype, scale in (("float32", 1.0), ("mixed_float16", 2.0**10), ("mixed_float16", 1.0)):
        discriminator = _FadingDiscriminator(dtype)
        with tf.GradientTape() as tape:
            if penalty == "r1":
                _, value = gradient_penalty.r1_penalty(discriminator, images["source"], scale)
            else:
                value = gradient_penalty.gradient_penalty(discriminator, images["source"], images["target"],
                                                          tf.fill([2, 1, 1, 1], 0.5), scale)
            scaled = value * 0.01 * scale
        gradients = tape.gradient(scaled, [compat.raw_variable(stage) for stage in discriminator.stages.numbers[1:]])
        found[dtype, scale] = [float(gradient) / scale for gradient in gradients]
    exact = found["float32", 1.0]
    assert min(map(abs, exact)) > 0.1
    np.testing.assert_allclose(found["mixed_float16", 2.0**10], exact, rtol=1e-2)
    assert found["mixed_float16", 1.0] == [0.0, 0.0]
