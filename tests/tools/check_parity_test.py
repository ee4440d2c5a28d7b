"""The parity check passes on the recorded files and fails on everything that is off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tools.check_parity import checks as check_parity

_ROOT = Path(__file__).parents[2]
_RECORDED = ("cut_step1", "fastcut_step1", "ganloss_r1", "lr_linear", "nlayerD_aa", "nlayerD_noaa", "patchnce",
             "patchsample", "resnetG_noaa_3blk_nonsquare", "resnetG_noaaup_3blk_nonsquare", "sincut_generator")


# R1's gradient jumps at the kinks of leaky ReLUs.
_TOLERANCES = {"ganloss_r1": 4e-4}


@pytest.fixture(name="altered")
def _altered(testdata, tmp_path) -> Callable[..., Path]:
    """altered(name, **changes): a copy of a recorded file with changed arrays; a change of None drops the array."""

    def make(name: str, changes: dict[str, Callable[[np.ndarray], np.ndarray] | None]) -> Path:
        with np.load(testdata / "golden" / f"{name}.npz") as recorded:
            arrays = {key: recorded[key] for key in recorded.files}
        for key, change in changes.items():
            value = arrays.pop(key)
            if change is not None:
                arrays[key] = change(value)
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return tmp_path / f"{name}.npz"

    return make


def _first_value_plus(amount: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.flat[0] += amount
        return changed

    return change


def _largest_value_times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.flat[np.argmax(np.abs(changed))] *= factor
        return changed

    return change


def _run(folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([sys.executable, "-m", "tools.check_parity", f"--vectors={folder}"], capture_output=True,
                          text=True, cwd=_ROOT, env=environment, timeout=900, check=False)


def test_recorded_files_are_those_listed_here(testdata):
    assert sorted(path.stem for path in (testdata / "golden").glob("*.npz")) == sorted(_RECORDED)


@pytest.mark.parametrize("name", _RECORDED)
def test_recorded_file_is_reproduced(testdata, name):
    row = check_parity.check_file(testdata / "golden" / f"{name}.npz")
    assert row.failures == []
    assert row.status == "ok"
    assert row.compared >= 1
    assert row.relative < _TOLERANCES.get(name, check_parity.RELATIVE_TOLERANCE)
    assert row.name in row.line() and row.status in row.line()


@pytest.mark.parametrize("key", ["wgangp.pred_map.real", "r1_value", "r1_pred", "r1_grad.convs.1.conv1.0.weight"])
def test_adversarial_losses_and_r1_are_compared(altered, key):
    broken = check_parity.check_file(altered("ganloss_r1", {key: _largest_value_times(1.001)}))
    assert broken.status == "FAIL"
    assert [failure.split(":")[0] for failure in broken.failures] == [key]


@pytest.mark.slow
def test_wrong_noise_of_the_sincut_generator_fails(altered):
    row = check_parity.check_file(altered("sincut_generator", {
        key: lambda array: 1.01 * array for key in ("G.noise", "step1.noise")}))
    assert {"G.output", "step1.loss.idt"} <= {failure.split(":")[0] for failure in row.failures}
    assert not any(failure.startswith(("G.feat", "G.output_zero")) for failure in row.failures)


@pytest.mark.parametrize("name, key", [
    ("nlayerD_noaa", "netD.model.5.weight"), ("nlayerD_aa", "netD.model.14.bias"),
    ("resnetG_noaaup_3blk_nonsquare", "netG.model.12.conv_block.5.weight"), ("patchsample", "netF.mlp_2.0.weight"),
    ("cut_step1", "netF.mlp_1.2.weight"),
])
def test_one_wrong_weight_fails(altered, name, key):
    row = check_parity.check_file(altered(name, {key: _first_value_plus(1e-2)}))
    assert row.status == "FAIL" and row.failures


@pytest.mark.parametrize("name, key", [
    ("nlayerD_aa", "output_nonsquare"), ("resnetG_noaa_3blk_nonsquare", "output"),
    ("resnetG_noaa_3blk_nonsquare", "feat.8"), ("patchsample", "mlp_sample.1"), ("patchsample", "sample.3"),
    ("patchnce", "b2.corr.allneg1.T0.07.loss"), ("patchnce", "b1.random.allneg0.T0.07.grad_q"),
    ("lr_linear", "lr_200_200"),
])
def test_one_wrong_expected_value_fails_and_is_named(altered, name, key):
    row = check_parity.check_file(altered(name, {key: _largest_value_times(1.001)}))
    assert row.status == "FAIL"
    assert all(failure.startswith(key) for failure in row.failures)


@pytest.mark.parametrize("name, keys", [
    ("cut_step1", ["step1.loss.NCE_Y", "step1.NCE_per_layer", "grad1.netD.model.0.weight"]),
    ("fastcut_step1", ["step1.loss.G_GAN", "grad1.netG.model.1.weight", "grad1.netF.mlp_4.2.weight"]),
])
def test_wrong_values_of_a_step_fail_and_no_others(altered, name, keys):
    changes = {key: _largest_value_times(1.001) for key in keys}
    updated = "after1.netD.model.0.weight"
    row = check_parity.check_file(altered(name, {**changes, updated: _first_value_plus(1e-4)}))
    assert row.status == "FAIL"
    assert {failure.split(":")[0] for failure in row.failures} == {*keys, updated}


@pytest.mark.slow
def test_wrong_patch_ids_and_a_wrong_flip_fail(altered):
    row = check_parity.check_file(altered("cut_step1", {"step1.ids_B.3": lambda ids: ids[::-1] // 2}))
    assert row.status == "FAIL" and any("NCE_Y" in failure for failure in row.failures)
    assert not any(failure.startswith("step1.loss.NCE:") for failure in row.failures)
    row = check_parity.check_file(altered("fastcut_step1", {"step1.flip": lambda flip: 1 - flip}))
    assert row.status == "FAIL"


@pytest.mark.parametrize("name, key", [("nlayerD_aa", "netD.model.3.bias"), ("nlayerD_aa", "output_nonsquare"),
                                       ("patchsample", "ids.1"), ("lr_linear", "lr_150_50"),
                                       ("nlayerD_aa", "meta_json")])
def test_a_missing_array_fails(altered, name, key):
    row = check_parity.check_file(altered(name, {key: None}))
    assert row.status == "FAIL" and row.failures


def test_another_shape_fails(altered):
    row = check_parity.check_file(altered("patchnce", {"b1.corr.allneg0.T0.07.loss": lambda loss: loss[:-1]}))
    assert row.failures == ["b1.corr.allneg0.T0.07.loss: shape (64,), expected (63,)"]
    row = check_parity.check_file(altered("nlayerD_aa", {"netD.model.0.weight": lambda weight: weight[:-1]}))
    assert row.status == "FAIL" and "netD.model.0.weight" in row.failures[0]


def test_nan_fails(altered):
    row = check_parity.check_file(altered("nlayerD_aa", {"output_nonsquare": lambda output: output * np.nan}))
    assert row.status == "FAIL"


@pytest.mark.parametrize("change", [{"kind": "pix2pix"}, {"netD": "pixel"}], ids=str)
def test_what_the_package_lacks_is_not_built(altered, change):
    def edited(meta: np.ndarray) -> np.ndarray:
        return np.array(json.dumps({**json.loads(str(meta)), **change}))

    row = check_parity.check_file(altered("nlayerD_aa", {"meta_json": edited}))
    assert row.status == "not built" and row.compared == 0
    assert next(iter(change.values())) in row.line()


@pytest.mark.parametrize("content", [b"", b"garbage, not a zip file", b"PK\x03\x04 half a zip file"])
def test_a_file_that_cannot_be_read_fails(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    row = check_parity.check_file(path)
    assert row.status == "FAIL" and row.failures


def test_a_file_with_nothing_to_compare_fails(tmp_path):
    np.savez(tmp_path / "empty.npz", meta_json=np.array(json.dumps({"kind": "patchnce", "dim": 4})))
    assert check_parity.check_file(tmp_path / "empty.npz").status == "FAIL"


@pytest.mark.slow
def test_as_a_program(altered, testdata, tmp_path):
    altered("nlayerD_aa", {"output_nonsquare": _largest_value_times(1.001)})
    shutil.copy(testdata / "golden" / "lr_linear.npz", tmp_path)
    failed = _run(tmp_path)
    assert failed.returncode == 1, failed.stderr
    lines = [line.split() for line in failed.stdout.splitlines()]
    assert lines[0][:1] == ["file"]
    assert {line[0]: "FAIL" in line for line in lines[1:]} == {"lr_linear.npz": False, "nlayerD_aa.npz": True}
    (tmp_path / "nlayerD_aa.npz").unlink()
    passed = _run(tmp_path)
    assert passed.returncode == 0, passed.stderr
    assert " ok" in passed.stdout.splitlines()[1]


@pytest.mark.slow
def test_an_empty_folder_is_an_error(tmp_path):
    done = _run(tmp_path)
    assert done.returncode not in (0, None)
    assert f"--vectors must be a folder with .npz files, found none in {tmp_path}" in done.stderr
