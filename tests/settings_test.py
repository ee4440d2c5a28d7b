"""The settings: defaults, rules, JSON, and what may change when a run is continued."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from cut_tf.common.errors import InputError
from cut_tf.settings import FIELDS, OWNERS, SECTIONS, Settings, names_in

# The others cannot be changed alone.
CHANGEABLE = [name for name in FIELDS if name not in ("teacher", "discriminator", "beta_min", "optical_depth_min")]
# What may differ between a run and its continuation: nothing that changes the trained weights.
FREE = {"cache_mb", "data_workers", "test_images", "test_pairs", "crop_border_px", "run", "checkpoint_steps",
        "keep_checkpoints", "log_steps", "image_steps", "eval_steps", "best_metric", "distribution_metric",
        "feature_extractor", "inception_weights", "recompute_blocks", "plain_kernels", "tf32",
        "allow_changed_data", "records_check", "step_cache"}


def _changed(name: str) -> Settings:
    """The default settings with one other value."""
    others = {"dataset": "a,b", "nce_layers": "0,4", "method": "other", "run": "/tmp/x", "init_from": "r",
              "feature_extractor": "random", "inception_weights": "x.h5",
              "contrastive_features": "random", "vgg_weights": "x.h5", "generator": "mobile", "best_metric": "ssim",
              "distribution_metric": "kid", "haze_preset": "real", "depth_kinds": "planes", "noise_kinds": "grey",
              "depth": "maps", "step_cache": "none",
              "airlight_max": 0.9, "gamma_max": 2.9, "noise_max": 24.0}
    default, kind = FIELDS[name].default, FIELDS[name].metadata["kind"]
    if default is None:
        value = others.get(name) or {float: 0.4, int: 50, bool: True}[kind]
        return Settings.of(**{name: value})
    choices = [choice for choice in FIELDS[name].metadata["choices"] if choice != default]
    value = (not default if isinstance(default, bool) else default + 1 if isinstance(default, int) else
             default * 0.5 + 0.1 if isinstance(default, float) else others.get(name) or choices[-1])
    return Settings.of(**{name: value})


def test_defaults_are_those_of_the_paper():
    """CUT, arXiv 2007.15651, and its official code."""
    expected = {
        "preprocess": "resize_and_crop", "load_size_px": 286, "crop_size_px": 256, "flip": True, "batch_size": 1,
        "generator": "resnet", "generator_blocks": 9, "ngf": 64, "generator_norm": "instance",
        "ndf": 64, "discriminator_layers": 3, "discriminator_norm": "instance",
        "antialias_down": True, "antialias_up": True, "projector": "mlp", "projector_width": 256,
        "gan_mode": "lsgan", "gan_weight": 1, "nce_weight": 1, "nce_identity_weight": 1, "l1_identity_weight": 0,
        "gradient_penalty_weight": 10, "nce_layers": "0,4,8,12,16", "num_patches": 256, "num_negatives": 0,
        "temperature": 0.07, "negatives": "internal", "flip_equivariance": False,
        "method": "cut", "constant_epochs": 200, "decay_epochs": 200, "steps_per_epoch": 0,
        "learning_rate": 2e-4, "beta_1": 0.5, "beta_2": 0.999,
        "precision": "float32", "xla": False, "deterministic": False}
    found = Settings().flat()
    assert {name: found[name] for name in expected} == expected
    assert Settings().patch_nce.layers() == (0, 4, 8, 12, 16)


def test_fastcut_is_a_change_of_numbers():
    fastcut = Settings.of(nce_weight=10.0, nce_identity_weight=0.0, flip_equivariance=True, constant_epochs=150,
                          decay_epochs=50)
    assert fastcut.differences(Settings()) == [
        "--constant_epochs: 150 against 200", "--decay_epochs: 50 against 200", "--nce_weight: 10.0 against 1.0",
        "--nce_identity_weight: 0.0 against 1.0", "--flip_equivariance: True against False"]


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().data.batch_size = 2


def test_names_are_unique_and_explained():
    names = [field.name for type_ in SECTIONS.values() for field in dataclasses.fields(type_)]
    assert len(names) == len(set(names))
    for field in FIELDS.values():
        assert len(field.metadata["help"]) > 10, field.name
        assert not field.metadata["choices"] or field.default in field.metadata["choices"], field.name


@pytest.mark.parametrize("values, flag, rule, found", [
    ({"dataset": ""}, "dataset", "a folder or another form that --help lists", "''"),
    ({"preprocess": "zoom"}, "preprocess",
     "one of resize_and_crop, scale_width, crop, zoom_and_crop, none", "'zoom'"),
    ({"load_size_px": 0, "preprocess": "crop"}, "load_size_px", "more than zero", "0"),
    ({"load_size_px": -3}, "load_size_px", "zero or more", "-3"),
    ({"load_size_px": 255}, "crop_size_px", "at most --load_size_px (255) with", "256"),
    ({"preprocess": "scale_width", "load_size_px": 255}, "crop_size_px",
     "at most --load_size_px (255) with", "256"),
    ({"preprocess": "zoom_and_crop", "load_size_px": 255}, "crop_size_px",
     "at most --load_size_px (255) with", "256"),
    ({"crop_size_px": 15}, "crop_size_px", "at least 16", "15"),
    ({"scenes_size_px": 15}, "scenes_size_px", "at least 16", "15"),
    ({"scenes_images": 0}, "scenes_images", "more than zero", "0"),
    ({"batch_size": 0}, "batch_size", "more than zero", "0"),
    ({"batch_size": 2, "preprocess": "none"}, "batch_size", "1 with --preprocess=none", "2"),
    ({"cache_mb": -1}, "cache_mb", "zero or more", "-1"),
    ({"data_workers": -1}, "data_workers", "zero or more", "-1"),
    ({"test_images": -1}, "test_images", "zero or more", "-1"),
    ({"test_images": 0}, "test_images", "more than zero", "0"),
    ({"stylegan2_downsamplings": 9}, "stylegan2_downsamplings", "from 0 to 8", "9"),
    ({"crop_border_px": -1}, "crop_border_px", "zero or more", "-1"),
    ({"generator_blocks": -1}, "generator_blocks", "zero or more", "-1"),
    ({"ngf": 0}, "ngf", "more than zero", "0"),
    ({"ndf": 0}, "ndf", "more than zero", "0"),
    ({"discriminator_layers": 0}, "discriminator_layers", "more than zero", "0"),
    ({"projector_width": 0}, "projector_width", "more than zero", "0"),
    ({"generator_norm": "layer"}, "generator_norm", "one of instance, batch, none", "'layer'"),
    ({"discriminator_norm": "x"}, "discriminator_norm", "one of instance, batch, none", "'x'"),
    ({"projector": "x"}, "projector", "one of mlp, sample", "'x'"),
    ({"gan_mode": "hinge"}, "gan_mode", "one of lsgan, vanilla, nonsaturating, wgangp", "'hinge'"),
    ({"gan_weight": -1.0}, "gan_weight", "zero or more", "-1.0"),
    ({"nce_weight": float("nan")}, "nce_weight", "a finite number", "nan"),
    ({"nce_identity_weight": float("inf")}, "nce_identity_weight", "a finite number", "inf"),
    ({"l1_identity_weight": -0.5}, "l1_identity_weight", "zero or more", "-0.5"),
    ({"gradient_penalty_weight": -0.5}, "gradient_penalty_weight", "zero or more", "-0.5"),
    ({"temperature": 0.0}, "temperature", "more than zero", "0.0"),
    ({"num_patches": 0}, "num_patches", "more than zero", "0"),
    ({"num_negatives": 256}, "num_negatives", "below --num_patches (256) with", "256"),
    ({"num_negatives": 3, "negatives": "minibatch"}, "num_negatives", "0 unless --negatives=internal",
     "3"),
    ({"negatives": "none"}, "negatives", "one of internal, minibatch, external, internal_external",
     "'none'"),
    *[({"nce_layers": text}, "nce_layers", "comma-separated, distinct, growing stage numbers", repr(text))
      for text in ("", "a", "0,,4", "4,0", "4,4", "-1,4", "0.5")],
    ({"learning_rate": 0.0}, "learning_rate", "more than zero", "0.0"),
    ({"beta_1": 1.0}, "beta_1", "below 1", "1.0"),
    ({"beta_2": 1.5}, "beta_2", "below 1", "1.5"),
    ({"ema_decay": 1.0}, "ema_decay", "below 1", "1.0"),
    ({"ema_decay": -0.1}, "ema_decay", "zero or more", "-0.1"),
    ({"constant_epochs": 0, "decay_epochs": 0}, "constant_epochs",
     "positive, unless --decay_epochs is", "0"),
    ({"decay_epochs": -1}, "decay_epochs", "zero or more", "-1"),
    ({"seed": -1}, "seed", "zero or more", "-1"),
    ({"steps_per_epoch": -1}, "steps_per_epoch", "zero or more", "-1"),
    ({"num_virtual_devices": -1}, "num_virtual_devices", "zero or more", "-1"),
    ({"precision": "int8"}, "precision", "one of float32, bfloat16, float16", "'int8'"),
    *[({name: 0}, name, "more than zero", "0")
      for name in ("checkpoint_steps", "keep_checkpoints", "log_steps", "image_steps", "eval_steps")],
])
def test_every_rule_names_flag_rule_and_value(values, flag, rule, found):
    with pytest.raises(InputError) as caught:
        Settings.of(**values)
    message = str(caught.value)
    assert message.startswith(f"--{flag} must be {rule}"), message
    assert message.endswith(f", found {found}"), message


def test_gradient_penalty_needs_images_of_equal_size():
    with pytest.raises(InputError) as caught:
        Settings.of(preprocess="none", gan_mode="wgangp")
    message = str(caught.value)
    assert message.startswith("--gan_mode must be a mode other than wgangp with --preprocess=none")
    assert message.endswith(", found 'wgangp'")
    Settings.of(preprocess="crop", gan_mode="wgangp")


@pytest.mark.parametrize("values", [
    {"preprocess": "none", "batch_size": 1},
    {"preprocess": "crop", "load_size_px": 16, "crop_size_px": 512},
    {"load_size_px": 16, "crop_size_px": 16, "cache_mb": 0, "discriminator_layers": 2},
    {"nce_layers": "3"},
    {"num_negatives": 255},
    {"gan_weight": 0.0, "nce_weight": 0.0},
    {"constant_epochs": 0, "decay_epochs": 1},
    {"constant_epochs": 1, "decay_epochs": 0, "ema_decay": 0.0},
])
def test_allowed_ends_of_the_rules(values):
    flat = Settings.of(**values).flat()
    assert all(flat[name] == value for name, value in values.items())


def test_json_round_trip():
    settings = Settings.of(dataset="Möwen, A", batch_size=4, ngf=8, temperature=0.1, learning_rate=1e-5, xla=True)
    assert Settings.from_json(settings.to_json(), "x") == settings
    assert Settings.from_json(Settings().to_json(), "x") == Settings()


def test_json_is_readable():
    text = Settings().to_json()
    assert text.endswith("}\n") and "\n    " in text
    assert json.loads(text)["data"]["batch_size"] == 1
    assert list(json.loads(text)) == list(SECTIONS)


def _without(section: str) -> str:
    values = json.loads(Settings().to_json())
    del values[section]
    return json.dumps(values)


def _with(section: str, name: str, value: object) -> str:
    values = json.loads(Settings().to_json())
    values[section][name] = value
    return json.dumps(values)


@pytest.mark.parametrize("text, finding", [
    (_with("data", "colour", 1), "colour"), (_without("train"), "train"),
    (_with("data", "batch_size", 0), "--batch_size"),
    (_with("data", "batch_size", "many"), ""), (_with("patch_nce", "nce_layers", None), ""),
    (_with("data", "flip", "no"), "--flip"), (_with("train", "seed", 0.5), "--seed"),
    ("{", ""), ("", ""), ("[]", ""), ("null", ""), ("7", ""), ('{"data": 1, "train": 1}', "")])
def test_what_is_not_the_settings_of_a_run_is_named(text, finding):
    with pytest.raises(InputError) as caught:
        Settings.from_json(text, "/runs/x/settings.json")
    message = str(caught.value)
    assert message.startswith("/runs/x/settings.json: not the settings of a cut_tf run: ") and finding in message


def test_settings_saved_before_a_setting_existed_get_its_default():
    values = json.loads(Settings.of(seed=5).to_json())
    del values["optimizer"]["ema_decay"]
    del values["stylegan2"]
    assert Settings.from_json(json.dumps(values), "x") == Settings.of(seed=5)


@pytest.mark.parametrize("generator, padding", [("mobile", "zeros"), ("resnet", "repeat")])
def test_a_run_of_the_light_generator_keeps_the_padding_that_it_was_trained_with(generator, padding):
    values = json.loads(Settings.of(generator=generator, generator_norm="none").to_json())
    del values["mobile"]
    assert Settings.from_json(json.dumps(values), "x").mobile.mobile_padding == padding
    values["mobile"] = {"mobile_padding": "repeat"}
    assert Settings.from_json(json.dumps(values), "x").mobile.mobile_padding == "repeat"


@pytest.mark.parametrize("name", CHANGEABLE)
def test_differences(name):
    other = _changed(name)
    lines = other.differences(Settings())
    if name in FREE:
        assert lines == []
    else:
        assert lines == [f"--{name}: {other.flat()[name]!r} against {FIELDS[name].default!r}"]


def test_another_teacher_is_a_difference():
    """It cannot be set without the method that uses it."""
    one, other = (Settings.of(method="distill", teacher=teacher) for teacher in ("one", "other"))
    assert one.differences(other) == ["--teacher: 'one' against 'other'"]


def test_another_discriminator_is_a_difference():
    """It cannot be set without the crop that it is made for."""
    one, other = (Settings.of(crop_size_px=64, discriminator=name) for name in ("patch", "stylegan2"))
    assert one.differences(other) == ["--discriminator: 'patch' against 'stylegan2'"]


def test_no_difference_from_itself():
    assert Settings().differences(Settings()) == []


def test_help_mentions_units():
    """Sizes, durations and weights carry their unit in the name, as the module's docstring says."""
    pattern = re.compile(r"(pixels|steps between|epochs)\b")
    for field in FIELDS.values():
        if field.metadata["kind"] is int and pattern.match(field.metadata["help"]):
            assert field.name.endswith(("_px", "_steps", "_epochs")), field.name


