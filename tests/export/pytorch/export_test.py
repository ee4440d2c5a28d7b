"""Runs as state dicts of the official code: what is written is read back, and draws the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.export.options import ExportOptions, Size
from cut_tf.export.pytorch import export
from cut_tf.export.pytorch.export import export_pytorch, official_options
from cut_tf.methods import build_method
from cut_tf.official.run_folders import import_run
from cut_tf.official.weight_files import read_weights
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator

DATA = Path(__file__).parents[2] / "testdata" / "official"


def _exported(tmp_path, settings) -> tuple[object, Path]:
    """A method with random weights, and the folder of its files."""
    method = build_method(settings)
    method.compile()
    rng = np.random.default_rng(0)
    for network in method.networks.values():
        for weight in network.weights:
            weight.assign(weight + rng.uniform(0, 0.2, weight.shape).astype(np.float32))
    trained = compat.named_weights(method.generator)
    for name, mean in compat.named_weights(method.ema_generator).items():
        mean.assign(trained[name])  # by name: Keras 2.15 lists weights that cannot be trained in another order
    method.save(tmp_path / "run")
    return method, export_pytorch(Translator(tmp_path / "run"), tmp_path / "files")


@pytest.mark.parametrize("changes", [
    {}, {"generator_norm": "batch", "antialias_down": False, "discriminator_norm": "batch"},
    {"antialias_up": False, "generator_norm": "none", "discriminator_norm": "none"},
    {"method": "sincut", "generator": "stylegan2", "nce_layers": "0,2,3", "discriminator": "stylegan2", "ndf": 1,
     "stylegan2_size_px": 32, "generator_blocks": 2, "ngf": 1}], ids=str)
def test_a_run_goes_out_and_comes_back(tmp_path, tiny_settings, changes):
    settings = tiny_settings(**changes)
    method, folder = _exported(tmp_path, settings)
    names = {"generator": "G", "discriminator": "D", "projector": "F"}
    suffixes = {path.suffix for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {
        f"latest_net_{short}{suffix}" for short in names.values() for suffix in suffixes}
    files = {name: folder / f"latest_net_{short}.pth" for name, short in names.items()}
    back = import_run(files, tmp_path / "back", settings.patch_nce.nce_layers).settings
    assert {name: value for name, value in back.flat().items() if name in changes} == changes
    translator = Translator(tmp_path / "back")
    for name, network in method.networks.items():
        twin = build_method(settings.having(seed=3)).networks[name]
        translator.restore(twin, name)
        for key, value in compat.named_weights(network).items():
            np.testing.assert_array_equal(compat.named_weights(twin)[key], value, err_msg=f"{name}/{key}")
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    np.testing.assert_array_equal(translator(picture), Translator(tmp_path / "run")(picture))


def test_safetensors_hold_the_same(tmp_path, tiny_settings):
    pytest.importorskip("safetensors", reason="the extra weights (safetensors) is not installed")
    _, folder = _exported(tmp_path, tiny_settings())
    for short in "GDF":
        one, other = (read_weights(folder / f"latest_net_{short}.{suffix}") for suffix in ("pth", "safetensors"))
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize("name", ["cut_G", "cyclegan_G", "batch_G", "sincut_G"])
def test_what_torch_wrote_is_written_again(tmp_path, name):
    """Names, shapes and values, blurs included; and nothing but the generator, which is all that there is."""
    import_run({"generator": DATA / f"{name}.pth"}, tmp_path / "run")
    folder = export_pytorch(Translator(tmp_path / "run"), tmp_path / "files")
    assert {path.stem for path in folder.iterdir()} == {"latest_net_G"}
    expected, found = read_weights(DATA / f"{name}.pth"), read_weights(folder / "latest_net_G.pth")
    if name == "cyclegan_G":  # what instance norms of old versions recorded
        expected = {key: value for key, value in expected.items() if "running" not in key}
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.shape == found[key].shape
        np.testing.assert_allclose(found[key], value, atol=1e-7)


def test_generators_and_options_that_pytorch_files_do_not_have_are_refused(tmp_path, tiny_settings):
    with pytest.raises(InputError, match="--generator=resnet or stylegan2, .* found --generator=aecrnet"):
        _exported(tmp_path, tiny_settings(generator="aecrnet", nce_layers="0,1"))
    assert not (tmp_path / "files").exists()
    translator = Translator(tmp_path / "run")
    with pytest.raises(InputError, match="--size must not be given with --format=pytorch"):
        export_pytorch(translator, tmp_path / "files", ExportOptions(sizes=(Size(32, 32),)))


def test_a_network_that_the_official_code_lacks_is_left_out_by_name(tmp_path, tiny_settings, caplog):
    with caplog.at_level("INFO", "cut_tf"):
        _, folder = _exported(tmp_path, tiny_settings(method="odcr", discriminator_norm="spectral"))
    assert {path.stem for path in folder.iterdir()} == {"latest_net_G"}
    assert "the discriminator is left out" in caplog.text and "the projector is left out" in caplog.text


def test_files_that_are_there_and_a_full_disk_change_nothing(tmp_path, tiny_settings, monkeypatch):
    _, folder = _exported(tmp_path, tiny_settings())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    translator = Translator(tmp_path / "run")
    with pytest.raises(InputError, match=r"latest_net_G\.pth is there already"):
        export_pytorch(translator, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    written, replace = [], export.replace_file

    def fill_up(path: Path, data: bytes) -> None:
        if written:
            raise InputError(f"{path}: must be writable, found: No space left on device")
        written.append(path)
        replace(path, data)

    monkeypatch.setattr(export, "replace_file", fill_up)
    with pytest.raises(InputError, match="No space left"):
        export_pytorch(translator, tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())


def test_the_official_codes_options_are_named():
    assert official_options(Settings.of(antialias_up=False, generator_norm="batch")) == (
        "--netG resnet_9blocks --ngf 64 --normG batch --no_dropout true --no_antialias_up")
    assert official_options(Settings.of(generator="stylegan2", ngf=10)) == (
        "--netG stylegan2 --ngf 10 --crop_size 64 --load_size 64 --stylegan2_G_num_downsampling 1")
    others = Settings.of(ndf=8, discriminator_layers=4, discriminator_norm="batch", projector_width=32,
                         nce_layers="0,4")
    assert official_options(others, "GDF").endswith(
        " --netD n_layers --n_layers_D 4 --ndf 8 --normD batch --netF mlp_sample --netF_nc 32 --nce_layers 0,4")
    others = Settings.of(discriminator="stylegan2", crop_size_px=64, ndf=8, projector="sample",
                         nce_layers="0,2,4")
    assert official_options(others, "DF").endswith(" --netD stylegan2 --ndf 8 --netF sample --nce_layers 0,2,4")
