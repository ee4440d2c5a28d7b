"""What terms ask of the output in a state of a run, where that is known; and the tables made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.losses import patch_nce
from cut_tf.methods import build_method
from cut_tf.methods.cut import CUT
from tools.reproduce import alignment, states

_ODCR = {"method": "odcr", "nce_identity_weight": 0.0, "nce_layers": "0,4,8", "wpnce_clear_patches": 12}


def _method(settings: object) -> CUT:
    """With weights large enough that outputs differ from grey."""
    method = build_method(settings)
    for name in ("generator", "discriminator"):
        for weight in method.networks[name].trainable_variables:
            weight.assign(weight * 10.0)
    method.compile()
    return method


@pytest.fixture(name="batch", scope="module")
def _batch(tiny_settings) -> states.Batch:
    return states.test_batch(tiny_settings())


@pytest.fixture(name="odcr", scope="module")
def _odcr(tiny_settings) -> CUT:
    """ODCR after two steps, so that its classifier and its running means have seen pictures."""
    method = _method(tiny_settings(**_ODCR))
    rng = np.random.default_rng(0)
    for _ in range(2):
        method.train_step({name: tf.constant(rng.uniform(-1, 1, [2, 32, 32, 3]), tf.float32)
                           for name in ("source", "target")})
    return method


class _ToTruth(states.State):
    """The same, with the one term whose gradient is known: the squared or the absolute distance to the truth."""

    power = 2

    def losses(self, output: tf.Tensor) -> dict[tuple[str, str], tf.Tensor]:
        distance = tf.reduce_sum(tf.abs(output - self.batch.truth)**self.power)
        return {(states.GAN, states.ALL_LAYERS): distance}


def test_the_squared_distance_to_the_truth_leads_to_the_truth(odcr, batch):
    rows = {row["term"]: row for row in _ToTruth(odcr, batch).terms()}
    row = rows[states.GAN]
    assert row["truth"] == pytest.approx(1.0, abs=1e-5) and row["size"] == pytest.approx(1.0)
    assert row["truth_error"] == pytest.approx(0.0, abs=1e-5)
    # A small step of the weights is the best one of all small steps of the weights, not of the picture's.
    assert 0.0 < row["step_truth"] <= 1.0 and row["step_size"] == pytest.approx(1.0)
    # truth is a mix of haze and content, with the shares of what the outputs lack.
    hazy, truth = batch.hazy.numpy(), batch.truth.numpy()
    lacking = truth - odcr.generator(batch.hazy, training=True).numpy()
    cosines = [np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)
               for one, other in zip(lacking, truth - hazy)]
    assert row["haze"] == pytest.approx(np.mean(cosines), abs=1e-4)
    assert set(rows) == {states.GAN, states.L1_IDENTITY} and "truth" not in rows[states.L1_IDENTITY]


def test_the_absolute_distance_has_the_cosine_of_its_signs(odcr, batch):
    """cos(sign(r), r) = |r|_1 / (sqrt(n) |r|_2)."""
    class Absolute(_ToTruth):
        power = 1

    row = next(iter(Absolute(odcr, batch).terms()))
    lacking = (batch.truth - odcr.generator(batch.hazy, training=True)).numpy().reshape(len(batch.truth), -1)
    expected = np.abs(lacking).sum(1) / np.sqrt(lacking.shape[1]) / np.linalg.norm(lacking, axis=1)
    assert row["truth"] == pytest.approx(expected.mean(), abs=1e-4)


@pytest.fixture(name="found", scope="module")
def _found(odcr, batch) -> dict:
    """What is found in that state of ODCR, whose variables it must not change."""
    before = {name: value.numpy() for name, value in odcr.state().items()}
    state = states.State(odcr, batch)
    found = {"step": 2, "output": state.output_of_pictures(), "terms": list(state.terms()),
             "classifier": state.classifier()}
    for name, value in odcr.state().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    return found


def test_every_reading_and_layer_has_its_row(found):
    rows = found["terms"]
    terms = list(dict.fromkeys(row["term"] for row in rows))
    assert len(terms) == 4 + 2 * 4 * 2 + 4  # decoupled with one role
    assert terms[:3] == [states.GAN, states.PATCH_NCE, states.CONTENT] and terms[-1] == states.L1_IDENTITY
    assert [row["layer"] for row in rows if row["term"] == states.PATCH_NCE] == ["04_down1", "08_down2", "all"]
    values = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert np.isfinite(values).all() and all(abs(row.get("haze", 0.0)) <= 1.0 for row in rows)
    for row in found["classifier"]:
        assert 0.0 <= row["accuracy"] <= 1.0 and abs(row["weights_correlation"]) <= 1.0


def test_states_of_cut_are_asked_with_an_orthonormal_projector_too(tiny_settings, batch):
    """Its content is found in the hazy pictures, its haze question is answered by clear ones; ODCR has its own."""
    method = _method(tiny_settings(nce_identity_weight=0.0, nce_layers="0,4,8"))
    state = states.State(method, batch)
    hazy, clear = (state.losses(pictures) for pictures in (batch.hazy, batch.clear))
    for term in (states.ORTHONORMAL, states.ORTHONORMAL_CONTENT):
        assert float(hazy[term, "all"]) < float(clear[term, "all"]), term
    assert float(hazy[states.HAZE_QUESTION, "all"]) > float(clear[states.HAZE_QUESTION, "all"])
    rows = [row["term"] for row in state.terms()]
    assert rows[-4:] == [states.ORTHONORMAL, states.ORTHONORMAL_CONTENT, states.HAZE_QUESTION, states.L1_IDENTITY]


def test_layers_add_up_and_weights_of_the_loss_count(tiny_settings, batch):
    """PatchNCE of all layers is the mean of the layers', times its weight, in value as in training."""
    method = _method(tiny_settings(nce_weight=3.0, nce_identity_weight=0.0, nce_layers="0,4,8"))
    state = states.State(method, batch)
    output = method.generator(batch.hazy, training=True)
    losses = state.losses(output)
    layers = [losses[states.PATCH_NCE, name] for name in method.feature_names]
    assert float(losses[states.PATCH_NCE, states.ALL_LAYERS]) == pytest.approx(float(sum(layers)), rel=1e-6)
    queries, keys = (method.networks["projector"](method.generator.encode(pictures, (0, 4, 8), training=True),
                                                  state.ids) for pictures in (output, batch.hazy))
    expected = [float(tf.reduce_mean(patch_nce.loss_from_logits(patch_nce.internal_logits(query, key, 0.07))))
                for query, key in zip(queries, keys)]
    np.testing.assert_allclose([float(layer) for layer in layers], expected, rtol=1e-4)  # 3 times a third of each
    assert state.classifier() == []


