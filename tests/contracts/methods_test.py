"""What every training method keeps to, whatever it is: walks the table `METHODS`, so that a new one is tested too.

A method that needs settings of its own gets them in `_EXTRAS`; all others run with the tiny ones of every test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from cut_tf import compat, flags
from cut_tf.export.options import ExportOptions
from cut_tf.export.saved_model.export import save_version
from cut_tf.methods import METHODS, build_method
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.optimizers import Adam
from cut_tf.settings import FIELDS, SECTIONS, Settings, names_in
from cut_tf.translators.run import Translator

_SIDE_PX = 32
_BASE = {"batch_size": 2, "generator_blocks": 0, "discriminator_layers": 1, "nce_layers": "0,8", "ema_decay": 0.5,
         "pool_images": 3}
_TEACHER = "the folder of a run"
_EXTRAS = {
    "cut": {"flip_equivariance": True},
    "distancegan": {"distance": "pairs"},
    "gcgan": {"l1_identity_weight": 1.0},
    "paired": {"source_noise_levels": 4.0},
    "odcr": {"l1_identity_weight": 5.0},
    "sincut": {"generator": "stylegan2", "discriminator": "stylegan2", "stylegan2_size_px": _SIDE_PX, "ngf": 1,
               "ndf": 1, "nce_layers": "0,2", "gan_mode": "nonsaturating", "r1_weight": 1.0, "negatives": "minibatch",
               "num_patches": 1},
    "aecr": {"contrastive_weight": 0.1, "contrastive_features": "random"},
    "distill": {"teacher": _TEACHER},
}
# Those that take longest for what they add are made for two methods, and for all others with -m slow.
_ALWAYS = ("cut", "paired")
_PREFIXES = ("loss/", "metric/", "gradient_norm/", "learning_rate/", "non_finite/")
_STEPS = 3

every_method = pytest.mark.parametrize("trained", METHODS, indirect=True)


def _always(*names: str) -> pytest.MarkDecorator:
    """These methods always, all others with -m slow."""
    return pytest.mark.parametrize("trained", [
        pytest.param(name, marks=() if name in names else pytest.mark.slow) for name in METHODS], indirect=True)


two_methods = _always(*_ALWAYS)


class Trained(NamedTuple):
    """A method after three steps on one replica, saved after the first."""

    settings: Callable[..., Settings]
    method: TranslationMethod
    terms: list[dict[str, float]]  # of every step
    states: list[dict[str, np.ndarray]]  # before the first step, and after every one
    run: Path  # its only checkpoint is that of the first step


def _batches(size: int) -> Iterator:
    """The same pictures each time, a global batch of two at each step."""
    rng = np.random.default_rng(0)
    pictures = {name: rng.uniform(-1, 1, (2 * _STEPS, _SIDE_PX, _SIDE_PX, 3)).astype(np.float32)
                for name in ("source", "target")}
    return tf.data.Dataset.from_tensor_slices(pictures).batch(size)


def _built(settings: Settings) -> TranslationMethod:
    """Compiled to run eagerly, with networks whose every update and term is noticed.

    Epsilon is far above all gradients, so that steps are in proportion to them: Adam's usual ones would hide a wrong
    scale, and follow rounding noise where the true gradient is 0.
    """
    method = build_method(settings)
    for network in method.networks.values():
        for weight in network.trainable_variables:
            if len(weight.shape) == 4 and np.std(weight.numpy()) < 0.05:
                weight.assign(weight * 5.0)
    rate = {"generator": 0.05, "discriminator": 0.05}
    method.compile(optimizers={name: Adam(rate.get(name, 0.05), epsilon=1.0) for name, network in
                               method.networks.items() if network.trainable_variables}, run_eagerly=True)
    return method


def _state(method: TranslationMethod) -> dict[str, np.ndarray]:
    return {name: np.array(variable.numpy()) for name, variable in method.state().items()}


@pytest.fixture(scope="module", name="teacher")
def _teacher(tiny_settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    method.save(folder)
    return folder


@pytest.fixture(scope="module", name="trained")
def _trained(request, tiny_settings, teacher, tmp_path_factory) -> Trained:
    name = request.param
    extras = {key: str(teacher) if value == _TEACHER else value for key, value in _EXTRAS.get(name, {}).items()}

    def settings(**overrides: object) -> Settings:
        return tiny_settings(**{**_BASE, **extras, "method": name, **overrides})

    run, method = tmp_path_factory.mktemp(name) / "run", _built(settings())
    train_function, batches = method.make_train_function(), iter(_batches(2))
    terms, states = [], [_state(method)]
    for step in range(_STEPS):
        train_function(batches)
        terms.append(dict(method.step_logs))
        states.append(_state(method))
        if step == 0:
            method.save(run)
    return Trained(settings, method, terms, states, run)


def _check_same_states(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Up to `tolerance` of the largest number of each variable."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = value.astype(np.float64)
        scale = np.abs(value).max(initial=0.0)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * (scale + 1e-2), err_msg=name)


@every_method
def test_terms_are_named_by_their_kind_and_finite(trained):
    method = trained.method
    for terms in trained.terms:
        assert [name for name in terms if not name.startswith(_PREFIXES)] == ["stop_requested", "all_finite"]
        assert {name: value for name, value in terms.items() if not np.isfinite(value)} == {}
        assert set(method.progress_terms) <= set(terms) and terms["all_finite"] == 1.0
        for network in method.optimizers_by_network:
            assert terms[f"non_finite/{network}"] == -1 and terms[f"gradient_norm/{network}"] > 0, network
            assert terms[f"learning_rate/{network}"] == pytest.approx(0.05)
    assert [state["step"] for state in trained.states] == list(range(_STEPS + 1))


@every_method
def test_every_network_and_its_running_means_move(trained):
    first, last = trained.states[0], trained.states[-1]
    for network in (*trained.method.optimizers_by_network, "ema_generator"):
        names = [name for name in first if name.startswith(f"{network}/")]
        assert max(np.abs(last[name] - first[name]).max() for name in names) > 1e-4, network
        if network != "ema_generator":
            assert last[f"optimizer/{network}/iterations"] == _STEPS


@every_method
def test_a_saved_method_is_restored_bit_for_bit_and_goes_on_as_if_never_stopped(trained):
    again = _built(trained.settings())
    again.restore(trained.run)
    restored, saved = _state(again), trained.states[1]
    assert restored.keys() == saved.keys()
    for name, value in saved.items():
        assert restored[name].dtype == value.dtype and restored[name].tobytes() == value.tobytes(), name
    train_function, batches = again.make_train_function(), iter(_batches(2).skip(1))
    for step in range(1, _STEPS):
        train_function(batches)
        assert dict(again.step_logs) == pytest.approx(trained.terms[step], rel=1e-5, abs=1e-6)
    _check_same_states(_state(again), trained.states[-1], 2e-5)


@_always(*_ALWAYS, "odcr")
def test_two_replicas_take_the_steps_of_one(trained, two_replicas):
    """From the checkpoint of one replica, with all that it remembers."""
    with two_replicas.scope():
        method = _built(trained.settings())
    method.restore(trained.run)
    data = two_replicas.distribute_datasets_from_function(lambda _: _batches(1).skip(2))
    train_function, batches = method.make_train_function(), iter(data)
    for step in range(1, _STEPS):
        train_function(batches)
        found, expected = dict(method.step_logs), trained.terms[step]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            # A patch whose two candidates are all but equal may count as found or not.
            tolerance = 0.15 if "accuracy" in name else 1e-3
            assert found[name] == pytest.approx(value, rel=2e-3, abs=tolerance), f"{name} of step {step + 1}"
    _check_same_states(_state(method), trained.states[-1], 5e-3)
    for network in method.optimizers_by_network:
        for name, variable in compat.named_weights(method.networks[network]).items():
            moved = np.abs(trained.states[-1][f"{network}/{name}"] - trained.states[1][f"{network}/{name}"]).max()
            np.testing.assert_allclose(variable.numpy(), trained.states[-1][f"{network}/{name}"], rtol=0,
                                       atol=2e-2 * moved + 1e-6, err_msg=f"{network}/{name}")
            copies = [copy.numpy() for copy in two_replicas.experimental_local_results(variable)]
            np.testing.assert_array_equal(copies[0], copies[-1], err_msg=f"{network}/{name}")


@two_methods
def test_a_step_in_bfloat16_is_finite_and_keeps_float32_weights(trained):
    method = _built(trained.settings(precision="bfloat16"))
    method.make_train_function()(iter(_batches(2)))
    assert method.step_logs["all_finite"] == 1.0
    assert {name: value for name, value in method.step_logs.items() if not np.isfinite(value)} == {}
    for name, value in _state(method).items():
        assert value.dtype == trained.states[0][name].dtype and np.isfinite(value.astype(np.float64)).all(), name
    for name, value in trained.terms[0].items():
        if name.startswith("loss/"):
            # PatchNCE divides the cosines, with their errors of 1/256, by a temperature of 0.07.
            assert method.step_logs[name] == pytest.approx(value, rel=0.1, abs=0.4 if "nce" in name else 0.05), name


@every_method
def test_the_generator_of_a_run_draws_what_the_method_draws(trained, tmp_path):
    again = _built(trained.settings())
    again.restore(trained.run)
    picture = np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8)
    # Two networks of the same weights, whose sums may be rounded differently.
    assert np.abs(Translator(trained.run)(picture).astype(int) - again.translate(picture)).max() <= 1


@two_methods
def test_the_generator_is_exported_and_loaded_again(trained, tmp_path):
    translator = Translator(trained.run)
    model = tf.saved_model.load(str(save_version(translator, tmp_path / "model", ExportOptions())))
    picture = np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8)
    found = model.signatures["image"](image=tf.constant(picture[None]))["image"].numpy()[0]
    assert np.abs(found.astype(int) - translator(picture)).max() <= 1


@every_method
def test_it_reads_what_its_row_names_and_nothing_else(trained, monkeypatch):
    """While it is built, compiled and trained for a step."""
    settings, read = trained.settings(), set()
    row = METHODS[settings.train.method]

    own = {id(getattr(settings, section)) for section in SECTIONS}

    def recorded(section: object, name: str) -> object:
        if id(section) in own:  # and not of the run that is learned from
            read.update({name} & set(FIELDS))
        return object.__getattribute__(section, name)

    for type_ in SECTIONS.values():
        monkeypatch.setattr(type_, "__getattribute__", recorded)
    method = _built(settings)
    method.make_train_function()(iter(_batches(2)))
    monkeypatch.undo()
    assert read <= set(flags.used_settings(settings))
    for name in row.uses:
        assert read & set(names_in([name])), f"{name} is never read"
