"""Every network is a function of its settings and its seed: no weight, trained or not, is drawn from anything else."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from cut_tf import compat, networks
from cut_tf.networks.heads.feature_classifier import FeatureClassifier
from cut_tf.networks.heads.orthogonal_projector import OrthogonalPatchProjector
from cut_tf.networks.heads.patch_projector import PatchProjector
from cut_tf.settings import Settings

_TINY = {"ngf": 4, "ndf": 4, "generator_blocks": 1, "discriminator_layers": 2, "stylegan2_size_px": 16,
         "crop_size_px": 16}
_BUILD: dict[str, Callable[[int], keras.Model]] = {
    **{f"generator {name}": lambda seed, name=name: networks.build_generator(
        Settings.of(generator=name, generator_norm="batch", **_TINY), seed) for name in networks.GENERATORS},
    **{f"discriminator {name}": lambda seed, name=name: networks.build_discriminator(
        Settings.of(discriminator=name, **_TINY), seed) for name in networks.DISCRIMINATORS},
    **{f"discriminator with {norm} norm": lambda seed, norm=norm: networks.build_discriminator(
        Settings.of(discriminator_norm=norm, **_TINY), seed) for norm in ("batch", "spectral")},
    "projector": lambda seed: PatchProjector([3, 6], 4, seed),
    "orthogonal projector": lambda seed: OrthogonalPatchProjector([3, 6], 4, seed),
    "classifier": lambda seed: FeatureClassifier([3, 6], 4, seed),
}


@pytest.mark.parametrize("name", _BUILD)
def test_one_seed_makes_one_network(name):
    first, again, other = (compat.named_weights(_BUILD[name](seed)) for seed in (5, 5, 6))
    assert first.keys() == again.keys() == other.keys()
    differing = 0
    for weight, value in first.items():
        np.testing.assert_array_equal(value, again[weight], err_msg=weight)
        starts_constant = np.ptp(value.numpy()) == 0.0 or weight.endswith("whitening")
        assert starts_constant or np.abs(value - other[weight]).max() > 1e-5, weight
        differing += not starts_constant
    assert differing


def test_spectral_norm_starts_from_the_unit_normal_draw():
    weights = compat.named_weights(_BUILD["discriminator with spectral norm"](5))
    starts = [value.numpy() for name, value in weights.items() if name.endswith("/vector_u")]
    assert len(starts) == 4  # three convolutions and the score
    assert 0.5 < np.concatenate(starts, axis=1).std() < 1.5