def test_settings_by_their_own_names():
    settings = Settings.of(ngf=8, temperature=0.1)
    assert (settings.generator.ngf, settings.patch_nce.temperature) == (8, 0.1)
    assert settings.changed() == {"ngf": 8, "temperature": 0.1}
    other = settings.having(ngf=16, method="cut")
    assert other.changed() == {"ngf": 16, "temperature": 0.1} and settings.generator.ngf == 8
    with pytest.raises(TypeError, match="not settings: ngff, x"):
        Settings.of(x=1, ngff=8)


def test_uses_are_sections_and_single_settings():
    assert list(names_in(["gan.*", "ngf"])) == ["ngf", "gan_mode", "gan_weight", "gradient_penalty_weight", "r1_weight"]
    assert set(names_in(f"{section}.*" for section in SECTIONS)) == set(OWNERS) == set(FIELDS)
    with pytest.raises(KeyError, match="neither sections nor settings: gam"):
        names_in(["gam.*"])


def test_settings_of_version_0_2_are_read():
    """They had four sections: data, network, loss, train."""
    old = {"data": {"dataset": "photos", "scenes_images": 7}, "network": {"ngf": 8, "ndf": 16},
           "loss": {"nce_weight": 2.0, "cycle_weight": 1.0}, "train": {"seed": 3, "learning_rate": 0.1}}
    assert Settings.from_json(json.dumps(old), "x").changed() == {
        "dataset": "photos", "scenes_images": 7, "ngf": 8, "ndf": 16, "nce_weight": 2.0, "cycle_weight": 1.0,
        "seed": 3, "learning_rate": 0.1}
