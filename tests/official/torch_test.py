"""What we write, PyTorch itself loads and draws: in an environment of its own, made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cut_tf.export.pytorch.export import export_pytorch
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator
from tests.network import skip_without_network

_HERE = Path(__file__).parent
_PACKAGES = ["torch==2.13.0", "numpy>=1.26,<3", "safetensors>=0.4,<1"]
# Run in that environment: FOLDER has what was exported, networks.json, and gets drawn.npz.
_DRAW = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
sys.path.insert(0, sys.argv[1])
import torch_networks
folder = Path(sys.argv[2])
drawn = {}
for short, (kind, arguments) in json.loads((folder / "networks.json").read_text()).items():
    network = getattr(torch_networks, kind)(**arguments)
    pth = folder / f"latest_net_{short}.pth"
    states = [torch.load(pth, weights_only=True), torch.load(pth, weights_only=True, mmap=True),
              load_file(folder / f"latest_net_{short}.safetensors")]
    for state in states:
        network.load_state_dict(state, strict=True)
    torch.save(network.state_dict(), folder / f"again_{short}.pth")
    if short != "F":
        with torch.no_grad():
            picture = torch.from_numpy(np.load(folder / "picture.npy"))
            drawn[short] = network.eval()(picture).numpy()
np.savez(folder / "drawn.npz", **drawn)
"""
_CASES = {
    "cut": ({}, {"G": ("ResnetGenerator", {"ngf": 4, "blocks": 1}),
                 "D": ("PatchDiscriminator", {"ndf": 4}),
                 "F": ("PatchProjector", {"channels": [3, 8, 16, 16], "width": 16})}),
    "plain": ({"antialias_down": False, "antialias_up": False, "generator_norm": "batch",
               "discriminator_norm": "batch"},
              {"G": ("ResnetGenerator", {"ngf": 4, "blocks": 1, "norm": "batch", "down": False, "up": False}),
               "D": ("PatchDiscriminator", {"ndf": 4, "norm": "batch", "down": False})}),
    "sincut": ({"method": "sincut", "generator": "stylegan2", "ngf": 1, "generator_blocks": 2, "nce_layers": "0,2,3",
                "discriminator": "stylegan2", "ndf": 1, "stylegan2_size_px": 32},
               {"G": ("StyleGAN2Generator", {"widths": [16, 32], "blocks": 2}),
                "D": ("StyleGAN2Discriminator", {"widths": [8, 16, 32, 64]})}),
}


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory) -> Path:
    """The Python of an environment with PyTorch."""
    folder = tmp_path_factory.mktemp("torch")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    python = folder / "bin" / "python"
    done = subprocess.run([str(python), "-m", "pip", "install", "-q", *_PACKAGES], capture_output=True, text=True,
                          timeout=1800)
    if done.returncode:
        skip_without_network(done.stderr)
        pytest.skip(f"PyTorch cannot be installed here: {done.stderr[-300:]}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("case", _CASES)
def test_pytorch_loads_what_we_write_strictly_and_draws_the_same(tmp_path, tiny_settings, python, case):
    pytest.importorskip("safetensors", reason="the extra weights (safetensors) is not installed")
    changes, kinds = _CASES[case]
    method = build_method(tiny_settings(ema_decay=0.0, **changes))
    method.compile()
    rng = np.random.default_rng(0)
    for network in method.networks.values():
        for weight in network.weights:
            weight.assign(weight + rng.uniform(0, 0.3, weight.shape).astype(np.float32))
    method.save(tmp_path / "run")
    files = export_pytorch(Translator(tmp_path / "run"), tmp_path / "files")
    picture = rng.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    np.save(files / "picture.npy", picture.transpose(0, 3, 1, 2))
    (files / "networks.json").write_text(json.dumps(kinds))
    subprocess.run([str(python), "-c", _DRAW, str(_HERE), str(files)], check=True, timeout=600)
    with np.load(files / "drawn.npz") as drawn:
        for short, name in (("G", "generator"), ("D", "discriminator")):
            found = method.networks[name](picture, training=False).numpy()
            expected = drawn[short].transpose(0, 2, 3, 1) if drawn[short].ndim == 4 else drawn[short]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
