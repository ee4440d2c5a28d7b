"""Writes tests/testdata/official: files as PyTorch itself saves them, and what its networks draw with them.

    python tests/official/make_testdata.py tests/testdata/official

Needs PyTorch, safetensors and NumPy, not this package. Weights are random and lie on a coarse grid.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np

# Run by itself, this file finds its neighbour.
sys.path.insert(0, str(Path(__file__).parent))
import torch_networks as networks

torch, nn = networks.torch, networks.nn

# Height and width of the pictures: multiples of 8, odd ones, and multiples of 2 alone.
SIZES = ((16, 24), (21, 30), (27, 17), (18, 22))
_GRID = 64


def random_weights(network: nn.Module, gain: float) -> nn.Module:
    """The network with random weights and statistics, in inference mode."""
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if name.endswith("running_var"):
                values.uniform_(0.5, 2.0)
            elif values.is_floating_point() and not name.endswith(("filt", "kernel")):
                size = np.prod(values.shape[1:]) if gain and values.ndim > 1 else 1.0 if values.ndim > 1 else 25.0
                values.normal_(std=(gain or 1.0) / float(size)**0.5)
                values.mul_(_GRID).round_().div_(_GRID)
    return network.eval()


def pictures() -> dict[tuple[int, int], np.ndarray]:
    """uint8 [1, 3, H, W] by size."""
    rng = np.random.default_rng(0)
    return {size: rng.integers(0, 256, (1, 3, *size), np.uint8) for size in SIZES}


def drawn(network: nn.Module) -> dict[str, np.ndarray]:
    """The outputs by HxW."""
    with torch.no_grad():
        return {f"{height}x{width}": network(torch.from_numpy(picture) / 127.5 - 1.0).numpy()
                for (height, width), picture in pictures().items()}


def main(folder: Path) -> None:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    plain = networks.ResnetGenerator(2, 6, down=False, up=False)
    recorded = networks.ResnetGenerator(2, 6, down=False, up=False, recorded=True)
    made = {
        "cut_G": networks.ResnetGenerator(4, 5), "cyclegan_G": recorded,
        "dropout_G": networks.ResnetGenerator(3, 1, down=False, dropout=True),
        "batch_G": networks.ResnetGenerator(3, 2, norm="batch", up=False),
        "none_G": networks.ResnetGenerator(3, 1, norm="none"), "cut_D": networks.PatchDiscriminator(4, 1),
        "batch_D": networks.PatchDiscriminator(2, 2, norm="batch", down=False),
        "sincut_G": networks.StyleGAN2Generator([8, 16], 4)}
    expected: dict[str, np.ndarray] = {}
    for name, network in made.items():
        random_weights(network, 0.0 if "sincut" in name else 1.3)
        if name == "cyclegan_G":  # the official loader drops what old instance norms recorded
            plain.load_state_dict({key: value for key, value in network.state_dict().items() if "model." in key
                                   and "running" not in key and "tracked" not in key})
        for key, output in drawn(plain.eval() if name == "cyclegan_G" else network).items():
            expected[f"{name}.{key}"] = output
    projector = random_weights(networks.PatchProjector([3, 8, 16, 16, 16], 8), 1.3)
    for index, inputs in enumerate((3, 8, 16, 16, 16)):
        with torch.no_grad():
            expected[f"cut_F.{index}"] = getattr(projector, f"mlp_{index}")(torch.ones(1, inputs)).numpy()
    save(folder, {**made, "cut_F": projector})
    expected.update({f"picture.{height}x{width}": picture for (height, width), picture in pictures().items()})
    np.savez_compressed(folder / "expected.npz", **expected)


def save(folder: Path, made: dict[str, nn.Module]) -> None:
    """Half of the networks in the legacy format; one each in double precision, in bfloat16 and as safetensors."""
    for name, network in made.items():
        state = network.state_dict()
        if name == "dropout_G":
            state = {key: value.double() for key, value in state.items()}
        if name == "none_G":
            importlib.import_module("safetensors.torch").save_file(
                {key: value.bfloat16() for key, value in state.items()}, folder / f"{name}.safetensors")
        else:
            torch.save(state, folder / f"{name}.pth", _use_new_zipfile_serialization=name not in (
                "cyclegan_G", "batch_G", "batch_D", "sincut_G"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