def test_what_is_left_of_the_haze(odcr, batch):
    state = states.State(odcr, batch)
    state.output = batch.hazy
    found = state.output_of_pictures()
    assert found["haze_left"] == pytest.approx(1.0, abs=1e-5) and found["content_error"] == pytest.approx(0, abs=1e-5)
    state.output = 0.25 * batch.hazy + 0.75 * batch.truth
    assert state.output_of_pictures()["haze_left"] == pytest.approx(0.25, abs=1e-5)


def test_each_checkpoint_is_measured(tiny_settings, tmp_path):
    method = build_method(tiny_settings(nce_identity_weight=0.0, nce_layers="0,4"))
    method.compile()
    for step in (3, 5):
        method.step.assign(step)
        method.save(tmp_path / "run")
        method.generator.trainable_variables[0].assign_add(tf.ones_like(method.generator.trainable_variables[0]))
    found = states.measure(tmp_path / "run")
    assert [state["step"] for state in found] == [3, 5] and found[0]["classifier"] == []
    assert found[0]["output"] != found[1]["output"]


def test_the_tables_have_every_reading(found):
    text = "\n\n".join(alignment.tables("ODCR", [[found], [found]]))
    assert "| term | figure | step 2 |" in text and "| layer | figure | step 2 |" in text
    assert "| WPNCE swapped, max1, split | 08_down2 |" in text and "nan" not in text


def test_means_over_seeds_and_the_greatest_error_are_shown():
    """Worked out by hand: (0.2 + 0.4) / 2 = 0.30; the greater of 0.01 and 0.05."""
    def seed(value: float, error: float) -> list[dict]:
        cosines = {name: value for name in ("truth", "haze", "content")}
        row = {"term": "GAN", "layer": "all", "size": 1.0, **cosines, **{f"{name}_error": error for name in cosines}}
        return [{"step": 7, "output": {"haze_left": value, "content_error": 1.0}, "terms": [row], "classifier": []}]

    parts = alignment.tables("CUT", [seed(0.2, 0.01), seed(0.4, 0.05)])
    assert "| output: haze left |  | 0.30 |" in parts[1] and "| GAN | haze | 0.30 |" in parts[1]
    assert "| GAN | all | 1.00 | 0.30 ± 0.05 | 0.30 ± 0.05 | 0.30 ± 0.05 |" in parts[3] and len(parts) == 4


@pytest.mark.parametrize("overrides, message", [
    ({"preprocess": "none"}, "--set=preprocess must leave crops"),
    ({"preprocess": "resize_and_crop", "load_size_px": 64, "crop_size_px": 48}, "--set=crop_size_px must be at most")])
def test_pictures_must_be_as_large_as_crops(tiny_settings, overrides, message):
    with pytest.raises(InputError, match=message):
        states.test_batch(tiny_settings(**overrides))


def test_a_run_of_another_method_is_refused(tiny_settings, tmp_path: Path):
    method = build_method(tiny_settings(method="gcgan"))
    method.compile()
    method.save(tmp_path / "run")
    with pytest.raises(InputError, match="must be runs of CUT or ODCR.*found gcgan"):
        states.measure(tmp_path / "run")
