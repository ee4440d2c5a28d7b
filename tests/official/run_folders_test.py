"""Official weight files become runs that draw what PyTorch draws; what cannot be one is refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cut_tf import networks
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common import files
from cut_tf.common.errors import InputError
from cut_tf.networks.heads.patch_projector import PatchProjector, normalise
from cut_tf.official.names import state_dict
from cut_tf.official.run_folders import import_run
from cut_tf.official.weight_files import read_weights
from cut_tf.official.writing import pth_bytes
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator
from tools.check_parity.torch_weights import load

DATA = Path(__file__).parents[1] / "testdata" / "official"
GOLDEN = DATA.parent / "golden"
EXPECTED = np.load(DATA / "expected.npz")
# Of largest magnitude.
_TOLERANCE = 1e-4
SETTINGS = {
    "cut_G": {"generator_blocks": 5, "ngf": 4},
    "cyclegan_G": {"method": "cyclegan", "generator_blocks": 6, "ngf": 2, "antialias_down": False,
                   "antialias_up": False},
    "dropout_G": {"generator_blocks": 1, "ngf": 3, "antialias_down": False},
    "batch_G": {"generator_blocks": 2, "ngf": 3, "antialias_up": False, "generator_norm": "batch"},
    "none_G": {"generator_blocks": 1, "ngf": 3, "generator_norm": "none"},
    "sincut_G": {"method": "sincut", "generator": "stylegan2", "generator_blocks": 4, "ngf": 1, "nce_layers": "0,2,4",
                 "load_size_px": 64, "crop_size_px": 64},
}


def _file(name: str) -> Path:
    if name == "none_G":
        pytest.importorskip("safetensors", reason="the extra weights (safetensors) is not installed")
        return DATA / "none_G.safetensors"
    return DATA / f"{name}.pth"


def _close(found: np.ndarray, expected: np.ndarray) -> None:
    """NHWC and NCHW; the official output of odd sizes is larger (SinCUT: smaller), and begins with ours."""
    expected = expected.transpose(0, 2, 3, 1)[:, :found.shape[1], :found.shape[2]]
    found = found[:, :expected.shape[1], :expected.shape[2]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=_TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_draws_what_pytorch_draws_at_any_size(tmp_path, name):
    imported = import_run({"generator": _file(name)}, tmp_path / "run")
    changed = imported.settings.changed()
    assert {key: changed.pop(key) for key in ("ema_decay", "odd_sizes", "dataset")} == {
        "ema_decay": 0.0, "odd_sizes": "official", "dataset": "unknown"}
    assert changed == {"load_size_px": 256, **SETTINGS[name]}
    assert bool(imported.notes) == (name in ("dropout_G", "sincut_G"))
    translator, sizes = Translator(tmp_path / "run"), 0
    for key in EXPECTED.files:
        if key.startswith(f"{name}."):
            picture = EXPECTED[f"picture.{key.split('.')[1]}"].transpose(0, 2, 3, 1)
            found = translator.generator((picture / 127.5 - 1).astype(np.float32), training=False).numpy()
            assert found.shape == picture.shape and found.std() > 0.05
            _close(found, EXPECTED[key])
            levels = np.clip(np.round((found[0] + 1) * 127.5), 0, 255)
            np.testing.assert_allclose(translator(picture[0]), levels, atol=1)
            sizes += 1
    assert sizes == 4


def test_discriminator_and_projector_come_along(tmp_path):
    files = {"generator": _file("cut_G"), "discriminator": _file("cut_D"), "projector": _file("cut_F")}
    settings = import_run(files, tmp_path / "run").settings
    assert (settings.discriminator.ndf, settings.patchgan.discriminator_layers) == (4, 1)
    assert (settings.projector.projector, settings.projector.projector_width) == ("mlp", 8)
    assert settings.train.method == "cut" and settings.patch_nce.nce_layers == "0,4,8,12,16"
    translator = Translator(tmp_path / "run")
    assert CheckpointStore(tmp_path / "run", 1).networks(0) == set(files)
    discriminator = networks.build_discriminator(settings)
    translator.restore(discriminator, "discriminator")
    for size in ("16x24", "21x30", "27x17", "18x22"):
        picture = EXPECTED[f"picture.{size}"].transpose(0, 2, 3, 1)
        _close(discriminator((picture / 127.5 - 1).astype(np.float32)).numpy(), EXPECTED[f"cut_D.{size}"])
    projector = PatchProjector([3, 8, 16, 16, 16], 8)
    translator.restore(projector, "projector")
    for index, channels in enumerate((3, 8, 16, 16, 16)):
        found = projector.embed(index, np.ones([1, 1, channels], np.float32))[0]
        np.testing.assert_allclose(found, normalise(EXPECTED[f"cut_F.{index}"]), atol=1e-6)
    record = json.loads((tmp_path / "run" / "imported.json").read_text())
    assert record["projector"]["file"] == "cut_F.pth" and len(record["generator"]["sha256"]) == 64


def test_a_discriminator_with_batch_norm(tmp_path):
    files = {"generator": _file("dropout_G"), "discriminator": _file("batch_D")}
    settings = import_run(files, tmp_path / "run").settings
    assert (settings.discriminator.ndf, settings.patchgan.discriminator_norm) == (2, "batch")
    discriminator = networks.build_discriminator(settings)
    Translator(tmp_path / "run").restore(discriminator, "discriminator")
    picture = EXPECTED["picture.21x30"].transpose(0, 2, 3, 1)
    _close(discriminator((picture / 127.5 - 1).astype(np.float32), training=False).numpy(), EXPECTED["batch_D.21x30"])


def _golden_file(name: str, prefix: str, path: Path) -> Path:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        weights = {key[len(prefix):]: arrays[key] for key in arrays.files if key.startswith(prefix)}
    path.write_bytes(pth_bytes(weights))
    return path


def test_the_official_networks_of_sincut_with_their_sizes_from_both_files(tmp_path):
    """Recorded weights of the official code: a generator of 64 px and a discriminator of 16 px do not fit."""
    generator = _golden_file("sincut_generator", "netG.", tmp_path / "G.pth")
    discriminator = _golden_file("ganloss_r1", "netD.", tmp_path / "D.pth")
    settings = import_run({"generator": generator}, tmp_path / "run").settings
    assert (settings.generator.ngf, settings.stylegan2.stylegan2_size_px) == (10, 64)
    with np.load(GOLDEN / "sincut_generator.npz") as arrays:
        found = Translator(tmp_path / "run").generator(arrays["G.input"].transpose(0, 2, 3, 1), training=False)
        _close(found.numpy(), arrays["G.output_zero_noise"])
    with pytest.raises(InputError, match=r"G\.pth: channels must be those of the official table .*--ngf"):
        import_run({"generator": generator, "discriminator": discriminator}, tmp_path / "both")
    files = {"generator": _file("cut_G"), "discriminator": discriminator}
    settings = import_run(files, tmp_path / "other").settings
    assert (settings.discriminator.discriminator, settings.discriminator.ndf) == ("stylegan2", 1)
    assert settings.stylegan2.stylegan2_size_px == settings.data.crop_size_px == 16
    network = networks.build_discriminator(settings)
    Translator(tmp_path / "other").restore(network, "discriminator")
    with np.load(GOLDEN / "ganloss_r1.npz") as arrays:
        scores = network(arrays["r1_input"].transpose(0, 2, 3, 1)).numpy()
        np.testing.assert_allclose(scores, arrays["r1_pred"], rtol=0, atol=_TOLERANCE * np.abs(scores).max())


@pytest.mark.parametrize("changes", [
    {"ngf": 5, "generator_blocks": 9}, {"ngf": 7, "generator_blocks": 0, "antialias_down": False},
    {"ngf": 1, "generator_blocks": 3, "antialias_up": False, "generator_norm": "none"},
    {"ngf": 6, "generator_blocks": 12, "generator_norm": "batch", "antialias_down": False, "antialias_up": False},
    {"generator": "stylegan2", "ngf": 3, "stylegan2_downsamplings": 3, "generator_blocks": 2},
    {"generator": "stylegan2", "ngf": 1, "stylegan2_downsamplings": 2, "generator_blocks": 6,
     "stylegan2_size_px": 512}], ids=str)
def test_architectures_are_found_again(tmp_path, changes):
    settings = Settings.of(**changes)
    generator = networks.build_generator(settings, seed=1)
    (tmp_path / "G.pth").write_bytes(pth_bytes(state_dict(generator, settings)))
    found = import_run({"generator": tmp_path / "G.pth"}, tmp_path / "run").settings
    if "stylegan2_size_px" not in changes:
        assert {key: found.flat()[key] for key in changes} == changes
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 24, 32, 3)).astype(np.float32)
    output = Translator(tmp_path / "run").generator(picture, training=False)
    np.testing.assert_allclose(output, generator(picture, training=False), atol=1e-6)


@pytest.mark.parametrize("changes", [
    {"ndf": 2, "discriminator_layers": 1}, {"ndf": 3, "discriminator_layers": 6, "antialias_down": False},
    {"ndf": 1, "discriminator_layers": 4, "discriminator_norm": "none"},
    {"ndf": 2, "discriminator_layers": 3, "discriminator_norm": "batch"},
    {"discriminator": "stylegan2", "ndf": 3, "stylegan2_size_px": 64, "crop_size_px": 64}], ids=str)
def test_discriminators_are_found_again(tmp_path, changes):
    settings = Settings.of(**{"generator_blocks": 0, "ngf": 1, **changes})
    files = {"generator": networks.build_generator(settings), "discriminator": networks.build_discriminator(settings)}
    for name, network in files.items():
        (tmp_path / f"{name}.pth").write_bytes(pth_bytes(state_dict(network, settings)))
    paths = {name: tmp_path / f"{name}.pth" for name in files}
    found = import_run(paths, tmp_path / "run").settings
    assert {key: found.flat()[key] for key in changes} == changes


def test_both_directions_of_cyclegan(tmp_path):
    files = dict.fromkeys(("generator", "backward_generator"), _file("cyclegan_G"))
    files |= dict.fromkeys(("discriminator", "backward_discriminator"), _file("batch_D"))
    import_run(files, tmp_path / "run")
    assert CheckpointStore(tmp_path / "run", 1).networks(0) == set(files)
    with pytest.raises(InputError, match=r"must fit .*whose --"):
        import_run({**files, "backward_generator": _file("cut_G")}, tmp_path / "other")


# ---- what is refused ----------------------------------------------------------------------------------------------


def _changed(path: Path, change: object) -> Path:
    """cut_G.pth after a change of its tensors."""
    weights = read_weights(_file("cut_G"))
    change(weights)
    path.write_bytes(pth_bytes(weights))
    return path


def _rename(old: str, new: str) -> object:
    return lambda weights: weights.update({new: weights.pop(old)})


@pytest.mark.parametrize("change, reason", [
    (lambda weights: weights.pop("model.26.bias"), "none called model.26.bias"),
    (_rename("model.12.conv_block.5.weight", "model.12.conv_block.9.weight"),
     "none called model.12.conv_block.5.weight and others called model.12.conv_block.9.weight"),
    (lambda weights: weights.update({"model.8.weight": weights["model.8.weight"][:, :-1]}), r"model.8.weight must have "
     r"the shape \[16, 8, 3, 3\], found \[16, 7, 3, 3\]"),
    (lambda weights: weights.update({"model.1.weight": weights["model.1.weight"][:, :1]}), "input must have 3 chan"),
    (lambda weights: weights.update({"model.7.filt": weights["model.7.filt"] * 2}), "model.7.filt must be the blur"),
    (lambda weights: weights.update({"extra": np.zeros(3, np.float32)}), "others called extra"),
    (lambda weights: weights.clear(), "found no weights"),
    (lambda weights: weights.pop("model.1.weight"), "must be a generator resnet_Nblocks or stylegan2"),
    (lambda weights: weights.pop("model.14.conv_block.1.weight"), "none called"),
    (lambda weights: [weights.pop(name) for name in list(weights) if name.startswith("model.14.")], "none called")])
def test_what_is_no_complete_network_is_refused_and_nothing_written(tmp_path, change, reason):
    path = _changed(tmp_path / "G.pth", change)
    with pytest.raises(InputError, match=rf"G\.pth: .*{reason}"):
        import_run({"generator": path}, tmp_path / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["G.pth"]


@pytest.mark.parametrize("files, reason", [
    ({"generator": "cut_D"}, r"cut_D\.pth: must be a generator"), ({"generator": "cut_F"}, "must be a generator"),
    ({"discriminator": "cut_G"}, r"cut_G\.pth: must be a discriminator"), ({"projector": "cut_D"}, "must be a patch"),
    ({"discriminator": "batch_D"}, "cut_G.pth: must fit .*batch_D.pth, whose --antialias_down is False, found True"),
    ({"generator": "cyclegan_G", "projector": "cut_F"}, "channels 3,4,8,8,4 of --nce_layers=0,4,8,12,16, found "
     "3,8,16,16,16; give --nce_layers")])
def test_files_of_other_networks_are_refused(tmp_path, files, reason):
    with pytest.raises(InputError, match=reason):
        import_run({name: _file(file) for name, file in {"generator": "cut_G", **files}.items()}, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_layers_that_the_projector_does_not_fit_are_refused(tmp_path):
    files = {"generator": _file("cut_G"), "projector": _file("cut_F")}
    assert import_run(files, tmp_path / "run", "0,4,8,13,14").settings.patch_nce.layers() == (0, 4, 8, 13, 14)
    for layers, reason in (("0,4,8", "3,8,16 of"), ("0,4,8,12,99", "must be below"), ("a", "comma-separated")):
        with pytest.raises(InputError, match=reason):
            import_run(files, tmp_path / "other", layers)
    (tmp_path / "F.pth").write_bytes(pth_bytes({}))
    settings = import_run({**files, "projector": tmp_path / "F.pth"}, tmp_path / "sample").settings
    assert settings.projector.projector == "sample"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    import_run({"generator": _file("dropout_G")}, tmp_path / "run")  # empty
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(InputError, match="--output must be a new or empty folder"):
        import_run({"generator": _file("dropout_G")}, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="--output"):
            import_run({"generator": _file("dropout_G")}, folder)


@pytest.mark.parametrize("name", [".", "link", "nowhere"])
def test_the_working_folder_and_links_to_folders_become_runs(tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "nowhere").symlink_to("new")
    monkeypatch.chdir(tmp_path / "empty" if name == "." else tmp_path)
    import_run({"generator": _file("dropout_G")}, Path(name))
    assert CheckpointStore(Path(name), keep=1).steps() == [0]
    run = Path(name).resolve()
    assert run == tmp_path / ("new" if name == "nowhere" else "empty")
    assert not list(tmp_path.rglob("*.tmp")) and (run / "settings.json").is_file()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    (tmp_path / "empty").mkdir()
    for folder in ("run", "empty"):
        with pytest.raises(InputError, match="No space left on device"):
            import_run({"generator": _file("dropout_G")}, tmp_path / folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_weights_of_the_golden_files_load_the_same_way(tmp_path):
    """The reader, the table of names and the parity check share one map of names."""
    path = _golden_file("resnetG_noaa_3blk_nonsquare", "netG.", tmp_path / "G.pth")
    settings = import_run({"generator": path}, tmp_path / "run").settings
    generator = networks.build_generator(settings)
    with np.load(GOLDEN / "resnetG_noaa_3blk_nonsquare.npz") as arrays:
        load(generator, arrays, "netG.")
        found = Translator(tmp_path / "run").generator(arrays["input"].transpose(0, 2, 3, 1), training=False)
        _close(found.numpy(), arrays["output"])
    for ours, theirs in zip(generator.weights, Translator(tmp_path / "run").generator.weights):
        np.testing.assert_array_equal(ours, theirs)
    shutil.rmtree(tmp_path / "run")
