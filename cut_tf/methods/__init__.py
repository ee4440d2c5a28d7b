"""Training methods by name."""

from __future__ import annotations

from cut_tf import registry
from cut_tf.methods.aecr import AECR
from cut_tf.methods.base import TranslationMethod
from cut_tf.methods.cut import CUT
from cut_tf.methods.cyclegan import CycleGAN
from cut_tf.methods.distancegan import DistanceGAN
from cut_tf.methods.gcgan import GcGAN
from cut_tf.methods.odcr import ODCR
from cut_tf.methods.regression import Distill, Paired
from cut_tf.methods.sincut import SinCUT
from cut_tf.settings import Settings

METHODS = {"cut": CUT, "cyclegan": CycleGAN, "gcgan": GcGAN, "distancegan": DistanceGAN, "odcr": ODCR,
           "sincut": SinCUT, "paired": Paired, "aecr": AECR, "distill": Distill}


def build_method(settings: Settings) -> TranslationMethod:
    """The method named by `settings.train.method`, with its networks. Raises ValueError for an unknown name."""
    return registry.lookup(METHODS, settings.train.method, "--method")(settings)
