"""AECR-Net's training: L1 and contrastive regularization, from pairs (Wu et al., CVPR 2021)."""

from __future__ import annotations

from cut_tf.common.errors import InputError
from cut_tf.methods.regression import Paired
from cut_tf.settings import Settings


class AECR(Paired):
    """L = mean |J - phi(I)| + contrastive_weight * contrastive regularization (eq. 4-5; the paper's weight is 0.1).

    `Paired` with the regularization that every method has by flags, and the demand that it is on. The generator is
    free; that of the paper is `--generator=aecrnet`.

    Raises:
      InputError: if --contrastive_weight is 0.
    """

    progress_terms = ("loss/generator", "loss/l1", "loss/contrastive")

    def __init__(self, settings: Settings) -> None:
        if not settings.contrastive.contrastive_weight:
            raise InputError("--contrastive_weight must be more than zero with --method=aecr (0.1 in the paper; "
                             f"--method=paired is the same without), found {settings.contrastive.contrastive_weight}")
        super().__init__(settings)
