"""Settings that one method alone reads, or one family of methods."""

from __future__ import annotations

import dataclasses

from cut_tf.settings.fields import Checked, setting


@dataclasses.dataclass(frozen=True)
class PoolSettings(Checked):
    """The pool of earlier outputs of CycleGAN, GcGAN and DistanceGAN (Shrivastava et al., CVPR 2017)."""

    pool_images: int = setting(
        50, "CycleGAN, GcGAN, DistanceGAN: earlier outputs kept for each discriminator to see again; 0 keeps none")


@dataclasses.dataclass(frozen=True)
class CycleGANSettings(Checked):
    """CycleGAN (Zhu et al., ICCV 2017)."""

    cycle_weight: float = setting(10.0, "CycleGAN: weight of each of the two cycle losses")
    cycle_identity_weight: float = setting(0.5, "CycleGAN: weight of each identity loss, as a part of --cycle_weight")


@dataclasses.dataclass(frozen=True)
class GcGANSettings(Checked):
    """GcGAN (Fu et al., CVPR 2019)."""

    geometry: str = setting("rot90", "GcGAN: rot90, a quarter turn; vflip, upside down", ("rot90", "vflip"))
    geometry_weight: float = setting(20.0, "GcGAN: weight of the geometry consistency")


@dataclasses.dataclass(frozen=True)
class DistanceGANSettings(Checked):
    """DistanceGAN (Benaim and Wolf, NeurIPS 2017)."""

    distance: str = setting("self", "DistanceGAN: distances to keep. self: of the halves of an image; pairs: of all "
                             "pairs of images of a batch", ("self", "pairs"))
    distance_weight: float = setting(1.0, "DistanceGAN: weight of the distances' loss")


@dataclasses.dataclass(frozen=True)
class ODCRSettings(Checked):
    """ODCR (Wang et al., CVPR 2024): weighted PatchNCE and the feature classifier."""

    wpnce_roles: str = setting(
        "swapped",
        "ODCR: what pulls an output patch towards the hazy one at its place. printed: the channels that tell haze, as "
        "the paper prints it; swapped: the others, which is the paper's aim",
        ("printed", "swapped"),
    )
    wpnce_scale: str = setting(
        "normalise_after",
        "ODCR: channel weights. softmax, as printed; max1, divided by their maximum; sigmoid, of the standardised "
        "evidence; normalise_after, the same sigmoid, and the weighted keys get unit length",
        ("softmax", "max1", "sigmoid", "normalise_after"),
    )
    wpnce_form: str = setting(
        "split",
        "ODCR: printed, one fraction over all terms; split, content and haze asked apart and added; decoupled, a "
        "variant of ours: split, with content asked of embeddings without their picture's mean and deviation, where "
        "haze is",
        ("printed", "split", "decoupled"),
    )
    wpnce_haze_weight: float = setting(1.0, "ODCR: weight of the haze question in the forms split and decoupled")
    wpnce_clear_patches: int = setting(256, "ODCR: patches of clear images that each query is compared with; 0 none")
    classifier_learning_rate: float = setting(1e-2, "ODCR: learning rate of the feature classifier")
    classifier_warmup_steps: int = setting(0, "ODCR: steps of plain PatchNCE before the classifier's weights count")
    classifier_units: int = setting(8, "ODCR: functions per channel in the feature classifier")
    input_layer: str = setting(
        "exclude", "ODCR: the 3-channel RGB input among --nce_layers. exclude: leave it out; own: 3 to 3 channels",
        ("exclude", "own"),
    )

    def _check(self) -> None:
        self._positive("classifier_learning_rate", "classifier_units")


@dataclasses.dataclass(frozen=True)
class RegressionSettings(Checked):
    """Learning from pairs or from another run."""

    source_noise_levels: float = setting(
        0.0, "paired, distill: standard deviation in levels of 0 to 255 of the sensor noise added to the source")


@dataclasses.dataclass(frozen=True)
class DistillSettings(Checked):
    """Learning from another run."""

    teacher: str = setting("", "distill: folder of the run whose generator is learned from. A run stays with the "
                            "checkpoint that was the newest at its beginning; DIR@STEP names one", often=True)
