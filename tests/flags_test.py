"""The flags made from the settings, and the flagfiles that ship with the package."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from absl import flags as absl_flags

from cut_tf import command_line, flags
from cut_tf.common.errors import InputError
from cut_tf.settings import FIELDS, Settings

ROOT = Path(__file__).parents[1]
FLAGFILES = sorted((ROOT / "cut_tf" / "flagfiles").glob("*.flags"))


def _defined() -> absl_flags.FlagValues:
    values = absl_flags.FlagValues()
    flags.define(values)
    return values


def _parsed(*arguments: str) -> absl_flags.FlagValues:
    values = _defined()
    values(["train", *arguments])
    return values


def test_every_setting_has_one_flag_and_no_flag_is_without_setting():
    values = _defined()
    assert set(values) == set(FIELDS)
    for name, field in FIELDS.items():
        assert values[name].default == field.default and type(values[name].default) is type(field.default), name
        assert field.metadata["help"] and field.metadata["help"] in values[name].help, name


def test_defaults_of_the_flags_are_the_default_settings():
    assert flags.settings_from(_parsed()) == Settings()


def test_values_arrive_in_their_settings():
    settings = flags.settings_from(_parsed(
        "--dataset=tfds:cycle_gan/horse2zebra", "--batch_size=4", "--noflip", "--generator_norm=batch",
        "--nce_weight=10", "--flip_equivariance", "--run=/tmp/run with space", "--learning_rate=1e-4", "--seed=7"))
    assert (settings.data.dataset, settings.data.batch_size, settings.data.flip) == (
        "tfds:cycle_gan/horse2zebra", 4, False)
    assert settings.generator.generator_norm == "batch"
    assert (settings.patch_nce.nce_weight, settings.mirroring.flip_equivariance) == (10.0, True)
    assert (settings.train.run, settings.train.seed) == ("/tmp/run with space", 7)
    assert settings.optimizer.learning_rate == 1e-4


def test_settings_and_flags_round_trip():
    """Every saved setting can be given as a flag: a run can be repeated from its settings.json."""
    changed = Settings.of(preprocess="scale_width", scenes_images=3, flip=False, gan_mode="wgangp", temperature=0.2,
                          nce_layers="0,4", ema_decay=0.0, xla=True, jpeg_min=50, sky_at_infinity=True)
    # None is what no flag says.
    arguments = [f"--{name}={value}" for name, value in changed.flat().items() if value is not None]
    assert flags.settings_from(_parsed(*arguments)) == changed


@pytest.mark.parametrize("name", [name for name in FIELDS if flags.choices_of(name)])
def test_unknown_names_are_refused_with_the_known_ones(name):
    known = flags.choices_of(name)
    with pytest.raises(absl_flags.IllegalFlagValueError) as caught:
        _parsed(f"--{name}=no_such_name")
    assert f"--{name}=no_such_name" in str(caught.value)
    for choice in known:
        assert choice in str(caught.value)
        assert _parsed(f"--{name}={choice}")[name].value == choice


@pytest.mark.parametrize("argument", ["--batch_size=two", "--learning_rate=fast", "--flip=perhaps"])
def test_values_of_another_type_are_refused(argument):
    with pytest.raises(absl_flags.IllegalFlagValueError, match=re.escape(argument)):
        _parsed(argument)


def test_unknown_flags_are_refused():
    with pytest.raises(absl_flags.UnrecognizedFlagError, match="batchsize"):
        _parsed("--batchsize=2")


def test_bad_combinations_are_input_errors():
    with pytest.raises(InputError, match=r"--crop_size_px must be at most --load_size_px \(100\)"):
        flags.settings_from(_parsed("--load_size_px=100"))


def test_the_expected_flagfiles_are_there():
    assert {"quickstart", "cut_horse2zebra", "fastcut_horse2zebra", "cut_folder"} <= {path.stem for path in FLAGFILES}


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)  # a flagfile within a flagfile is looked for from the working directory
    settings = flags.settings_from(_parsed(f"--flagfile={path.relative_to(ROOT)}"))
    assert settings.train.run in ("", f"runs/{path.stem}"), "a run is in the user's folder, or in one of its own name"
    assert settings != Settings(), "the file sets nothing"


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_say_what_they_are_for(path):
    """The comment at the head gives paper, command, expected time and score."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines[:next(number for number, line in enumerate(lines) if line.startswith("-"))] if line]
    assert all(line.startswith("#") for line in head)
    told = dict(re.findall(r"^# (\w+): +(\S.*)$", "\n".join(head), re.MULTILINE))
    assert {"Paper", "Command", "Time", "Score"} <= set(told)
    assert re.search(r"\b(19|20)\d\d\b", told["Paper"]), "the paper has a year"
    assert f"{told['Command']} ".startswith(f"python -m cut_tf.train --flagfile=cut_tf/flagfiles/{path.name} ")
    assert " --run=" in told["Command"] or "\n--run=" in path.read_text(encoding="utf-8")
    assert re.search(r"\d", told["Time"]), "the time is a number"
    assert re.search(r"\b(PSNR|SSIM|FID)\b", told["Score"]), "the score is a metric"


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_the_commands_of_the_flagfiles_work(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = re.search(r"^# Command: +python -m cut_tf\.train (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert flags.settings_from(_parsed(*shlex.split(command[1]))).train.run


def test_fastcut_flagfile_has_the_numbers_of_the_paper():
    path = ROOT / "cut_tf" / "flagfiles" / "fastcut_horse2zebra.flags"
    settings = flags.settings_from(_parsed(f"--flagfile={path}"))
    assert (settings.patch_nce.nce_weight, settings.patch_nce.nce_identity_weight) == (10.0, 0.0)
    assert settings.mirroring.flip_equivariance is True
    assert (settings.optimizer.constant_epochs, settings.optimizer.decay_epochs) == (150, 50)


def test_cut_flagfile_has_the_numbers_of_the_paper():
    path = ROOT / "cut_tf" / "flagfiles" / "cut_horse2zebra.flags"
    settings = flags.settings_from(_parsed(f"--flagfile={path}"))
    assert set(settings.changed()) == {"dataset"}
    assert (settings.optimizer.constant_epochs, settings.optimizer.decay_epochs) == (200, 200)
    assert settings.data.batch_size == 1


@pytest.mark.parametrize("method, own", [("cyclegan", []), ("gcgan", ["l1_identity_weight"]), ("distancegan", [])])
def test_baselines_have_the_settings_of_cut_and_their_own(method, own):
    """Cycle 10, identity 0.5 of it, pool 50, geometry 20, distance 1 are defaults."""
    cut, baseline = (flags.settings_from(_parsed(f"--flagfile={ROOT}/cut_tf/flagfiles/{name}_horse2zebra.flags"))
                     for name in ("cut", method))
    assert {line.split(":")[0] for line in baseline.differences(cut)} == {f"--{name}" for name in {"method", *own}}


# ---- which settings a run reads -----------------------------------------------------------------------------------


def _check(*arguments: str, typed: tuple[str, ...] | None = None) -> list[str]:
    values = _parsed(*arguments)
    names = command_line.typed_flags(arguments) if typed is None else typed
    return flags.check_used(flags.settings_from(values), names, values)


@pytest.mark.parametrize("arguments, message", [
    (["--wpnce_scale=softmax"], "--wpnce_scale must be left out unless --method=odcr, found 'softmax' with "
     "--method=cut, which does not read it"),
    (["--method=odcr", "--projector=sample"], "--projector must be left out unless --method=cut or --method=sincut, "
     "found 'sample' with --method=odcr"),
    (["--generator=aecrnet", "--generator_blocks=2"], "--generator_blocks must be left out unless --generator=resnet "
     "or --generator=mobile or --generator=stylegan2 or --generator=gunet, found 2 with --generator=aecrnet"),
    (["--method=paired", "--dataset=photos", "--scenes_images=3"], "--scenes_images must be left out unless "
     "--dataset=scenes or --dataset=rooms, found 3 with --dataset=photos"),
    (["--method=paired", "--ndf=4"], "--ndf must be left out unless --method=cut or --method=sincut or --method=odcr "
     "or --method=cyclegan or --method=gcgan or --method=distancegan, found 4 with --method=paired, which does not"),
    (["--method=paired", "--noantialias_down", "--generator=mobile"], "--antialias_down must be left out unless "
     "--generator=resnet, found False with --generator=mobile"),
])
def test_a_flag_that_nothing_reads_is_refused_with_those_that_would(arguments, message):
    with pytest.raises(InputError) as caught:
        _check(*arguments)
    assert str(caught.value).startswith(message), caught.value


def test_flags_that_are_read_pass():
    assert _check("--method=odcr", "--wpnce_scale=softmax", "--projector_width=8") == []
    assert _check("--dataset=scenes+hazed:photos", "--scenes_images=3", "--haze_variants=2") == []
    assert _check("--noantialias_down", "--generator=mobile") == []


def test_what_a_flagfile_says_of_another_choice_is_told_and_passes():
    """--flagfile=quickstart --method=paired: the flagfile's weights of PatchNCE have no reader."""
    path = f"--flagfile={ROOT}/cut_tf/flagfiles/quickstart.flags"
    unread = _check(path, "--method=paired", typed=("flagfile", "method"))
    assert {"nce_layers", "num_patches", "ndf", "l1_identity_weight"} <= set(unread) and "ngf" not in unread
    with pytest.raises(InputError, match="--num_patches must be left out unless --method=cut"):
        _check(path, "--method=paired", "--num_patches=3", typed=("flagfile", "method", "num_patches"))


@pytest.mark.parametrize("path", sorted((ROOT / "cut_tf" / "flagfiles").glob("*.flags")), ids=lambda path: path.stem)
def test_every_flag_of_a_flagfile_and_of_its_command_is_read(path):
    command = re.search(r"^# Command: +python -m cut_tf\.train (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert _check(*shlex.split(command[1]), typed=()) == []


def test_a_run_prints_what_it_reads_and_what_is_no_default():
    settings = Settings.of(seed=3, ngf=8, num_patches=16, wpnce_haze_weight=0.5, dataset="a+b", scenes_images=7)
    assert flags.changed_lines(settings) == [
        "train: --seed=3", "data: --dataset=a+b", "generator: --ngf=8", "patch_nce: --num_patches=16"]


# ---- networks of another run --------------------------------------------------------------------------------------


def _joined(changes: dict, typed: tuple[str, ...] = (), networks: tuple[str, ...] = ("generator",), **ours: object):
    return flags.with_networks_of(Settings.of(**ours), Settings.of(**changes), networks, typed, "runs/other")


def test_training_takes_over_the_networks_that_it_begins_with():
    other = {"ngf": 8, "antialias_down": False, "ndf": 16, "projector_width": 32, "learning_rate": 1.0,
             "recompute_blocks": True, "nce_layers": "0,4"}
    settings, lines = _joined(other)
    assert settings == Settings.of(ngf=8, antialias_down=False)
    assert lines == ["--ngf=8", "--antialias_down=False"]
    settings, _ = _joined(other, networks=("generator", "discriminator", "projector"), ngf=7)
    assert settings == Settings.of(ngf=8, antialias_down=False, ndf=16, projector_width=32, nce_layers="0,4")
    assert _joined(other, networks=("generator", "projector"), method="odcr")[0].projector == Settings().projector
    assert _joined({"generator": "stylegan2"}, ngf=64)[0].generator.generator == "stylegan2"


def test_a_typed_flag_that_says_otherwise_is_refused():
    assert _joined({"ngf": 8}, typed=("ngf",), ngf=8)[1] == []
    mobile, wanted = {"generator": "mobile"}, {"generator": "mobile", "mobile_output": "fitted"}
    assert _joined(mobile, **wanted)[1] == ["--mobile_output=details"]
    # The weights of one form serve the other.
    assert _joined(mobile, typed=("mobile_output",), **wanted) == (Settings.of(**wanted), [])
    with pytest.raises(InputError, match="--ngf must be left out, or 8 as in --init_from=runs/other, found 7"):
        _joined({"ngf": 8}, typed=("ngf", "seed"), ngf=7)
