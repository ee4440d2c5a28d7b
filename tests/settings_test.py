"""The settings: defaults, rules, JSON, and what may change when a run is continued."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from cut_tf.errors import InputError
from cut_tf.settings import SECTIONS, DataSettings, LossSettings, NetworkSettings, Settings, TrainSettings

FIELDS = [(section.name, field) for section in SECTIONS for field in dataclasses.fields(section.type_)]
CHANGEABLE = [(section, field) for section, field in FIELDS
              if len(field.metadata["choices"]) != 1 and field.name not in ("teacher", "discriminator")]
# What may differ between a run and its continuation: nothing that changes the trained weights.
FREE = {"cache_mb", "data_workers", "test_images", "test_pairs", "crop_border_px", "run", "checkpoint_steps",
        "keep_checkpoints", "log_steps", "image_steps", "eval_steps", "best_metric", "distribution_metric",
        "feature_extractor", "inception_weights", "recompute_blocks", "plain_kernels", "tf32",
        "allow_changed_data"}


def _changed(name: str, section: str, default: object) -> Settings:
    """The default settings with one other value."""
    others = {"dataset": "a,b", "nce_layers": "0,4", "method": "other", "run": "/tmp/x",
              "feature_extractor": "random", "inception_weights": "x.h5",
              "contrastive_features": "random", "vgg_weights": "x.h5"}
    choices = [choice for field in dataclasses.fields(type(getattr(Settings(), section))) if field.name == name
               for choice in field.metadata["choices"] if choice != default]
    value = (not default if isinstance(default, bool) else default + 1 if isinstance(default, int) else
             default * 0.5 + 0.1 if isinstance(default, float) else others.get(name) or choices[-1])
    parts = {section: dataclasses.replace(getattr(Settings(), section), **{name: value})}
    return dataclasses.replace(Settings(), **parts)


def test_defaults_are_those_of_the_paper():
    """CUT, arXiv 2007.15651, and its official code."""
    data, network, loss, train = DataSettings(), NetworkSettings(), LossSettings(), TrainSettings()
    assert (data.preprocess, data.load_size_px, data.crop_size_px) == ("resize_and_crop", 286, 256)
    assert data.flip is True and data.batch_size == 1
    assert (network.generator, network.generator_blocks, network.ngf, network.generator_norm) == (
        "resnet", 9, 64, "instance")
    assert (network.ndf, network.discriminator_layers, network.discriminator_norm) == (64, 3, "instance")
    assert network.antialias_down is True and network.antialias_up is True
    assert (network.projector, network.projector_width) == ("mlp", 256)
    assert (loss.gan_mode, loss.gan_weight, loss.nce_weight, loss.nce_identity_weight) == ("lsgan", 1, 1, 1)
    assert (loss.l1_identity_weight, loss.gradient_penalty_weight) == (0, 10)
    assert loss.nce_layers == "0,4,8,12,16" and loss.layers() == (0, 4, 8, 12, 16)
    assert (loss.num_patches, loss.num_negatives, loss.temperature) == (256, 0, 0.07)
    assert loss.negatives == "internal" and loss.flip_equivariance is False
    assert (train.method, train.constant_epochs, train.decay_epochs, train.steps_per_epoch) == ("cut", 200, 200, 0)
    assert (train.learning_rate, train.beta_1, train.beta_2) == (2e-4, 0.5, 0.999)
    assert (train.precision, train.xla, train.deterministic) == ("float32", False, False)


def test_fastcut_is_a_change_of_numbers():
    loss = LossSettings(nce_weight=10.0, nce_identity_weight=0.0, flip_equivariance=True)
    train = TrainSettings(constant_epochs=150, decay_epochs=50)
    assert Settings(loss=loss, train=train).differences(Settings()) == [
        "--nce_weight: 10.0 against 1.0", "--nce_identity_weight: 0.0 against 1.0",
        "--flip_equivariance: True against False", "--constant_epochs: 150 against 200",
        "--decay_epochs: 50 against 200"]


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().data.batch_size = 2


def test_names_are_unique_and_explained():
    names = [field.name for _, field in FIELDS]
    assert len(names) == len(set(names))
    for _, field in FIELDS:
        assert len(field.metadata["help"]) > 10, field.name
        assert not field.metadata["choices"] or field.default in field.metadata["choices"], field.name


@pytest.mark.parametrize("section, values, flag, rule, found", [
    (DataSettings, {"dataset": ""}, "dataset",
     "scenes, a folder, two folders A,B, haze:TRAIN_DIR[,TEST_DIR], hazed:CLEAR_DIR[,TEST_DIR] or tfds:NAME", "''"),
    (DataSettings, {"preprocess": "zoom"}, "preprocess",
     "one of resize_and_crop, scale_width, crop, zoom_and_crop, none", "'zoom'"),
    (DataSettings, {"load_size_px": 0, "preprocess": "crop"}, "load_size_px", "more than zero", "0"),
    (DataSettings, {"load_size_px": -3}, "load_size_px", "zero or more", "-3"),
    (DataSettings, {"load_size_px": 255}, "crop_size_px", "at most --load_size_px (255) with", "256"),
    (DataSettings, {"preprocess": "scale_width", "load_size_px": 255}, "crop_size_px",
     "at most --load_size_px (255) with", "256"),
    (DataSettings, {"crop_size_px": 15}, "crop_size_px", "at least 16", "15"),
    (DataSettings, {"scenes_size_px": 15}, "scenes_size_px", "at least 16", "15"),
    (DataSettings, {"scenes_images": 0}, "scenes_images", "more than zero", "0"),
    (DataSettings, {"batch_size": 0}, "batch_size", "more than zero", "0"),
    (DataSettings, {"batch_size": 2, "preprocess": "none"}, "batch_size", "1 with --preprocess=none", "2"),
    (DataSettings, {"cache_mb": -1}, "cache_mb", "zero or more", "-1"),
    (DataSettings, {"data_workers": -1}, "data_workers", "zero or more", "-1"),
    (DataSettings, {"test_images": -1}, "test_images", "zero or more", "-1"),
    (DataSettings, {"crop_border_px": -1}, "crop_border_px", "zero or more", "-1"),
    (NetworkSettings, {"generator": "unet"}, "generator", "one of resnet", "'unet'"),
    (NetworkSettings, {"generator_blocks": -1}, "generator_blocks", "zero or more", "-1"),
    (NetworkSettings, {"ngf": 0}, "ngf", "more than zero", "0"),
    (NetworkSettings, {"ndf": 0}, "ndf", "more than zero", "0"),
    (NetworkSettings, {"discriminator_layers": 0}, "discriminator_layers", "more than zero", "0"),
    (NetworkSettings, {"projector_width": 0}, "projector_width", "more than zero", "0"),
    (NetworkSettings, {"generator_norm": "layer"}, "generator_norm", "one of instance, batch, none", "'layer'"),
    (NetworkSettings, {"discriminator_norm": "x"}, "discriminator_norm", "one of instance, batch, none", "'x'"),
    (NetworkSettings, {"projector": "x"}, "projector", "one of mlp, sample", "'x'"),
    (LossSettings, {"gan_mode": "hinge"}, "gan_mode", "one of lsgan, vanilla, nonsaturating, wgangp", "'hinge'"),
    (LossSettings, {"gan_weight": -1.0}, "gan_weight", "zero or more", "-1.0"),
    (LossSettings, {"nce_weight": float("nan")}, "nce_weight", "a finite number", "nan"),
    (LossSettings, {"nce_identity_weight": float("inf")}, "nce_identity_weight", "a finite number", "inf"),
    (LossSettings, {"l1_identity_weight": -0.5}, "l1_identity_weight", "zero or more", "-0.5"),
    (LossSettings, {"gradient_penalty_weight": -0.5}, "gradient_penalty_weight", "zero or more", "-0.5"),
    (LossSettings, {"temperature": 0.0}, "temperature", "more than zero", "0.0"),
    (LossSettings, {"num_patches": 0}, "num_patches", "more than zero", "0"),
    (LossSettings, {"num_negatives": 256}, "num_negatives", "below --num_patches (256) with", "256"),
    (LossSettings, {"num_negatives": 3, "negatives": "minibatch"}, "num_negatives", "0 unless --negatives=internal",
     "3"),
    (LossSettings, {"negatives": "none"}, "negatives", "one of internal, minibatch, external, internal_external",
     "'none'"),
    *[(LossSettings, {"nce_layers": text}, "nce_layers", "comma-separated, distinct, growing stage numbers", repr(text))
      for text in ("", "a", "0,,4", "4,0", "4,4", "-1,4", "0.5")],
    (TrainSettings, {"learning_rate": 0.0}, "learning_rate", "more than zero", "0.0"),
    (TrainSettings, {"beta_1": 1.0}, "beta_1", "below 1", "1.0"),
    (TrainSettings, {"beta_2": 1.5}, "beta_2", "below 1", "1.5"),
    (TrainSettings, {"ema_decay": 1.0}, "ema_decay", "below 1", "1.0"),
    (TrainSettings, {"ema_decay": -0.1}, "ema_decay", "zero or more", "-0.1"),
    (TrainSettings, {"constant_epochs": 0, "decay_epochs": 0}, "constant_epochs",
     "positive, unless --decay_epochs is", "0"),
    (TrainSettings, {"decay_epochs": -1}, "decay_epochs", "zero or more", "-1"),
    (TrainSettings, {"seed": -1}, "seed", "zero or more", "-1"),
    (TrainSettings, {"steps_per_epoch": -1}, "steps_per_epoch", "zero or more", "-1"),
    (TrainSettings, {"num_virtual_devices": -1}, "num_virtual_devices", "zero or more", "-1"),
    (TrainSettings, {"precision": "int8"}, "precision", "one of float32, bfloat16, float16", "'int8'"),
    (TrainSettings, {"best_metric": "lpips"}, "best_metric", "one of fid, kid, psnr, ssim", "'lpips'"),
    (TrainSettings, {"best_metric": "fid", "distribution_metric": "kid"}, "best_metric",
     "psnr, ssim or --distribution_metric (kid)", "'fid'"),
    *[(TrainSettings, {name: 0}, name, "more than zero", "0")
      for name in ("checkpoint_steps", "keep_checkpoints", "log_steps", "image_steps", "eval_steps")],
])
def test_every_rule_names_flag_rule_and_value(section, values, flag, rule, found):
    with pytest.raises(InputError) as caught:
        section(**values)
    message = str(caught.value)
    assert message.startswith(f"--{flag} must be {rule}"), message
    assert message.endswith(f", found {found}"), message


def test_gradient_penalty_needs_images_of_equal_size():
    with pytest.raises(InputError) as caught:
        Settings(data=DataSettings(preprocess="none"), loss=LossSettings(gan_mode="wgangp"))
    message = str(caught.value)
    assert message.startswith("--gan_mode must be another than wgangp with --preprocess=none")
    assert message.endswith(", found 'wgangp'")
    Settings(data=DataSettings(preprocess="crop"), loss=LossSettings(gan_mode="wgangp"))


@pytest.mark.parametrize("section, values", [
    (DataSettings, {"preprocess": "none", "batch_size": 1}),
    (DataSettings, {"preprocess": "crop", "load_size_px": 16, "crop_size_px": 512}),
    (DataSettings, {"load_size_px": 16, "crop_size_px": 16, "cache_mb": 0}),
    (LossSettings, {"nce_layers": "3"}),
    (LossSettings, {"num_negatives": 255}),
    (LossSettings, {"gan_weight": 0.0, "nce_weight": 0.0}),
    (TrainSettings, {"constant_epochs": 0, "decay_epochs": 1}),
    (TrainSettings, {"constant_epochs": 1, "decay_epochs": 0, "ema_decay": 0.0}),
])
def test_allowed_ends_of_the_rules(section, values):
    assert all(getattr(section(**values), name) == value for name, value in values.items())


def test_json_round_trip():
    settings = Settings(data=DataSettings(dataset="Möwen, A", batch_size=4), network=NetworkSettings(ngf=8),
                        loss=LossSettings(temperature=0.1), train=TrainSettings(learning_rate=1e-5, xla=True))
    assert Settings.from_json(settings.to_json(), "x") == settings
    assert Settings.from_json(Settings().to_json(), "x") == Settings()


def test_json_is_readable():
    text = Settings().to_json()
    assert text.endswith("}\n") and "\n    " in text
    assert json.loads(text)["data"]["batch_size"] == 1
    assert list(json.loads(text)) == ["data", "network", "loss", "train"]


def _without(section: str) -> str:
    values = json.loads(Settings().to_json())
    del values[section]
    return json.dumps(values)


def _with(section: str, name: str, value: object) -> str:
    values = json.loads(Settings().to_json())
    values[section][name] = value
    return json.dumps(values)


@pytest.mark.parametrize("text, finding", [
    (_with("data", "colour", 1), "colour"), (_without("loss"), "loss"),
    (_with("data", "batch_size", 0), "--batch_size"),
    (_with("data", "batch_size", "many"), ""), (_with("loss", "nce_layers", None), ""),
    (_with("data", "flip", "no"), "--flip"), (_with("train", "seed", 0.5), "--seed"),
    ("{", ""), ("", ""), ("[]", ""), ("null", ""), ("7", ""), ('{"data": 1, "network": 1, "loss": 1, "train": 1}', "")])
def test_what_is_not_the_settings_of_a_run_is_named(text, finding):
    with pytest.raises(InputError) as caught:
        Settings.from_json(text, "/runs/x/settings.json")
    message = str(caught.value)
    assert message.startswith("/runs/x/settings.json: not the settings of a cut_tf run: ") and finding in message


def test_settings_saved_before_a_setting_existed_get_its_default():
    values = json.loads(Settings(train=TrainSettings(seed=5)).to_json())
    del values["train"]["ema_decay"]
    assert Settings.from_json(json.dumps(values), "x") == Settings(train=TrainSettings(seed=5))


@pytest.mark.parametrize("section, field", CHANGEABLE, ids=[field.name for _, field in CHANGEABLE])
def test_differences(section, field):
    other = _changed(field.name, section, field.default)
    lines = other.differences(Settings())
    if field.name in FREE:
        assert lines == []
    else:
        value = getattr(getattr(other, section), field.name)
        assert lines == [f"--{field.name}: {value!r} against {field.default!r}"]


def test_another_teacher_is_a_difference():
    """It cannot be set without the method that uses it."""
    one, other = (Settings(train=TrainSettings(method="distill", teacher=teacher)) for teacher in ("one", "other"))
    assert one.differences(other) == ["--teacher: 'one' against 'other'"]


def test_another_discriminator_is_a_difference():
    """It cannot be set without the crop that it is made for."""
    one, other = (Settings(DataSettings(crop_size_px=64), NetworkSettings(discriminator=name))
                  for name in ("patch", "stylegan2"))
    assert one.differences(other) == ["--discriminator: 'patch' against 'stylegan2'"]


def test_no_difference_from_itself():
    assert Settings().differences(Settings()) == []


def test_help_mentions_units():
    """Sizes, durations and weights carry their unit in the name, as the module's docstring says."""
    pattern = re.compile(r"(pixels|steps between|epochs)\b")
    for _, field in FIELDS:
        if isinstance(field.default, int) and not isinstance(field.default, bool) \
                and pattern.match(field.metadata["help"]):
            assert field.name.endswith(("_px", "_steps", "_epochs")), field.name
