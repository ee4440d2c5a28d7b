"""Training methods by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cut_tf.common import registry
from cut_tf.common.registry import Row
from cut_tf.settings import Settings

if TYPE_CHECKING:
    from cut_tf.methods.base import TranslationMethod

# Settings that every method reads. Those of its generator and its dataset come in addition.
USED_BY_ALL = ("train.*", "optimizer.*", "devices.*", "evaluation.*", "data.*", "generator", "contrastive.*")
_ADVERSARIAL = ("discriminator", "gan.*")
_CUT = (*_ADVERSARIAL, "patch_nce.*", "mirroring.*", "identity.*")

METHODS = {
    "cut": Row("cut_tf.methods.cut:CUT", "CUT and FastCUT (Park et al., ECCV 2020)", (*_CUT, "projector.*")),
    "sincut": Row("cut_tf.methods.sincut:SinCUT", "SinCUT, one picture per domain (Park et al., ECCV 2020)",
                  (*_CUT, "projector.*")),
    "odcr": Row("cut_tf.methods.odcr:ODCR", "ODCR, unpaired dehazing, a reconstruction (Wang et al., CVPR 2024)",
                (*_CUT, "projector_width", "odcr.*")),
    "cyclegan": Row("cut_tf.methods.cyclegan:CycleGAN", "CycleGAN (Zhu et al., ICCV 2017)",
                    (*_ADVERSARIAL, "pool.*", "cyclegan.*")),
    "gcgan": Row("cut_tf.methods.gcgan:GcGAN", "GcGAN (Fu et al., CVPR 2019)",
                 (*_ADVERSARIAL, "pool.*", "identity.*", "gcgan.*")),
    "distancegan": Row("cut_tf.methods.distancegan:DistanceGAN", "DistanceGAN (Benaim and Wolf, NeurIPS 2017)",
                       (*_ADVERSARIAL, "pool.*", "identity.*", "distancegan.*")),
    "paired": Row("cut_tf.methods.regression:Paired", "mean absolute difference from the targets of pairs",
                  ("regression.*",)),
    "aecr": Row("cut_tf.methods.aecr:AECR", "AECR-Net's loss, dehazing from pairs (Wu et al., CVPR 2021)",
                ("regression.*",)),
    "distill": Row("cut_tf.methods.regression:Distill", "learns what the generator of another run draws",
                   ("regression.*", "distill.*")),
}


def build_method(settings: Settings) -> TranslationMethod:
    """The method named by --method, with its networks, which have the weights of --init_from if that is given.

    Raises:
      InputError: for an unknown name, or if --init_from is no run of such networks.
    """
    method = registry.lookup(METHODS, settings.train.method, "--method")(settings)
    if settings.train.init_from:
        from cut_tf.methods.initial_weights import take_weights  # imports TensorFlow, which the table does without

        take_weights(method, settings.train.init_from)
    return method
